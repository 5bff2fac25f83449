/** The CUDA backend on a real GPU: the conformance suite. */
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { factorBits } from '../../src/backend/cuda/dense/dense-source.ts';
import { SHORTEST_SPLIT } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { KERNEL_FAMILIES } from '../../src/plan/plan.ts';
import type { PlanContext } from '../../src/plan/techniques/technique.ts';
import { legalPlans } from '../../src/tuner/search.ts';
import { DENSE_GROUPS } from '../conformance/subject.ts';
import { conformance, conformanceSkipped } from '../conformance/suite.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu();
/** Tests at once: kernels are compiled side by side, and programs of several callers mix. */
const AT_ONCE = 16;

/** One in this many of the legal combinations: each compiles kernels of its own. */
const SAMPLED = 13;
const someOf = (context: PlanContext) =>
  legalPlans(context, KERNEL_FAMILIES.cuda).filter((_, i) => i % SAMPLED === 0);

if (skip === false) {
  conformance('cuda', () => new CudaBackend(), {
    precision: 'float32',
    plansOf: someOf,
    longestInOrder: SHORTEST_SPLIT,
    addsQuantizedInIndexOrder: false,
    rowsStandAlone: false,
    // Tensor cores of sm_89 and sm_90 cut a step's 32 products and the sum so far to 14 bits of the largest.
    fastSums: 2 ** -11,
    // Each compiles kernels of its own; random-bags.test.ts runs thousands. The seed makes a record repeatable.
    propertyRuns: 50,
    propertySeed: 7,
    rowUpdateCalls: 10_000,
    concurrency: AT_ONCE,
  });
  for (const precision of ['tf32', 'float16', 'bfloat16'] as const) {
    conformance(`cuda, ${precision}`, () => new CudaBackend(), {
      precision,
      groups: DENSE_GROUPS,
      denseRounding: 2 ** -factorBits(precision),
      rowsStandAlone: false,
    });
  }
} else conformanceSkipped('cuda', skip);
