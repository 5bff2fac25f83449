/** The whole model's latency, with the embedding stage's share of it. */
import type { Backend } from '../backend/backend.ts';
import type { Plan } from '../embedding/plan.ts';
import { planLabel } from '../embedding/plan.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import { DlrmModel, type StageTimes } from '../model/dlrm.ts';
import type { DlrmRequest } from '../model/request.ts';
import { median } from '../tuner/quantile.ts';
import type { ModelRow } from './results.ts';
import { timing } from './statistics.ts';

/** Requests of one pattern. */
export interface ModelWorkload {
  readonly pattern: string;
  readonly requests: readonly DlrmRequest[];
  readonly distinctShare: number;
}

const WARM_UP = 2;

/** Times `architecture` under one plan (default: the heuristic one) on every workload; `rounds` timed predictions after two to warm up. */
export async function measureModel(
  backend: Backend,
  architecture: DlrmArchitecture,
  plan: Plan | undefined,
  workloads: readonly ModelWorkload[],
  rounds: number,
): Promise<Omit<ModelRow, 'speedup'>[]> {
  await using model = await DlrmModel.create(backend, architecture, plan === undefined ? {} : { plan });
  const rows: Omit<ModelRow, 'speedup'>[] = [];
  for (const { pattern, requests, distinctShare } of workloads) {
    const latencies: number[] = [];
    const stages: StageTimes[] = [];
    const requestOf = (round: number) => requests[(round + WARM_UP) % requests.length] as DlrmRequest;
    for (let round = -WARM_UP; round < rounds; round++) {
      const { latencyMs } = await model.predict(requestOf(round));
      if (round >= 0) latencies.push(latencyMs);
    }
    // Apart from those above: taking the stages' times takes time.
    for (let round = 0; round < Math.ceil(rounds / 2); round++) {
      stages.push((await model.predict(requestOf(round), { stages: true })).stages);
    }
    const [first] = requests as [DlrmRequest];
    const stage = (name: keyof StageTimes) => median(stages.map((times) => times[name]));
    const latency = timing(latencies);
    rows.push({
      stage: 'model',
      implementation: 'hotrow',
      device: backend.device.id,
      pattern,
      variant: planLabel(model.plan),
      plan: model.plan,
      batchSize: first.batchSize,
      tables: architecture.tables.length,
      lookups: first.bags.reduce((sum, { indices }) => sum + indices.length, 0),
      distinctShare,
      cacheState: 'warm, requests in rotation; inputs in host memory',
      timing: latency,
      embeddingMs: stage('embeddingMs'),
      bottomMs: stage('bottomMs'),
      interactionMs: stage('interactionMs'),
      topMs: stage('topMs'),
      copyMs: stage('copyMs'),
      hostMs: stage('hostMs'),
      embeddingShare: Math.min(1, stage('embeddingMs') / latency.medianMs),
      samplesPerSecond: (first.batchSize / latency.medianMs) * 1e3,
    });
  }
  return rows;
}
