/** The dense part of the CUDA backend without a GPU, in the precisions of tensor cores: over the fake driver, its kernels in emulation. */
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { factorBits } from '../../src/backend/cuda/dense/dense-source.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
import { DENSE_GROUPS } from './subject.ts';
import { conformance, conformanceSkipped } from './suite.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  for (const precision of ['tf32', 'float16', 'bfloat16'] as const) {
    conformance(`cuda, emulated, ${precision}`, openFakeBackend, {
      precision,
      groups: DENSE_GROUPS,
      denseRounding: 2 ** -factorBits(precision),
      rowsStandAlone: false,
    });
  }
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });
} else {
  conformanceSkipped('cuda, emulated', skip);
}
