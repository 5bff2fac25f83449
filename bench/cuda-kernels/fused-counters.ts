/**
 * Launches of the fused kernel for Nsight Compute: `node --import tsx bench/cuda-kernels/fused-counters.ts OUT.json [TRACES]`
 * runs the paper's tables in several row formats on every pattern, under two plans, and writes what each launch was, in
 * order. bench/record-gpu.sh runs it under `ncu`. A launch reads all tables, so that its replays find in L2 what launches
 * back to back find there: the last table's rows. TRACES: as for fused-grid.ts.
 */
import { writeFileSync } from 'node:fs';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload, traceWorkload } from '../../src/bench/workload.ts';
import type { BagBatch, RowFormat } from '../../src/embedding/bag.ts';
import { type CudaPlan, plainPlan, planLabel, withKernel, withTechniques } from '../../src/embedding/plan.ts';
import { EmbeddingTimer } from '../../src/tuner/embedding-timer.ts';
import { ACCESS_PATTERNS, type AccessPatternName } from '../../src/workload/access-patterns.ts';

const [out, traces] = process.argv.slice(2);
if (out === undefined) throw new Error('name a file for the list of launches');

const FORMATS: readonly RowFormat[] = ['float32', 'float16', 'int8'];
const LAUNCHES = 2;

const fused = withKernel(plainPlan('cuda') as CudaPlan, 'fused');
const plans = [
  withTechniques(fused, { prefetch: { into: 'registers', distance: 8 } }),
  withTechniques(fused, { prefetch: { into: 'registers', distance: 16 }, block: { threads: 64 } }),
];

const tablesOf = (rowFormat: RowFormat) =>
  syntheticTables({ tables: 12, rows: 500_000, dim: 128, rowFormat });
const shape = {
  architecture: syntheticModel(tablesOf('float32')),
  batchSize: 2048,
  bagLengths: '150',
  batches: LAUNCHES,
  seed: 1,
};
const workloads: [string, readonly BagBatch[]][] = [];
for (const name of Object.keys(ACCESS_PATTERNS) as AccessPatternName[]) {
  const traced = traces !== undefined && (name === 'med_hot' || name === 'low_hot');
  const { embedding } = traced
    ? (await traceWorkload(`${traces}/${name}.500K.txt`, shape)).workload
    : patternWorkload(name, shape);
  workloads.push([name, embedding.batches]);
}

const launches: { rowFormat: RowFormat; pattern: string; plan: string }[] = [];
using backend = new CudaBackend();
for (const rowFormat of FORMATS) {
  using timer = new EmbeddingTimer(backend, tablesOf(rowFormat));
  for (const [pattern, batches] of workloads) {
    await timer.load(batches);
    for (const plan of plans) {
      for (let turn = 0; turn < LAUNCHES; turn++) {
        await timer.run(plan, turn);
        launches.push({ rowFormat, pattern, plan: planLabel(plan) });
      }
    }
  }
}
writeFileSync(out, `${JSON.stringify(launches)}\n`);
