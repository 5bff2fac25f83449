/** Writes what docs and schemas repeat of the sources: `npm run generate`. A test holds that it is current. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type BenchResults, resultsSchema } from '../src/bench/results.ts';
import { characterizationSchema } from '../src/characterize/results.ts';
import type { DeviceKind, RecordedDevice } from '../src/device.ts';
import { evaluateSchema } from '../src/evaluate/results.ts';
import { loadSchema } from '../src/load/results.ts';
import { descriptionSchema } from '../src/model/description/description.ts';
import { requestSchema } from '../src/model/request/json-samples.ts';
import { placementSchema } from '../src/plan/placement.ts';
import { KERNEL_FAMILIES, planSchema, SEARCHED_FAMILIES } from '../src/plan/plan.ts';
import { TECHNIQUES } from '../src/plan/techniques/registry.ts';
import type {
  KernelFamily,
  PlanContext,
  Technique,
  TechniqueOnDevice,
} from '../src/plan/techniques/technique.ts';
import { BENCH_RULES } from '../src/report/bench-findings.ts';
import { CHARACTERIZE_RULES } from '../src/report/characterize-findings.ts';
import { LOAD_RULES } from '../src/report/load-findings.ts';
import { settingsSchema } from '../src/serve/repository/settings.ts';
import { ACCESS_PATTERNS, type AccessPatternName, createStream } from '../src/workload/access-patterns.ts';
import { BATCH_LOOKUPS, COVERAGE_ROWS, measureHotness } from '../src/workload/hotness.ts';
import { accuracyPage } from './accuracy-page.ts';
import { batchingPage } from './batching-page.ts';
import { h200Page } from './h200-page.ts';
import { metricsPage } from './metrics-page.ts';
import { paperPage } from './paper-page.ts';
import { codeBlock, fill, ROOT, readPage, recorded, recordedBench } from './recorded.ts';

/** A device of each kind, and a table, to show costs for. */
const EXAMPLES: Readonly<Record<DeviceKind, PlanContext>> = {
  cpu: example({ kind: 'cpu', architecture: 'avx512', threads: 16 }),
  cuda: example({
    kind: 'cuda',
    architecture: 'sm_90',
    threads: 132 * 2048,
    gpu: { multiprocessors: 132, l2Bytes: 60 * 2 ** 20, persistingL2Bytes: 37.5 * 2 ** 20 },
  }),
};

function example(device: Pick<RecordedDevice, 'kind' | 'architecture' | 'threads' | 'gpu'>): PlanContext {
  return {
    device: { id: device.kind, name: 'example', memoryBytes: 2 ** 36, versions: {}, ...device },
    tables: [{ rows: 500_000, dim: 128, rowFormat: 'float32' }],
  };
}

/** What searches try on a kernel family, and what the best guess costs; nothing where the technique does not apply. */
function triedOn(context: PlanContext, on: TechniqueOnDevice): string[][] {
  const candidates = on.candidates(context);
  const [best] = candidates;
  if (best === undefined) return [];
  const { note, memoryBytes } = on.cost(best, context);
  const { kind } = context.device;
  const { kernel = 'standard' } = context;
  const family = KERNEL_FAMILIES[kind].length === 1 ? '' : ` with the ${kernel} kernel`;
  const searched: readonly KernelFamily[] = SEARCHED_FAMILIES[kind];
  const tried = searched.includes(kernel) ? `Tried by searches${family}` : `Usual${family}`;
  const list = candidates.map((candidate) => `\`${JSON.stringify(candidate)}\``).join(', ');
  const memory = memoryBytes ? ` (${memoryBytes / 1e6} MB for the example table)` : '';
  return [[`${tried}, best guess first: ${list}.`, `Cost: ${note}${memory}.`]];
}

function techniquesPage(): string {
  const sections = TECHNIQUES.map(({ name, title, summary, devices }) => {
    const perDevice = Object.entries(devices as Technique['devices']).map(([kind, on]) => {
      const families = KERNEL_FAMILIES[kind as DeviceKind];
      const tried = families.flatMap((kernel) => triedOn({ ...EXAMPLES[kind as DeviceKind], kernel }, on));
      return [
        `On \`${kind}\`: parameters`,
        '',
        '```json',
        JSON.stringify(on.parameters, null, 2),
        '```',
        '',
        ...tried.flatMap((lines) => [...lines, '']),
        on.changesPlacement ? 'Switching it places the tables anew.' : 'Switching it moves no table.',
      ].join('\n');
    });
    return [`## ${title} (\`${name}\`)`, '', `It ${summary}.`, '', perDevice.join('\n\n')].join('\n');
  });
  return [
    '# Techniques',
    '',
    '<!-- Written by `npm run generate` from src/plan/techniques; do not edit. -->',
    '',
    'What a plan can switch on. The example CPU has 16 threads, the example GPU is an H200, the example table has 500,000 rows of 128 float32.',
    '',
    sections.join('\n\n'),
    '',
  ].join('\n');
}

/** The table of statistics in docs/workloads.md, drawn anew. */
function patternTable(): string {
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
  const rows = (Object.keys(ACCESS_PATTERNS) as AccessPatternName[]).map((pattern) => {
    const indices = createStream(pattern, { rows: 500_000, seed: 1 })(BATCH_LOOKUPS);
    const { distinctShare, coverage } = measureHotness(indices);
    return `| \`${pattern}\` | ${[distinctShare, ...coverage.map(({ share }) => share)].map(percent).join(' | ')} |`;
  });
  const heads = ['pattern', 'distinct', ...COVERAGE_ROWS.map((k) => `K = ${k.toLocaleString('en-US')}`)];
  const recorded = [
    "| the artifact's med_hot trace | 26.0 % | 1.05 % | 3.0 % | 11.1 % | 28.8 % | 61.8 % | 93.5 % |",
    "| the artifact's low_hot trace | 66.0 % | 0.36 % | 1.36 % | 4.3 % | 10.6 % | 26.0 % | 52.1 % |",
  ];
  return [`| ${heads.join(' | ')} |`, `|${heads.map(() => ' --- |').join('')}`, ...rows, ...recorded].join(
    '\n',
  );
}

