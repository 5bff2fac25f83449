/** Results by the paper's protocol with made-up times: two patterns, two settings of a cap. */
import { ARTIFACT_PLAN } from '../../src/bench/artifact-plans.ts';
import type { BenchResults, EmbeddingRow, ModelRow } from '../../src/bench/results.ts';
import { type Plan, plainPlan, planLabel, withKernel, withTechniques } from '../../src/plan/plan.ts';
import { recordedBench } from './results.ts';

export const PIN_US = 20;

const on = (techniques: Record<string, unknown>) => withTechniques(ARTIFACT_PLAN, techniques);
const pinning = { bytes: 30_720_000, by: 'prefetch', when: 'before' };
const prefetch = { into: 'registers', distance: 8 };
const occupancy = { maxRegisters: 64 };
const PLAIN: Plan = plainPlan('cuda');
const FUSED = withTechniques(withKernel<Plan>(PLAIN, 'fused'), { prefetch });

/** µs of a table on hot and on cold lookups. */
const PLANS: readonly (readonly [Plan, hotUs: number, coldUs: number, best?: boolean])[] = [
  [ARTIFACT_PLAN, 100, 160],
  [on({ occupancy: { warps: 64 } }), 90, 100],
  [on({ occupancy: { maxRegisters: 42 } }), 85, 110],
  [on({ occupancy, prefetch }), 64, 80],
  [on({ pinning }), 90, 120],
  [on({ occupancy, prefetch, pinning }), 62, 70],
  [PLAIN, 50, 75],
  [FUSED, 10, 32],
  [FUSED, 10, 32, true],
];

/** ms of the whole model. */
const MODEL = [
  ['artifact', ARTIFACT_PLAN, 16, 24],
  ['artifact-tuned', on({ occupancy, prefetch }), 12, 15],
  ['tuned', FUSED, 7, 8],
] as const;

const PATTERNS = ['hot', 'cold'] as const;
const TABLES = 12;

export function artifactResults(): BenchResults {
  const recorded = recordedBench('h200-paper.json');
  const [base] = recorded.embedding as [EmbeddingRow];
  const timing = (ms: number) => ({
    ...base.timing,
    medianMs: ms,
    p10Ms: ms,
    p90Ms: ms,
    minMs: ms,
    maxMs: ms,
  });
  const spread = (us: number) => ({ medianUs: us, p10Us: us, p90Us: us, samples: 9 });
  const embedding = PATTERNS.flatMap((pattern, p) =>
    PLANS.map(([plan, ...times]): EmbeddingRow => {
      const us = times[p] as number;
      const pins = 'pinning' in plan.techniques;
      const ms = (TABLES * (us + (pins ? PIN_US : 0))) / 1e3;
      const baseMs = (TABLES * (PLANS[0]?.[p + 1] as number)) / 1e3;
      return {
        ...base,
        pattern,
        variant: planLabel(plan),
        plan,
        best: times[2] === true,
        distinctShare: p === 0 ? 0.1 : 0.9,
        timing: timing(ms),
        launch: spread(plan.kernel === 'fused' ? TABLES * us : us),
        ...(pins ? { pin: spread(PIN_US) } : {}),
        ...(base.kernel === undefined ? {} : { kernel: { ...base.kernel, registers: 46, occupancy: 0.625 } }),
        speedup: baseMs / ms,
      };
    }),
  );
  const model = MODEL.flatMap(([role, plan, ...times]) =>
    PATTERNS.map(
      (pattern, p): ModelRow => ({
        stage: 'model',
        implementation: 'hotrow',
        device: base.device,
        pattern,
        variant: planLabel(plan),
        plan,
        role,
        inputs: 'device',
        batchSize: 2048,
        tables: 250,
        lookups: 250 * 307_200,
        distinctShare: p === 0 ? 0.1 : 0.9,
        cacheState: 'warm',
        timing: timing(times[p] as number),
        samplesPerSecond: 2048e3 / (times[p] as number),
        speedup: (MODEL[0][p + 2] as number) / (times[p] as number),
      }),
    ),
  );
  return { ...recorded, preset: 'artifact', hotness: [], embedding, model, notes: [] };
}
