/** Precision is a model's: models of several share a backend, its kernels emulated. */
import { test } from 'node:test';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { assertEachAsAlone } from '../../../support/precisions.ts';

const skip = refuseEmulation() ?? false;

for (const kind of ['dot-lower', 'cross'] as const) {
  test(`models of every precision share a backend, ${kind} interaction`, { skip }, async () => {
    const { openFakeBackend } = await import('../../../fake-driver/open-backend.ts');
    await assertEachAsAlone(kind, openFakeBackend);
  });
}
