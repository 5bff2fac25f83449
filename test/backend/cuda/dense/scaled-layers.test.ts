/** Layers in 8 bits on the fake driver, kernels emulated: with the library's scales, and with those of a kernel after it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scaledWeight } from '../../../../src/backend/scaled-weight.ts';
import type { DevicePtr } from '../../../../src/ffi/cuda-symbols.ts';
import { conformance } from '../../../conformance/suite.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { Random } from '../../../support/random.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  const { fakeLt, openFakeBackend } = await import('../../../fake-driver/open-backend.ts');
  for (const [name, scales, epilogues] of [
    ['all by the library', true, true],
    ['scales by the library', true, false],
    ['scales by a kernel', false, false],
  ] as const) {
    const open = () => {
      fakeLt.setOuterVectors(scales);
      fakeLt.setEpilogues(epilogues);
      return openFakeBackend();
    };
    conformance(`cuda, 8 bits, ${name}`, open, { groups: ['8-bit layers'], rowsStandAlone: false });
  }

  test('who multiplies by the scales is chosen with the product', async () => {
    const { CudaDevice } = await import('../../../../src/cuda/device.ts');
    const { CudaStream } = await import('../../../../src/cuda/stream.ts');
    const { DeviceMemory } = await import('../../../../src/cuda/memory.ts');
    const { DenseKernels } = await import('../../../../src/backend/cuda/dense/dense-kernels.ts');
    const { fakeTools } = await import('../../../fake-driver/open-backend.ts');
    const choose = async (scales: boolean, outputs: number) => {
      fakeLt.setOuterVectors(scales);
      fakeLt.setEpilogues(true);
      using device = new CudaDevice(fakeTools.driver);
      using stream = new CudaStream(device);
      const settle = () => stream.synchronize();
      using kernels = await DenseKernels.open(device, { ...fakeTools, precision: 'float16', settle });
      const weight = scaledWeight(new Random(3).reals(outputs * 32), outputs);
      using layer = kernels.placeLinear(weight, undefined, outputs, 32);
      using memory = new DeviceMemory(device, 4096 * 8);
      const at = (offset: number, cols: number) => ({
        ...({ format: 'float16', rows: 20, cols, stride: cols } as const),
        address: (memory.address() + BigInt(offset)) as DevicePtr,
      });
      const input = at(0, 32);
      return kernels.prepare({ layer, input, output: at(4096, outputs), activation: 'relu' });
    };
    assert.equal(await choose(true, 48), 'cuBLASLt, scaled, fused');
    assert.equal(await choose(false, 48), 'cuBLASLt, finished by a kernel');
    // No multiple of 16: the library has nothing.
    assert.equal(await choose(true, 41), 'direct');
  });
} else test('layers in 8 bits', { skip }, () => {});
