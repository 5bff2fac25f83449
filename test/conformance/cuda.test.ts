/** Some cases of the CUDA backend without a GPU, each of few kernels to compile; cuda.rest.test.ts has them all. */
import { SHORTEST_SPLIT } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { plainPlan, withKernel } from '../../src/plan/plan.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';
import { conformance, conformanceSkipped } from './suite.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  conformance('cuda, emulated', openFakeBackend, {
    precision: 'float32',
    groups: ['properties', 'programs', 'transfers', 'models'],
    rowsStandAlone: false,
    addsQuantizedInIndexOrder: false,
    longestInOrder: SHORTEST_SPLIT,
    plansOf: () => [plainPlan('cuda'), withKernel(plainPlan('cuda'), 'artifact')],
    propertyRuns: 3,
  });
} else conformanceSkipped('cuda, emulated', skip);
