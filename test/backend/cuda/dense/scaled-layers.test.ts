/** Layers in 8 bits on the fake driver, kernels emulated: with the library's scales, and with those of a kernel after it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { at } from '../../../../src/at.ts';
import type { Backend } from '../../../../src/backend/backend.ts';
import { CpuBackend } from '../../../../src/backend/cpu/cpu-backend.ts';
import { scaledWeight } from '../../../../src/backend/scaled-weight.ts';
import type { DensePrecision } from '../../../../src/device.ts';
import type { DevicePtr } from '../../../../src/ffi/cuda-symbols.ts';
import { numberToFloat8 } from '../../../../src/float8.ts';
import { loadCheckpoint } from '../../../../src/model/checkpoint/checkpoint.ts';
import { DlrmModel } from '../../../../src/model/dlrm.ts';
import { inferArchitecture } from '../../../../src/model/infer-architecture.ts';
import { conformance } from '../../../conformance/suite.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { writeCheckpoint } from '../../../support/checkpoints.ts';
import { Random } from '../../../support/random.ts';
import { linearOn } from '../../../support/run-operators.ts';
import { wideDcn, wideDlrm, wideRequest } from '../../../support/wide-models.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  const { fakeLt, openFakeBackend } = await import('../../../fake-driver/open-backend.ts');
  // With a kernel's scales, and without epilogues: scaled-layers.rest.test.ts.
  const open = () => {
    fakeLt.setOuterVectors(true);
    fakeLt.setEpilogues(true);
    return openFakeBackend();
  };
  conformance('cuda, 8 bits, all by the library', open, {
    groups: ['8-bit layers'],
    rowsStandAlone: false,
    fastSums: 2 ** -11,
  });

  test('the library makes fast sums, a kernel exact ones', async () => {
    fakeLt.setOuterVectors(true);
    fakeLt.setEpilogues(true);
    using backend = openFakeBackend();
    // 2¹⁴ + 1 − 2¹⁴, the last a step of 32 later.
    const row = new Float32Array(64);
    row.set([128, 1]);
    row[32] = -128;
    const [batch, inputs] = [20, 64];
    const input = Float32Array.from({ length: batch * inputs }, (_, i) => at(row, i % inputs));
    const run = { precision: 'float8_e4m3', formats: ['float16', 'float16'] } as const;
    for (const [outputs, sum] of [
      [48, 0],
      [41, 1],
    ] as const) {
      const weight = Float32Array.from({ length: outputs * inputs }, (_, i) => Math.abs(at(row, i % inputs)));
      const scaled = {
        elements: Uint8Array.from(weight, numberToFloat8),
        scales: new Float32Array(outputs).fill(1),
        inputScale: 1,
      };
      const problem = { batch, inputs, outputs, input, weight, bias: undefined, activation: 'none' } as const;
      const out = await linearOn(backend, problem, { ...run, scaled });
      assert.deepEqual([...new Set(out)], [sum]);
    }
  });

  test('who multiplies by the scales is chosen with the product', async () => {
    const { CudaDevice } = await import('../../../../src/cuda/device.ts');
    const { BlockPool } = await import('../../../../src/cuda/block-pool.ts');
    const { CudaStream } = await import('../../../../src/cuda/stream.ts');
    const { DeviceMemory } = await import('../../../../src/cuda/memory.ts');
    const { DenseKernels } = await import('../../../../src/backend/cuda/dense/dense-kernels.ts');
    const { fakeTools } = await import('../../../fake-driver/open-backend.ts');
    const choose = async (scales: boolean, outputs: number) => {
      fakeLt.setOuterVectors(scales);
      fakeLt.setEpilogues(true);
      using device = new CudaDevice(fakeTools.driver);
      using stream = new CudaStream(device);
      const pool = BlockPool.ofDevice(device, 2 ** 26);
      const settle = () => stream.synchronize();
      using kernels = await DenseKernels.open(device, { ...fakeTools, precision: 'float16', settle, pool });
      const weight = scaledWeight(new Random(3).reals(outputs * 32), outputs);
      using layer = kernels.placeLinear(weight, undefined, outputs, 32);
      using memory = new DeviceMemory(device, 4096 * 8);
      const place = (offset: number, cols: number) => ({
        ...({ format: 'float16', rows: 20, cols, stride: cols } as const),
        address: (memory.address() + BigInt(offset)) as DevicePtr,
      });
      const input = place(0, 32);
      return kernels.prepare({ layer, input, output: place(4096, outputs), activation: 'relu' });
    };
    assert.equal(await choose(true, 48), 'cuBLASLt, scaled, fused');
    assert.equal(await choose(false, 48), 'cuBLASLt, finished by a kernel');
    // No multiple of 16: the library has nothing.
    assert.equal(await choose(true, 41), 'direct');
  });

  test('models: the CPU’s scores, but for what 16 bits between layers round', async () => {
    fakeLt.setOuterVectors(true);
    fakeLt.setEpilogues(true);
    const folder = mkdtempSync(join(tmpdir(), 'hotrow-scaled-'));
    try {
      for (const tensors of [wideDlrm, wideDcn]) {
        const file = await writeCheckpoint(join(folder, 'm.safetensors'), tensors(new Random(7)));
        const architecture = await inferArchitecture((await loadCheckpoint(file)).tensors);
        const request = wideRequest(new Random(5), 40);
        const logits = async (backend: Backend, precision: DensePrecision = 'float8_e4m3') => {
          await using model = await DlrmModel.create(backend, architecture, { precision });
          const { probabilities } = await model.predict(request);
          return Float64Array.from(probabilities, (p) => Math.log(p) - Math.log1p(-p));
        };
        using cpu = new CpuBackend({ threads: 1 });
        using gpu = openFakeBackend();
        const [own, expected, out] = [await logits(cpu, 'float32'), await logits(cpu), await logits(gpu)];
        const rms = (a: Float64Array, b: Float64Array) =>
          Math.sqrt(a.reduce((sum, x, i) => sum + (x - at(b, i)) ** 2, 0) / a.length);
        // Inputs near the middle between two 8-bit numbers may go the other way: few, so most of the error is the same.
        const [apart, lost] = [rms(out, expected), rms(expected, own)];
        assert.ok(lost > 0 && apart < lost / 2, `${tensors.name}: ${apart} apart, 8 bits cost ${lost}`);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
} else test('layers in 8 bits', { skip }, () => {});
