/** Copies in 8 bits of what lies between layers, on the fake driver, kernels emulated: what writes them, what reads them. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { at } from '../../../../src/at.ts';
import type { LinearOperation, Matrix, Operation, PlacedLinear } from '../../../../src/backend/backend.ts';
import type { DeviceLinear, RoundedCopy } from '../../../../src/backend/cuda/dense/dense-operation.ts';
import { scaledWeight } from '../../../../src/backend/scaled-weight.ts';
import { Workspace } from '../../../../src/backend/workspace.ts';
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
  const { fakeLt, fakeTools, openFakeBackend } = await import('../../../fake-driver/open-backend.ts');
  const SCALE = Math.fround(0.03);

  /** Two layers, inputs → middle → 48, both with one scale for all inputs; `copied`: the middle in 8 bits too. */
  async function runTwo(
    [rows, inputs, middle]: readonly [number, number, number],
    { copied, rounds = 0 }: { copied: boolean; rounds?: number },
  ) {
    using device = new CudaDevice(fakeTools.driver);
    using stream = new CudaStream(device);
    using kernels = await DenseKernels.open(device, {
      ...fakeTools,
      precision: 'float16',
      linearSearch: { candidates: 2, rounds, runs: 1 },
      settle: () => stream.synchronize(),
      pool: BlockPool.ofDevice(device, 1 << 20),
    });
    const random = new Random(61);
    const outputs = 48;
    const bytes = 1 << 16;
    using memory = new DeviceMemory(device, 4 * bytes);
    stream.fillBytes(memory.address(), 0x55, memory.bytes);
    const place = (i: number, cols: number, stride = cols) => ({
      ...({ format: 'float16', rows, cols, stride } as const),
      address: memory.address(i * bytes) as DevicePtr,
    });
    const layer = (from: number, to: number) =>
      kernels.placeLinear(
        { ...scaledWeight(random.reals(to * from), to), inputScale: SCALE },
        random.reals(to),
        to,
        from,
      );
    using first = layer(inputs, middle);
    using second = layer(middle, outputs);
    const given = Uint16Array.from(random.reals(rows * inputs), (x) => numberToFloat16(10 * x));
    given[3] = 0x7e00; // NaN
    stream.copyToDevice(memory.address(), addressOf(given), given.byteLength);
    const between = place(1, middle, Math.ceil(middle / 8) * 8);
    const copy: RoundedCopy = {
      address: memory.address(2 * bytes) as DevicePtr,
      ...{ stride: Math.ceil(middle / 16) * 16 + 16, cols: Math.ceil(middle / 16) * 16 + 16 },
      scale: SCALE,
    };
    const operations: readonly DeviceLinear[] = [
      {
        ...({ layer: first, input: place(0, inputs), output: between, activation: 'relu' } as const),
        ...(copied ? { rounded: copy } : {}),
      },
      {
        ...({ layer: second, input: between, output: place(3, outputs), activation: 'none' } as const),
        ...(copied ? { inputRounded: copy } : {}),
      },
    ];
    const choices = operations.map((operation) => kernels.prepare(operation));
    const host = new Uint8Array(memory.bytes);
    const fetch = (offset: number, length: number) =>
      stream.copyToHost(addressOf(host.subarray(offset)), memory.address(offset), length);
    kernels.linear(stream, at(operations, 0));
    fetch(bytes, 2 * bytes);
    // Who reads the copy reads it alone.
    if (copied) stream.fillBytes(between.address, 0, bytes);
    kernels.linear(stream, at(operations, 1));
    fetch(3 * bytes, bytes);
    stream.synchronize();
    const halves = new Uint16Array(host.buffer);
    const take = (i: number, stride: number, cols: number) =>
      Array.from({ length: rows * cols }, (_, e) =>
        at(halves, (i * bytes) / 2 + Math.floor(e / cols) * stride + (e % cols)),
      );
    return {
      choices,
      middle: take(1, between.stride, middle),
      out: take(3, outputs, outputs),
      copy: host.subarray(2 * bytes, 2 * bytes + rows * copy.stride),
      stride: copy.stride,
    };
  }

  test('a copy has the bits of the output rounded, and who reads it gives the same', async () => {
    fakeLt.setOuterVectors(true);
    fakeLt.setEpilogues(true);
    for (const [shape, expected] of [
      [
        [20, 32, 64],
        ['cuBLASLt, scaled, fused', 'cuBLASLt, scaled, fused'],
      ],
      [
        [20, 32, 41],
        ['direct', 'cuBLASLt, scaled, fused'],
      ],
      [
        [3, 24, 40],
        ['direct', 'direct'],
      ],
    ] as const) {
      const own = await runTwo(shape, { copied: false });
      const copied = await runTwo(shape, { copied: true });
      assert.deepEqual(copied.choices, expected);
      assert.deepEqual(own.choices, expected);
      assert.deepEqual(copied.middle, own.middle);
      assert.deepEqual(copied.out, own.out, `${shape}`);
      const [rows, , middle] = shape;
      const inverse = Math.fround(1 / SCALE);
      const rounded = Array.from({ length: rows * copied.stride }, (_, i) => {
        const [row, column] = [Math.floor(i / copied.stride), i % copied.stride];
        if (column >= middle) return 0;
        return numberToFloat8(
          Math.fround(float16ToNumber(at(copied.middle, row * middle + column)) * inverse),
        );
      });
      const isNaN8 = (bits: number) => (bits & 0x7f) === 0x7f;
      assert.deepEqual(
        Array.from(copied.copy, (bits) => (isNaN8(bits) ? 0x7f : bits)),
        rounded.map((bits) => (isNaN8(bits) ? 0x7f : bits)),
      );
      assert.ok(rounded.some(isNaN8) && rounded.some((bits) => bits === 0x7e), 'NaN, and what saturates');
    }
  });

  test('choices with copies are measured by themselves', async () => {
    const copied = await runTwo([20, 32, 64], { copied: true, rounds: 1 });
    assert.ok(copied.choices.every((choice) => choice.startsWith('cuBLASLt')));
    assert.deepEqual(copied.out, (await runTwo([20, 32, 64], { copied: false, rounds: 1 })).out);
  });

  test('copies that do not fit are refused', async () => {
    using device = new CudaDevice(fakeTools.driver);
    using stream = new CudaStream(device);
    const pool = BlockPool.ofDevice(device, 0);
    const settle = () => stream.synchronize();
    using kernels = await DenseKernels.open(device, { ...fakeTools, precision: 'float16', settle, pool });
    using memory = new DeviceMemory(device, 1 << 14);
    const weight = scaledWeight(new Float32Array(48 * 32).fill(1), 48);
    using fixed = kernels.placeLinear({ ...weight, inputScale: SCALE }, undefined, 48, 32);
    using free = kernels.placeLinear(weight, undefined, 48, 32);
    const place = (offset: number, cols: number) => ({
      ...({ format: 'float16', rows: 20, cols, stride: cols } as const),
      address: memory.address(offset) as DevicePtr,
    });
    const copyAt = (offset: number, stride: number, scale = SCALE, cols = stride): RoundedCopy => ({
      ...{ stride, cols, scale, address: memory.address(offset) as DevicePtr },
    });
    const good = { layer: fixed, input: place(0, 32), output: place(2048, 48), activation: 'none' } as const;
    kernels.prepare({ ...good, rounded: copyAt(8192, 48), inputRounded: copyAt(12288, 32) });
    for (const [operation, message] of [
      [{ ...good, rounded: copyAt(8192, 32) }, /the output in 8 bits.* rows of 48/],
      [{ ...good, rounded: copyAt(8192, 56) }, /56 bytes a row/],
      [{ ...good, rounded: copyAt(8200, 48) }, /units of 16 bytes/],
      [{ ...good, rounded: copyAt(8192, 64, SCALE, 32) }, /the output in 8 bits.* rows of 48/],
      [{ ...good, rounded: copyAt(8192, 64, SCALE, 56) }, /units of 16 bytes/],
      [{ ...good, rounded: copyAt(8192, 48, SCALE, 64) }, /48 bytes a row/],
      [{ ...good, inputRounded: copyAt(8192, 16) }, /the input in 8 bits.* rows of 32/],
      [{ ...good, inputRounded: copyAt(8192, 32, 1) }, /by the scale 1 is not by 0\.02999/],
      [{ ...good, layer: free, inputRounded: copyAt(8192, 32) }, /is not by undefined/],
    ] as const)
      assert.throws(() => kernels.prepare(operation), { code: 'KERNEL_FAILED', message });
  });

  /**
   * Asserts that a program of a cross network and an MLP gives the bits that its operations give one by one, where no layer finds a copy;
   * how its layers were computed.
   */
  async function assertAsAlone(candidates: number): Promise<readonly string[]> {
    using backend = openFakeBackend({ linearSearch: { candidates, rounds: 0, runs: 0 } });
    const random = new Random(71);
    const [rows, width, rank] = [20, 64, 16];
    const placed: PlacedLinear[] = [];
    const layer = (inputs: number, outputs: number, scale: number) => {
      const weight = random.reals(outputs * inputs).map((w) => w / Math.sqrt(inputs));
      const scaled = { ...scaledWeight(weight, outputs), inputScale: Math.fround(scale / 448) };
      const own = backend.placeLinear(scaled, random.reals(outputs), outputs, inputs, 'float8_e4m3');
      placed.push(own);
      return own;
    };
    const { block, made } = Workspace.of(backend, (workspace) => {
      const halves = (cols: number) => workspace.matrix(rows, cols, 'float16');
      return {
        given: workspace.packed(rows, width),
        ...{ x0: halves(width), x1: halves(width), x2: halves(width) },
        ...{ h0: halves(rank), h1: halves(rank), m0: halves(48), m1: halves(20), out: halves(1) },
      };
    });
    using _block = block;
    const { given, x0, x1, x2, h0, h1, m0, m1, out } = made;
    const linear = (input: Matrix, output: Matrix, scale: number, more: Partial<LinearOperation> = {}) => ({
      ...({ op: 'linear', input, output, activation: 'none' } as const),
      ...{ layer: layer(input.cols, output.cols, scale), ...more },
    });
    const operations: readonly Operation[] = [
      { op: 'copy', input: given, output: x0 },
      linear(x0, h0, 3),
      linear(h0, x1, 3, { cross: { x0, x: x0 } }),
      linear(x1, h1, 9),
      linear(h1, x2, 9, { cross: { x0, x: x1 } }),
      linear(x2, m0, 20, { activation: 'relu' }),
      linear(m0, m1, 20, { activation: 'relu' }),
      linear(m1, out, 20),
    ];
    const values = random.reals(rows * width);
    const upload: Operation = { op: 'upload', source: values, output: given };
    const results = () =>
      [x1, x2, m0, m1, out].map((input) => ({ input, target: new Uint16Array(rows * input.cols) }));
    const download = (into: ReturnType<typeof results>) =>
      into.map((result): Operation => ({ op: 'download', ...result }));
    const prepared = mock.method(DenseKernels.prototype, 'prepare');
    const alone = results();
    for (const operation of [upload, ...operations, ...download(alone)]) await backend.run([operation]);
    prepared.mock.resetCalls();
    const together = results();
    using program = backend.prepare([upload, ...operations, ...download(together)]);
    // Twice: the second time from a graph.
    for (const run of [1, 2]) {
      for (const { target } of together) target.fill(0);
      await program.run({}, { timing: 'none' });
      for (const [i, { target }] of together.entries())
        assert.deepEqual(target, at(alone, i).target, `matrix ${i}, run ${run}`);
    }
    const read = prepared.mock.calls.filter(({ arguments: [own] }) => own.inputRounded !== undefined);
    const written = prepared.mock.calls.filter(({ arguments: [own] }) => own.rounded !== undefined);
    assert.deepEqual([read.length, written.length], [6, 6]);
    const areAlone = () =>
      prepared.mock.calls.flatMap(({ arguments: [{ rounded }] }) => (rounded ? [rounded.alone] : []));
    // Of h0, x1, h1, x2, m0 and m1: the others are downloaded.
    assert.deepEqual(areAlone(), [true, false, true, false, false, false]);
    prepared.mock.resetCalls();
    const last = at(results(), 4);
    using unread = backend.prepare([upload, ...operations, { op: 'download', ...last }]);
    for (const run of [1, 2]) {
      last.target.fill(0);
      await unread.run({}, { timing: 'none' });
      assert.deepEqual(last.target, at(alone, 4).target, `needed in 8 bits alone, run ${run}`);
    }
    // x1 is the next cross layer’s x.
    assert.deepEqual(areAlone(), [true, false, true, true, true, true]);
    prepared.mock.restore();
    for (const own of placed) own[Symbol.dispose]();
    return prepared.mock.calls.map(({ result }) => result ?? '');
  }

  test('a program’s layers read copies, and give the bits that each gives alone', async () => {
    fakeLt.setOuterVectors(true);
    fakeLt.setEpilogues(true);
    const byLibrary = await assertAsAlone(8);
    assert.equal(byLibrary.filter((choice) => choice.startsWith('cuBLASLt, scaled')).length, 5);
    // The kernels that read and write copies themselves.
    const byKernels = await assertAsAlone(0);
    assert.equal(byKernels.filter((choice) => choice.startsWith('cross product')).length, 2);
  });
} else test('copies in 8 bits', { skip }, () => {});
