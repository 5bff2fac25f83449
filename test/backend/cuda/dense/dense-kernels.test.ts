/**
 * The host side of the dense operations, end to end without a GPU: launches reach the emulated kernels through the fake
 * driver, products the fake cuBLASLt, both on the fake device's memory.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { DenseKernels, type DenseOptions } from '../../../../src/backend/cuda/dense/dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix } from '../../../../src/backend/cuda/dense/dense-operation.ts';
import { denseSources, factorBits } from '../../../../src/backend/cuda/dense/dense-source.ts';
import { DEFAULT_LINEAR_SEARCH } from '../../../../src/backend/cuda/dense/linear-layers.ts';
import { CudaDevice } from '../../../../src/cuda/device.ts';
import { DeviceMemory } from '../../../../src/cuda/memory.ts';
import { CudaStream } from '../../../../src/cuda/stream.ts';
import {
  REFERENCE_ROW_FUNCTIONS,
  referenceDotInteraction,
  referenceLinear,
} from '../../../../src/dense/reference.ts';
import { UNSCALED_PRECISIONS, type UnscaledPrecision } from '../../../../src/device.ts';
import { CublasLt } from '../../../../src/ffi/cublaslt.ts';
import { CudaDriver } from '../../../../src/ffi/cuda-driver.ts';
import { addressOf } from '../../../../src/ffi/host-memory.ts';
import { KernelCache } from '../../../../src/jit/kernel-cache.ts';
import { emulate, refuseEmulation } from '../../../emulation/emulator.ts';
import { buildFakeCublasLt, buildFakeDriver, fakeCubin } from '../../../fake-driver/fake-driver.ts';
import { assertSameValues, assertWithin, FLOAT32_ROUNDING } from '../../../support/compare.ts';
import { Random } from '../../../support/random.ts';

const skip = refuseEmulation();

describe('dense operations over the fake device', { skip }, () => {
  if (skip !== undefined) return;
  const fake = buildFakeDriver();
  const fakeLt = buildFakeCublasLt(fake);
  const driver = new CudaDriver({ path: fake.path });
  const cublasLt = new CublasLt({ path: fakeLt.path });
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-dense-'));
  const cache = new KernelCache({ folder });
  /** Makes an image that names the kernels of a source. */
  const compiler = {
    identity: 'none',
    compile: async ({ source }: { readonly source: string }) => {
      const kernels = [...source.matchAll(/\) (hotrow_\w+)\(/g)].map((match) => match[1] as string);
      return { cubin: fakeCubin(...kernels), log: '' };
    },
  };

  before(async () => {
    const sources = UNSCALED_PRECISIONS.flatMap((precision) => denseSources(precision, true));
    const emulator = await emulate([...new Map(sources.map((source) => [source.id, source])).values()]);
    fake.setEmulator(emulator);
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(() => {
    fakeLt.setAlgorithms(3);
    fakeLt.setEpilogues(true);
    fakeLt.setReluLosesNaN(false);
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'every test gives everything back');
    assert.equal(fakeLt.live(), 0, 'and every object of cuBLASLt');
  });

  async function open(precision: UnscaledPrecision, more: Partial<DenseOptions> = {}) {
    const device = new CudaDevice(driver);
    try {
      const stream = new CudaStream(device);
      const settle = () => stream.synchronize();
      const kernels = await DenseKernels.open(device, {
        precision,
        compiler,
        cache,
        cublasLt,
        settle,
        ...more,
      });
      return { device, kernels, stream, [Symbol.dispose]: () => device[Symbol.dispose]() };
    } catch (error) {
      device[Symbol.dispose]();
      throw error;
    }
  }

  const SENTINEL = 12345.5;

  /** A matrix amid sentinels. The fake device's memory is the host's: copies are done when they are asked for. */
  class Framed implements Disposable {
    readonly matrix: DeviceMatrix;
    readonly #memory: DeviceMemory;
    readonly #host: Float32Array;

    constructor(
      readonly stream: CudaStream,
      rows: number,
      cols: number,
      readonly pad: number,
      values?: Float32Array,
    ) {
      const stride = cols + 2 * pad;
      this.#host = new Float32Array(new ArrayBuffer(4 * (rows * stride + 1))).fill(SENTINEL);
      for (let r = 0; values !== undefined && r < rows; r++)
        this.#host.set(values.subarray(r * cols, (r + 1) * cols), r * stride + pad);
      this.#memory = new DeviceMemory(stream.device, this.#host.byteLength);
      stream.copyToDevice(this.#memory.address(), addressOf(this.#host), this.#host.byteLength);
      this.matrix = { address: this.#memory.address(4 * pad), rows, cols, stride };
    }

    values(): Float32Array {
      const { rows, cols, stride } = this.matrix;
      this.stream.copyToHost(addressOf(this.#host), this.#memory.address(), this.#host.byteLength);
      const values = new Float32Array(rows * cols);
      this.#host.forEach((x, i) => {
        const [row, col] = [Math.floor(i / stride), (i % stride) - this.pad];
        if (row < rows && col >= 0 && col < cols) values[row * cols + col] = x;
        else assert.equal(x, SENTINEL, `element ${i}, beside the matrix, was written`);
      });
      return values;
    }

    [Symbol.dispose](): void {
      this.#memory[Symbol.dispose]();
    }
  }

  interface Case {
    readonly shape: readonly [batch: number, inputs: number, outputs: number];
    readonly activation?: 'none' | 'relu' | 'sigmoid';
    readonly biased?: boolean;
    readonly crossed?: boolean;
    readonly inPlace?: boolean;
    readonly pad?: number;
    readonly captured?: boolean;
    readonly draw?: (count: number) => Float32Array;
  }

  /** Runs a layer; gives what it computed and what it should have. */
  function runLinear({ kernels, stream }: Awaited<ReturnType<typeof open>>, options: Case) {
    const { shape, activation = 'none', biased = true, crossed = false, inPlace = false } = options;
    const { pad = 4, captured = false } = options;
    const random = new Random(9);
    const draw = options.draw ?? ((count: number) => random.integers(count, 8));
    const [batch, inputs, outputs] = shape;
    const values = { input: draw(batch * inputs), weight: draw(outputs * inputs) };
    const bias = biased ? draw(outputs) : undefined;
    const crosses = crossed ? { x0: draw(batch * outputs), x: draw(batch * outputs) } : undefined;
    using layer = kernels.placeLinear(values.weight, bias, outputs, inputs);
    using input = new Framed(stream, batch, inputs, pad, values.input);
    using x0 = new Framed(stream, batch, outputs, pad, crosses?.x0);
    using x = new Framed(stream, batch, outputs, pad, crosses?.x);
    using other = new Framed(stream, batch, outputs, pad);
    const output = inPlace ? x : other;
    const operation: DeviceLinear = {
      layer,
      input: input.matrix,
      output: output.matrix,
      activation,
      ...(crossed ? { cross: { x0: x0.matrix, x: x.matrix } } : {}),
    };
    const choice = kernels.prepare(operation);
    if (captured) {
      using graph = stream.capture(() => kernels.linear(stream, operation));
      graph.launch(stream);
    } else {
      kernels.linear(stream, operation);
    }
    const problem = { batch, inputs, outputs, activation, ...values, bias, cross: crosses };
    return { out: output.values(), expected: referenceLinear(problem), problem, choice };
  }

  const withoutSignOfZero = (values: Float32Array | Float64Array) => Float64Array.from(values, (x) => x + 0);

  for (const precision of UNSCALED_PRECISIONS) {
    test(`linear layers in ${precision}: exact on integers, any alignment, at once and from a graph`, async () => {
      using opened = await open(precision);
      for (const shape of [
        [1, 1, 1],
        [9, 8, 12],
        [13, 17, 33],
        [12, 64, 1],
        [1, 40, 20],
        [33, 13, 16],
      ] as const) {
        for (const tail of [
          {},
          { biased: false },
          { activation: 'relu' },
          { activation: 'relu', biased: false },
          { crossed: true },
          { crossed: true, inPlace: true, biased: false },
        ] as const) {
          for (const pad of [1, 4]) {
            const captured = pad === 4;
            const { out, expected } = runLinear(opened, { shape, ...tail, pad, captured });
            const what = `${shape} ${JSON.stringify(tail)}, pad ${pad}`;
            assertSameValues(withoutSignOfZero(out), withoutSignOfZero(expected), what);
          }
        }
      }
    });

    test(`linear layers in ${precision}: reals and sigmoid`, async () => {
      using opened = await open(precision);
      const random = new Random(10);
      for (const [batch, inputs, outputs] of [
        [1, 100, 30],
        [20, 100, 30],
      ] as const) {
        const { out, expected, problem } = runLinear(opened, {
          shape: [batch, inputs, outputs],
          activation: 'sigmoid',
          draw: (count) => random.reals(count),
        });
        const magnitude = referenceLinear({
          ...problem,
          activation: 'none',
          input: problem.input.map(Math.abs),
          weight: problem.weight.map(Math.abs),
        });
        // The fake's TF32 drops the bits of its input that are too many, which is twice a rounding.
        const rounded = precision === 'float32' ? 0 : 3.1 * 2 ** -factorBits(precision);
        const bound = rounded + (inputs + 4) * FLOAT32_ROUNDING;
        assertWithin(out, expected, (i) => bound * Math.abs(magnitude[i] as number) + 2 ** -22, precision);
      }
    });
  }

  test('dot interaction and copies: exact, beside other columns', async () => {
    for (const precision of UNSCALED_PRECISIONS) {
      using opened = await open(precision);
      const { kernels, stream } = opened;
      const random = new Random(11);
      for (const [batch, features, dim] of [
        [3, 1, 4],
        [2, 27, 16],
        [2, 40, 7],
        [1, 130, 4],
      ] as const) {
        for (const [order, diagonal] of [
          ['lower', false],
          ['upper', true],
        ] as const) {
          const values = random.integers(batch * features * dim, 8);
          const pairs = (features * (features + (diagonal ? 1 : -1))) / 2;
          using input = new Framed(stream, batch, features * dim, 4, values);
          using output = new Framed(stream, batch, pairs, 3);
          const matrices = { input: input.matrix, output: output.matrix };
          kernels.dotInteraction(stream, { ...matrices, features, dim, order, diagonal });
          const expected = referenceDotInteraction({ batch, features, dim, order, diagonal, input: values });
          assertSameValues(
            withoutSignOfZero(output.values()),
            withoutSignOfZero(expected),
            `${features} × ${dim}`,
          );
          using paired = new Framed(stream, batch, 1, 2);
          kernels.rowFunction(stream, {
            function: 'factorizationMachine',
            input: input.matrix,
            output: paired.matrix,
          });
          const rows = { batch, columns: features * dim, input: values };
          assertSameValues(
            withoutSignOfZero(paired.values()),
            withoutSignOfZero(REFERENCE_ROW_FUNCTIONS.factorizationMachine(rows)),
            `factorization machine of ${features * dim}`,
          );
          using copied = new Framed(stream, batch, features * dim, 1);
          kernels.copy(stream, { input: input.matrix, output: copied.matrix });
          assert.deepEqual(copied.values(), values);
        }
      }
    }
  });

  test('a shape is chosen once; another layer of it uses the choice with its own weight and bias', async () => {
    using opened = await open('float32');
    const first = runLinear(opened, { shape: [20, 16, 24], activation: 'relu' });
    assert.equal(first.choice, 'cuBLASLt, fused');
    const before = fakeLt.products();
    const random = new Random(12);
    const draw = (count: number) => random.integers(count, 8);
    const { out, expected } = runLinear(opened, { shape: [20, 16, 24], activation: 'relu', draw });
    assert.equal(fakeLt.products(), before + 1, 'nothing was measured again');
    assertSameValues(withoutSignOfZero(out), withoutSignOfZero(expected), 'the second layer');
  });

  test('without rounds nothing is measured: the choice does not hang on times', async () => {
    using opened = await open('tf32', { linearSearch: { ...DEFAULT_LINEAR_SEARCH, rounds: 0 } });
    const choices = { many: 'cuBLASLt, fused', few: 'direct' };
    for (const [shape, choice] of [
      [[20, 16, 24], choices.many],
      [[3, 16, 24], choices.few],
      [[20, 16, 2], choices.few],
    ] as const) {
      const before = fakeLt.products();
      const layer = runLinear(opened, { shape, activation: 'relu' });
      assert.equal(layer.choice, choice);
      assertSameValues(withoutSignOfZero(layer.out), withoutSignOfZero(layer.expected), `${shape}`);
      // Each of the library's two algorithms that can run shows once that it keeps NaNs; then the layer runs.
      assert.equal(fakeLt.products() - before, choice === choices.many ? 3 : 2);
    }
  });

  const choiceWith = async (shape: Case['shape'], tail: Partial<Case> = {}) => {
    using opened = await open('tf32');
    const { out, expected, choice } = runLinear(opened, { shape, activation: 'relu', ...tail });
    assertSameValues(withoutSignOfZero(out), withoutSignOfZero(expected), `${shape}`);
    return choice;
  };

  test('without an epilogue in the library, a kernel finishes', async () => {
    fakeLt.setEpilogues(false);
    assert.equal(await choiceWith([20, 16, 24]), 'cuBLASLt, finished by a kernel');
  });

  test('a ReLU that makes NaN 0 is not used', async () => {
    fakeLt.setReluLosesNaN(true);
    assert.equal(await choiceWith([20, 16, 24]), 'cuBLASLt, finished by a kernel');
    using opened = await open('bfloat16');
    const draw = (count: number) => new Float32Array(count).fill(Number.NaN);
    const { out } = runLinear(opened, { shape: [20, 16, 24], activation: 'relu', biased: false, draw });
    assert.ok(out.every(Number.isNaN));
  });

  test('algorithms that refuse are passed over; without any, the direct kernel computes the layer', async () => {
    fakeLt.setAlgorithms(4, 2);
    assert.equal(await choiceWith([20, 16, 24]), 'cuBLASLt, fused');
    fakeLt.setAlgorithms(3, 3);
    assert.equal(await choiceWith([20, 16, 24]), 'direct');
    fakeLt.setAlgorithms(0);
    assert.equal(await choiceWith([20, 16, 24]), 'direct');
    assert.equal(await choiceWith([20, 16, 24], { crossed: true, activation: 'none' }), 'direct');
  });

  test('a failing product is an error, and leaves nothing behind', async () => {
    for (const [call, status, code] of [
      ['cublasLtMatmul', 13, 'KERNEL_FAILED'],
      ['cublasLtMatmulAlgoGetHeuristic', 14, 'CUDA_FAILED'],
      ['cublasLtMatmulDescCreate', 3, 'OUT_OF_MEMORY'],
      ['cublasLtMatmulDescSetAttribute', 7, 'CUDA_FAILED'],
      ['cublasLtMatrixLayoutCreate', 3, 'OUT_OF_MEMORY'],
      ['cublasLtMatmulPreferenceCreate', 3, 'OUT_OF_MEMORY'],
      ['cublasLtMatmulPreferenceSetAttribute', 7, 'CUDA_FAILED'],
    ] as const) {
      using opened = await open('float32');
      fakeLt.fail(call, 1, status);
      assert.throws(() => runLinear(opened, { shape: [20, 16, 24] }), { code, call }, call);
      const { out, expected } = runLinear(opened, { shape: [20, 16, 24] });
      assertSameValues(withoutSignOfZero(out), withoutSignOfZero(expected), `after ${call}`);
    }
  });

  test('an opening that fails leaves nothing behind', async () => {
    fakeLt.fail('cublasLtCreate', 1, 1);
    await assert.rejects(open('float32'), { code: 'DEVICE_UNAVAILABLE', call: 'cublasLtCreate' });
    for (const [call, nth] of [
      ['cuModuleLoadDataEx', 1],
      ['cuMemAlloc', 1],
      ['cuStreamCreateWithPriority', 1],
      ['cuModuleGetFunction', 3],
      ['cuFuncSetAttribute', 2],
    ] as const) {
      fake.fail(call, nth, 2);
      await assert.rejects(open('float32'), { code: 'OUT_OF_MEMORY' }, call);
      assert.deepEqual([fake.live(), fakeLt.live()], [{}, 0], call);
    }
  });

  test('disposed before the device, or after it', async () => {
    for (const kernelsFirst of [true, false]) {
      const { device, kernels } = await open('float16');
      const layer = kernels.placeLinear(Float32Array.of(1, 2), undefined, 1, 2);
      const both = kernelsFirst ? [kernels, layer, device] : [device, kernels, layer];
      for (const disposable of both) disposable[Symbol.dispose]();
      assert.deepEqual(fake.live(), {});
    }
  });

  test('what does not fit is refused before any work', async () => {
    using opened = await open('float32');
    const { kernels, stream } = opened;
    using layer = kernels.placeLinear(new Float32Array(12), new Float32Array(3), 3, 4);
    using framed = new Framed(stream, 2, 4, 0);
    const { address } = framed.matrix;
    const matrix = (rows: number, cols: number, stride = cols) => ({ address, rows, cols, stride });
    const good = { layer, input: matrix(2, 4), output: matrix(2, 3), activation: 'relu' } as const;
    const calls = fake.calls();
    const bad: readonly (readonly [DeviceLinear, RegExp])[] = [
      [{ ...good, input: matrix(2, 5) }, /the input is \[2, 5\].*expected \[2, 4\]/],
      [{ ...good, output: matrix(2, 2) }, /the output is \[2, 2\]/],
      [{ ...good, output: matrix(3, 3) }, /the input is \[2, 4\].*expected \[3, 4\]/],
      [{ ...good, output: matrix(2, 3, 2) }, /stride 2/],
      [{ ...good, cross: { x0: matrix(2, 3), x: matrix(2, 3) } }, /no activation, not relu/],
      [{ ...good, activation: 'none', cross: { x0: matrix(1, 3), x: matrix(2, 3) } }, /x0 is \[1, 3\]/],
    ];
    for (const [operation, message] of bad) {
      assert.throws(() => kernels.prepare(operation), { code: 'KERNEL_FAILED', message });
      assert.throws(() => kernels.linear(stream, operation), { code: 'KERNEL_FAILED', message });
    }
    assert.throws(() => kernels.linear(stream, good), {
      code: 'KERNEL_FAILED',
      message: /before it was prepared/,
    });
    const interaction = { features: 2, dim: 2, diagonal: false, order: 'lower' } as const;
    assert.throws(
      () => kernels.dotInteraction(stream, { ...interaction, input: matrix(2, 4), output: matrix(2, 2) }),
      { code: 'KERNEL_FAILED', message: /expected \[2, 1\]/ },
    );
    assert.throws(
      () =>
        kernels.rowFunction(stream, {
          function: 'factorizationMachine',
          input: matrix(2, 4),
          output: matrix(2, 2),
        }),
      { code: 'KERNEL_FAILED', message: /expected \[2, 1\]/ },
    );
    assert.throws(() => kernels.copy(stream, { input: matrix(2, 4), output: matrix(2, 3) }), {
      code: 'KERNEL_FAILED',
    });
    assert.throws(() => kernels.placeLinear(new Float32Array(5), undefined, 2, 3), { code: 'KERNEL_FAILED' });
    assert.throws(() => kernels.placeLinear(new Float32Array(0), undefined, 0, 3), { code: 'KERNEL_FAILED' });
    assert.equal(fake.calls(), calls, 'no call reached the driver');
    using half = await open('float16');
    assert.throws(() => half.kernels.prepare(good), {
      code: 'KERNEL_FAILED',
      message: /float32 layer ran on float16/,
    });
    assert.throws(() => half.kernels.placeLinear(Float32Array.of(1, 7e4), undefined, 1, 2), {
      code: 'PLAN_ILLEGAL',
      message: /70000 is beyond float16/,
    });
  });

  test('an empty batch does nothing', async () => {
    using opened = await open('tf32');
    const { kernels, stream } = opened;
    const { out } = runLinear(opened, { shape: [0, 4, 3] });
    assert.equal(out.length, 0);
    using framed = new Framed(stream, 0, 8, 0);
    const { matrix } = framed;
    const interaction = { features: 4, dim: 2, diagonal: false, order: 'lower' } as const;
    kernels.dotInteraction(stream, { ...interaction, input: matrix, output: { ...matrix, cols: 6 } });
    kernels.copy(stream, { input: matrix, output: matrix });
    kernels.rowFunction(stream, {
      function: 'factorizationMachine',
      input: matrix,
      output: { ...matrix, cols: 1 },
    });
  });
});
