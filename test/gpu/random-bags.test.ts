/** Many random problems under each technique, on a real GPU. */
import { test } from 'node:test';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { SHORTEST_SPLIT } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { placeCollection } from '../../src/model/collection.ts';
import { plainPlan, planLabel, withTechniques } from '../../src/plan/plan.ts';
import { techniquesOn } from '../../src/plan/techniques/registry.ts';
import { type ProblemShape, problemFrom, problemShape } from '../conformance/properties.ts';
import { assertPooled, keepsOrder } from '../conformance/subject.ts';
import { assertSameBits } from '../support/compare.ts';
import fc from '../support/properties.ts';
import { poolPlaced } from '../support/run-operators.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu();
const CASES = 2000;
const CUDA_ORDER = {
  addsInIndexOrder: true,
  addsQuantizedInIndexOrder: false,
  longestInOrder: SHORTEST_SPLIT,
};
/** Cases at once: kernels are compiled side by side, and programs of several callers mix. */
const AT_ONCE = 16;

test(`${CASES} random cases under each technique`, { skip }, async (t) => {
  using backend = new CudaBackend();
  const { device } = backend;
  let runs = 0;

  const runCase = async ({ shapes, batchSize }: ProblemShape) => {
    const problem = problemFrom(shapes, batchSize);
    const { tables, batch } = problem;
    using placed = await placeCollection(backend, tables, 'plain');
    const plain = await poolPlaced(backend, placed, batch);
    assertPooled(CUDA_ORDER, plain.pooled, problem, 'plain');
    for (const { technique, on } of techniquesOn('cuda')) {
      for (const parameters of on.candidates({ device, tables })) {
        const plan = withTechniques(plainPlan('cuda'), { [technique.name]: parameters });
        const { pooled } = await poolPlaced(backend, placed.withPlan(plan), batch);
        if (keepsOrder(CUDA_ORDER, problem)) assertSameBits(pooled, plain.pooled, planLabel(plan));
        else assertPooled(CUDA_ORDER, pooled, problem, planLabel(plan));
        runs += 1;
      }
    }
  };

  const cases = fc.sample(problemShape, { numRuns: CASES, seed: 7 });
  for (let first = 0; first < CASES; first += AT_ONCE) {
    await Promise.all(cases.slice(first, first + AT_ONCE).map(runCase));
  }
  t.diagnostic(`${runs} runs`);
});
