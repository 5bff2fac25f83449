/** Layers in 8 bits on the fake driver, kernels emulated, where the library does less than it can. */
import { test } from 'node:test';
import { conformance } from '../../../conformance/suite.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  const { fakeLt, openFakeBackend } = await import('../../../fake-driver/open-backend.ts');
  for (const [name, scales] of [
    ['scales by the library', true],
    ['scales by a kernel', false],
  ] as const) {
    const open = () => {
      fakeLt.setOuterVectors(scales);
      fakeLt.setEpilogues(false);
      return openFakeBackend();
    };
    conformance(`cuda, 8 bits, ${name}`, open, {
      groups: ['8-bit layers'],
      rowsStandAlone: false,
      fastSums: 2 ** -11,
    });
  }
} else test('layers in 8 bits', { skip }, () => {});