/** docs/results.md with what the recorded result files say. */
function resultsPage(): string {
  const dense = JSON.parse(recorded('cpu-zen5-dense.json')) as {
    rows: DenseRow[];
    ceilingMultiplyAddsPerSecond: number;
  };
  const denseTable = [
    '| input × inputs × outputs | ms | G multiply-adds/s | share of the ceiling |',
    '| --- | --- | --- | --- |',
    ...dense.rows.map(
      ({ shape, timing, multiplyAddsPerSecond, shareOfCeiling }) =>
        `| ${shape} | ${timing.medianMs.toFixed(3)} | ${(multiplyAddsPerSecond / 1e9).toFixed(0)} | ${(100 * shareOfCeiling).toFixed(0)} % |`,
    ),
    `| ceiling | | ${(dense.ceilingMultiplyAddsPerSecond / 1e9).toFixed(0)} | |`,
  ].join('\n');
  const parts: [string, string][] = [
    ['predict', codeBlock(recorded('criteo-predict.txt'))],
    ['traces', recordedBench('cpu-zen5-traces.json')],
    ['one-table', recordedBench('cpu-zen5-1-table-run1.json')],
    ['one-table-runs', peerRatios()],
    ['dense', denseTable],
  ];
  return parts.reduce((page, [name, text]) => fill(page, name, text), readPage('docs/results.md'));
}

/** Speed over PyTorch in every recorded run of one table: ratios of medians, and of 10th percentiles. */
function peerRatios(): string {
  const runs = [1, 2, 3, 4, 5].map(
    (run) => JSON.parse(recorded(`cpu-zen5-1-table-run${run}.json`)) as BenchResults,
  );
  const patterns = [...new Set(runs.flatMap(({ embedding }) => embedding.map(({ pattern }) => pattern)))];
  const ratio = ({ embedding }: BenchResults, pattern: string) => {
    const rows = embedding.filter((row) => row.pattern === pattern);
    const own = rows.find((row) => row.best)?.timing;
    const peer = rows.find(({ implementation }) => implementation.startsWith('PyTorch '))?.timing;
    if (own === undefined || peer === undefined) throw new Error(`no PyTorch on ${pattern}`);
    return `${(peer.medianMs / own.medianMs).toFixed(2)}× (${(peer.p10Ms / own.p10Ms).toFixed(2)}×)`;
  };
  return [
    `| run | streaming reads | ${patterns.join(' | ')} |`,
    `| --- | --- |${patterns.map(() => ' --- |').join('')}`,
    ...runs.map((run, i) => {
      const reads = `${run.ceilings.readGigabytesPerSecond.toFixed(1)} GB/s`;
      return `| ${i + 1} | ${reads} | ${patterns.map((pattern) => ratio(run, pattern)).join(' | ')} |`;
    }),
  ].join('\n');
}

/** docs/report.md with the rules of its findings. */
function reportPage(): string {
  const rows = [...BENCH_RULES, ...CHARACTERIZE_RULES, ...LOAD_RULES].map(
    ({ name, threshold, reason }) => `| \`${name}\` | ${Number(threshold.toFixed(3))} | ${reason} |`,
  );
  const table = ['| rule | threshold | of what, and why there |', '| --- | --- | --- |', ...rows].join('\n');
  return fill(readPage('docs/report.md'), 'rules', table);
}

interface DenseRow {
  readonly shape: string;
  readonly timing: { readonly medianMs: number };
  readonly multiplyAddsPerSecond: number;
  readonly shareOfCeiling: number;
}

/** README.md with the recorded run of `npm start`. */
function readme(): string {
  return fill(readPage('README.md'), 'quick', recordedBench('cpu-zen5-quick.json'));
}

/** Every generated file, by its path in the repository. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const schema = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  return new Map([
    ['docs/techniques.md', techniquesPage()],
    ['docs/workloads.md', fill(readPage('docs/workloads.md'), 'patterns', patternTable())],
    ['docs/report.md', reportPage()],
    ['docs/results.md', resultsPage()],
    ['docs/batching.md', batchingPage()],
    ['docs/metrics.md', metricsPage()],
    ['docs/results-h200.md', h200Page()],
    ['docs/evaluate.md', accuracyPage()],
    ['docs/paper.md', paperPage()],
    ['README.md', readme()],
    ['schemas/plan-1.schema.json', schema(planSchema)],
    ['schemas/placement-1.schema.json', schema(placementSchema)],
    ['schemas/request-1.schema.json', schema(requestSchema)],
    ['schemas/results-1.schema.json', schema(resultsSchema)],
    ['schemas/characterization-1.schema.json', schema(characterizationSchema)],
    ['schemas/load-1.schema.json', schema(loadSchema)],
    ['schemas/evaluate-1.schema.json', schema(evaluateSchema)],
    ['schemas/model-description-1.schema.json', schema(descriptionSchema)],
    ['schemas/model-settings-1.schema.json', schema(settingsSchema)],
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(`${ROOT}/schemas`, { recursive: true });
  for (const [path, text] of generatedFiles()) writeFileSync(`${ROOT}/${path}`, text);
}
