/** The CUDA backend on a real GPU: the conformance suite, and many random cases under each technique. */

import { test } from 'node:test';
import fc from 'fast-check';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { factorBits } from '../../src/backend/cuda/dense-source.ts';
import { SHORTEST_SPLIT } from '../../src/backend/cuda/fused-layout.ts';
import { placeCollection } from '../../src/embedding/collection.ts';
import { plainPlan, planLabel, withTechniques } from '../../src/embedding/plan.ts';
import { techniquesOn } from '../../src/embedding/techniques/registry.ts';
import type { PlanContext } from '../../src/embedding/techniques/technique.ts';
import { legalPlans } from '../../src/tuner/search.ts';
import { type ProblemShape, problemFrom, problemShape } from '../conformance/properties.ts';
import { assertPooled, keepsOrder } from '../conformance/subject.ts';
import { conformance, conformanceSkipped } from '../conformance/suite.ts';
import { assertSameBits } from '../support/compare.ts';
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

/** Every fifth of the legal combinations. */
const someOf = (context: PlanContext) => legalPlans(context).filter((_, i) => i % 5 === 0);

if (skip === false) {
  conformance('cuda', () => new CudaBackend({ precision: 'float32' }), {
    plansOf: someOf,
    longestInOrder: SHORTEST_SPLIT,
    addsQuantizedInIndexOrder: false,
    rowsStandAlone: false,
    concurrency: AT_ONCE,
  });
  for (const precision of ['tf32', 'float16', 'bfloat16'] as const) {
    conformance(`cuda, ${precision}`, () => new CudaBackend({ precision }), {
      denseOnly: true,
      denseRounding: 2 ** -factorBits(precision),
      rowsStandAlone: false,
    });
  }
} else conformanceSkipped('cuda', skip);

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
