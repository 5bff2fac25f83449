/** The cases of the CUDA backend without a GPU that need few kernels; cuda.rest.test.ts has the others, and more random problems. */
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { SHORTEST_SPLIT } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { plainPlan, withKernel } from '../../src/plan/plan.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
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
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });
} else conformanceSkipped('cuda, emulated', skip);
