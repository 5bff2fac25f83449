/** Cross layers whole whose factors, or a copy of whose output, are in 8 bits, on the fake driver, kernels emulated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../../../src/at.ts';
import type { DeviceLinear, RoundedCopy } from '../../../../src/backend/cuda/dense/dense-operation.ts';
import { scaledWeight } from '../../../../src/backend/scaled-weight.ts';
import type { DevicePtr } from '../../../../src/ffi/cuda-symbols.ts';
import { addressOf } from '../../../../src/ffi/host-memory.ts';
import { numberToFloat8 } from '../../../../src/float8.ts';
import { float16ToNumber, numberToFloat16 } from '../../../../src/tensor.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { Random } from '../../../support/random.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  const { CudaDevice } = await import('../../../../src/cuda/device.ts');
  const { CudaStream } = await import('../../../../src/cuda/stream.ts');
  const { DeviceMemory } = await import('../../../../src/cuda/memory.ts');
  const { BlockPool } = await import('../../../../src/cuda/block-pool.ts');
  const { DenseKernels } = await import('../../../../src/backend/cuda/dense/dense-kernels.ts');
  const { fakeTools } = await import('../../../fake-driver/open-backend.ts');
  const [ROWS, BYTES] = [70, 1 << 16];

  interface Case {
    readonly inputs: number;
    readonly outputs: number;
    /** Whether the factors are in 8 bits, and with one scale for all inputs. */
    readonly factors: 'float16' | 'rows' | 'tensor';
    /** Whether x is x0. */
    readonly isFirst?: boolean;
    readonly scale?: number;
    /** Whether the output is needed in 8 bits alone. */
    readonly alone?: boolean;
  }

  /** Runs a cross layer by the cross product, or, with none, by the direct kernel. */
  async function run(
    { inputs, outputs, factors, isFirst = false, scale, alone = false }: Case,
    whole: boolean,
  ) {
    using device = new CudaDevice(fakeTools.driver);
    using stream = new CudaStream(device);
    using kernels = await DenseKernels.open(device, {
      ...fakeTools,
      precision: 'float16',
      linearSearch: { candidates: 0, rounds: 0, runs: 0 },
      settle: () => stream.synchronize(),
      pool: BlockPool.ofDevice(device, 1 << 20),
    });
    if (whole) await kernels.compileCrosses();
    const random = new Random(inputs + outputs);
    using memory = new DeviceMemory(device, 5 * BYTES);
    stream.fillBytes(memory.address(), 0x55, memory.bytes);
    const place = (i: number, cols: number) =>
      ({
        format: 'float16',
        rows: ROWS,
        cols,
        stride: cols,
        address: memory.address(i * BYTES) as DevicePtr,
      }) as const;
    for (const [i, cols] of [inputs, outputs, outputs].entries()) {
      const values = Uint16Array.from(random.reals(ROWS * cols), numberToFloat16);
      stream.copyToDevice(memory.address(i * BYTES), addressOf(values), values.byteLength);
    }
    const values = random.reals(outputs * inputs);
    const scaled = {
      ...scaledWeight(values, outputs),
      ...(factors === 'tensor' ? { inputScale: 2 ** -8 } : {}),
    };
    using layer = kernels.placeLinear(
      factors === 'float16' ? values : scaled,
      random.reals(outputs),
      outputs,
      inputs,
    );
    const rounded: RoundedCopy = {
      address: memory.address(4 * BYTES) as DevicePtr,
      ...{ stride: Math.ceil(outputs / 16) * 16, cols: Math.ceil(outputs / 16) * 16 },
      ...{ scale: scale ?? 1, alone },
    };
    const x0 = place(1, outputs);
    const operation: DeviceLinear = {
      ...({ layer, input: place(0, inputs), output: place(3, outputs), activation: 'none' } as const),
      cross: { x0, x: isFirst ? x0 : place(2, outputs) },
      ...(scale === undefined ? {} : { rounded }),
    };
    const choice = kernels.prepare(operation);
    kernels.linear(stream, operation);
    const host = new Uint8Array(2 * BYTES);
    stream.copyToHost(addressOf(host), memory.address(3 * BYTES), host.byteLength);
    stream.synchronize();
    const out = Array.from(new Uint16Array(host.buffer, 0, ROWS * outputs), float16ToNumber);
    return { choice, out, copy: host.subarray(BYTES, BYTES + ROWS * rounded.stride), stride: rounded.stride };
  }

  test('factors in 8 bits, and a copy of the output in them', async () => {
    for (const own of [
      { inputs: 48, outputs: 136, factors: 'tensor', scale: 2 ** -5 },
      { inputs: 40, outputs: 96, factors: 'rows', isFirst: true },
      { inputs: 64, outputs: 72, factors: 'float16', scale: 2 ** -6 },
    ] as const satisfies readonly Case[]) {
      const [made, direct] = [await run(own, true), await run(own, false)];
      assert.match(made.choice, /^cross product/);
      assert.equal(direct.choice, 'direct');
      // Both are rounded to 16 bits once, from sums in another order.
      for (const [i, y] of made.out.entries()) {
        const other = at(direct.out, i);
        assert.ok(
          Math.abs(y - other) <= 2 ** -10 * (1 + Math.abs(other)),
          `${JSON.stringify(own)}: ${y}, ${other}`,
        );
      }
      if (!('scale' in own)) continue;
      const { outputs, scale } = own;
      const expected = Array.from(made.copy, (_, i) => {
        const [row, column] = [Math.floor(i / made.stride), i % made.stride];
        return column < outputs ? numberToFloat8(at(made.out, row * outputs + column) / scale) : 0;
      });
      assert.deepEqual(Array.from(made.copy), expected);
    }
  });

  test('an output that is needed in 8 bits alone is left as it was', async () => {
    const own = { inputs: 64, outputs: 96, factors: 'tensor', scale: 2 ** -5 } as const;
    const [beside, alone] = [await run(own, true), await run({ ...own, alone: true }, true)];
    assert.match(alone.choice, /^cross product/);
    assert.deepEqual(alone.copy, beside.copy);
    assert.deepEqual(new Set(alone.out), new Set([float16ToNumber(0x5555)]));
  });
}
