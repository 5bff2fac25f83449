/**
 * The host side of the dense operations, end to end without a GPU: launches reach the emulated kernels through the fake
 * driver, products the fake cuBLASLt, both on the fake device's memory.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { at } from '../../../../src/at.ts';
import {
  CROSS_COLUMNS,
  CROSS_FACTORS,
  crossProductSource,
} from '../../../../src/backend/cuda/dense/cross-product.ts';
import { DenseKernels, type DenseOptions } from '../../../../src/backend/cuda/dense/dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix } from '../../../../src/backend/cuda/dense/dense-operation.ts';
import { denseSources, factorBits } from '../../../../src/backend/cuda/dense/dense-source.ts';
import { KeptChoices } from '../../../../src/backend/cuda/dense/kept-choices.ts';
import { DEFAULT_LINEAR_SEARCH } from '../../../../src/backend/cuda/dense/linear-chooser.ts';
import { BlockPool } from '../../../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../../../src/cuda/device.ts';
import { DeviceMemory } from '../../../../src/cuda/memory.ts';
import { CudaStream } from '../../../../src/cuda/stream.ts';
import {
  REFERENCE_ROW_FUNCTIONS,
  referenceDotInteraction,
  referenceLinear,
} from '../../../../src/dense/reference.ts';
import {
  activationFormat,
  type ElementFormat,
  UNSCALED_PRECISIONS,
  type UnscaledPrecision,
} from '../../../../src/device.ts';
import { CublasLt } from '../../../../src/ffi/cublaslt.ts';
import { CudaDriver } from '../../../../src/ffi/cuda-driver.ts';
import { addressOf } from '../../../../src/ffi/host-memory.ts';
import { KernelCache } from '../../../../src/jit/kernel-cache.ts';
import { emulate, refuseEmulation } from '../../../emulation/emulator.ts';
import { buildFakeCublasLt, buildFakeDriver, fakeCubin } from '../../../fake-driver/fake-driver.ts';
import { SOME_CHOICES } from '../../../support/choices.ts';
import { assertSameValues, assertWithin, FLOAT32_ROUNDING } from '../../../support/compare.ts';
import {
  decoded,
  type Elements,
  encoded,
  formatsOf,
  newElements,
  roundedTo,
  roundingOf,
} from '../../../support/elements.ts';
import { Random } from '../../../support/random.ts';

const skip = refuseEmulation();
const HALVES = ['float16', 'bfloat16'] as const;
/** Idle memory of measurements. */
const POOL_BYTES = 2 ** 26;
/** No product of the library is tried. */
const OWN_KERNELS = { candidates: 0, rounds: 0, runs: 0 } as const;

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
    const sources = [
      ...UNSCALED_PRECISIONS.flatMap((precision) => denseSources(precision, true)),
      ...CROSS_FACTORS.flatMap((factors) =>
        CROSS_COLUMNS.map((columns) => crossProductSource(factors, columns)),
      ),
    ];
    const emulator = await emulate([...new Map(sources.map((source) => [source.id, source])).values()]);
    fake.setEmulator(emulator);
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(() => {
    fakeLt.setAlgorithms(3);
    fakeLt.setEpilogues(true);
    fakeLt.setReluLosesNaN(false);
    fakeLt.setRoundingTwice(0);
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
        pool: BlockPool.ofDevice(device, POOL_BYTES),
        ...more,
      });
      return { device, kernels, stream, [Symbol.dispose]: () => device[Symbol.dispose]() };
    } catch (error) {
      device[Symbol.dispose]();
      throw error;
    }
  }

  const SENTINEL = 12344;

  /** A matrix amid sentinels. The fake device's memory is the host's: copies are done when they are asked for. */
  class Framed implements Disposable {
    readonly matrix: DeviceMatrix;
    readonly #memory: DeviceMemory;
    readonly #host: Elements;

    constructor(
      readonly stream: CudaStream,
      rows: number,
      cols: number,
      readonly pad: number,
      values?: Float32Array,
      format: ElementFormat = 'float32',
    ) {
      const stride = cols + 2 * pad;
      this.#host = newElements(format, rows * stride + 2).fill(encoded(format, SENTINEL));
      values?.forEach((x, i) => {
        this.#host[Math.floor(i / cols) * stride + pad + (i % cols)] = encoded(format, x);
      });
      const { byteLength, BYTES_PER_ELEMENT } = this.#host;
      this.#memory = new DeviceMemory(stream.device, byteLength);
      stream.copyToDevice(this.#memory.address(), addressOf(this.#host), byteLength);
      const address = this.#memory.address(BYTES_PER_ELEMENT * pad);
      this.matrix = { address, format, rows, cols, stride };
    }

    /** What is in it; `padding` columns behind must be zeros. */
    values(padding = 0): Float32Array {
      const { rows, cols, stride, format } = this.matrix;
      this.stream.copyToHost(addressOf(this.#host), this.#memory.address(), this.#host.byteLength);
      const values = new Float32Array(rows * cols);
      this.#host.forEach((x, i) => {
        const [row, col] = [Math.floor(i / stride), (i % stride) - this.pad];
        const inside = row < rows && col >= 0;
        if (inside && col < cols) values[row * cols + col] = decoded(format, x);
        else if (inside && col < cols + padding) assert.equal(x, 0, `element ${i} of the padding`);
        else assert.equal(x, encoded(format, SENTINEL), `element ${i}, beside the matrix, was written`);
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
    /** Of what is read and written; default: float32. A cross reads what it writes. */
    readonly formats?: readonly [input: ElementFormat, output: ElementFormat];
  }

  /** Runs a layer; gives what it computed and what it should have. */
  function runLinear({ kernels, stream }: Awaited<ReturnType<typeof open>>, options: Case) {
    const { shape, activation = 'none', biased = true, crossed = false, inPlace = false } = options;
    const { pad = 8, captured = false, formats: [from, to] = ['float32', 'float32'] } = options;
    const random = new Random(9);
    // The sums of a cross are rounded to 16 bits: they stay exact.
    const largest = crossed && to !== 'float32' ? 1 : 8;
    const draw = options.draw ?? ((count: number) => random.integers(count, largest));
    const [batch, inputs, outputs] = shape;
    const values = { input: draw(batch * inputs), weight: draw(outputs * inputs) };
    const bias = biased ? draw(outputs) : undefined;
    const crosses = crossed ? { x0: draw(batch * outputs), x: draw(batch * outputs) } : undefined;
    using layer = kernels.placeLinear(values.weight, bias, outputs, inputs);
    using input = new Framed(stream, batch, inputs, pad, values.input, from);
    using x0 = new Framed(stream, batch, outputs, pad, crosses?.x0, to);
    using x = new Framed(stream, batch, outputs, pad, crosses?.x, to);
    using other = new Framed(stream, batch, outputs, pad, undefined, to);
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
    const expected = referenceLinear(problem);
    return { out: output.values(), expected, stored: expected.map((y) => roundedTo(to, y)), problem, choice };
  }

  const withoutSignOfZero = (values: Float32Array | Float64Array) => Float64Array.from(values, (x) => x + 0);

  const pairsOf = (precision: UnscaledPrecision) =>
    formatsOf(precision).flatMap((from) => formatsOf(precision).map((to) => [from, to] as const));

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
          for (const formats of pairsOf(precision)) {
            for (const pad of [1, 8]) {
              const captured = pad === 8;
              const { out, stored } = runLinear(opened, { shape, ...tail, pad, captured, formats });
              const what = `${shape} ${JSON.stringify(tail)}, ${formats.join(' to ')}, pad ${pad}`;
              assertSameValues(withoutSignOfZero(out), withoutSignOfZero(stored), what);
            }
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
        for (const formats of pairsOf(precision)) {
          const { out, expected, problem } = runLinear(opened, {
            shape: [batch, inputs, outputs],
            activation: 'sigmoid',
            draw: (count) => random.reals(count),
            formats,
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
          const boundOf = (i: number) =>
            bound * Math.abs(at(magnitude, i)) + 2 ** -22 + roundingOf(formats[1], at(expected, i));
          assertWithin(out, expected, boundOf, `${precision}, ${formats.join(' to ')}`);
        }
      }
    });
  }

  test('16-bit products end in the output; a finished one waits in float32, a cross in its own format', async () => {
    using opened = await open('float16');
    const formats = ['float16', 'float16'] as const;
    const relu = runLinear(opened, { shape: [20, 16, 24], activation: 'relu', formats });
    assert.equal(relu.choice, 'cuBLASLt, fused');
    fakeLt.setEpilogues(false);
    // 2,049 + 1 in float16: 2,048 + 1, of which a tie goes to 2,048, where sums are rounded before the bias is added.
    const large = {
      shape: [20, 1, 24],
      formats,
      draw: (count: number) => new Float32Array(count).fill(count === 24 ? 1 : 45),
    } as const;
    const { out, stored, choice } = runLinear(opened, large);
    assert.equal(choice, 'cuBLASLt, finished by a kernel');
    assertSameValues(out, stored, 'rounded once');
  });

  for (const precision of HALVES) {
    test(`cross layers whole in ${precision}: exact on integers, in place, at once and from a graph`, async () => {
      using opened = await open(precision, { linearSearch: OWN_KERNELS });
      await Promise.all([opened.kernels.compileCrosses(), opened.kernels.compileCrosses()]);
      for (const shape of [
        [33, 24, 16],
        [70, 64, 200],
        [130, 72, 96],
      ] as const) {
        for (const tail of [{}, { biased: false, inPlace: true, captured: true }]) {
          const formats = [precision, precision] as const;
          const { out, stored, choice } = runLinear(opened, { shape, crossed: true, formats, ...tail });
          assert.match(choice, /^cross product, (64|128) outputs a block$/);
          assertSameValues(
            withoutSignOfZero(out),
            withoutSignOfZero(stored),
            `${shape} ${JSON.stringify(tail)}`,
          );
        }
      }
    });
  }

  test('cross layers are made whole of aligned 16-bit rows alone, once that is compiled, and rival products', async () => {
    const formats = ['float16', 'float16'] as const;
    const choiceOf = (opened: Awaited<ReturnType<typeof open>>, more: Partial<Case> = {}) =>
      runLinear(opened, { shape: [20, 16, 24], crossed: true, formats, ...more }).choice;
    {
      using opened = await open('float16', { linearSearch: OWN_KERNELS });
      assert.equal(choiceOf(opened), 'direct');
      await opened.kernels.compileCrosses();
      assert.equal(choiceOf(opened, { crossed: false }), 'direct');
      assert.equal(choiceOf(opened, { shape: [20, 16, 20] }), 'direct', 'outputs that fill no 16 bytes');
      assert.equal(choiceOf(opened, { pad: 4 }), 'direct', 'rows that are not aligned');
      assert.equal(choiceOf(opened, { formats: ['float32', 'float16'] }), 'direct');
      assert.equal(choiceOf(opened, { shape: [20, 1200, 24] }), 'direct', 'a weight beyond shared memory');
    }
    {
      using opened = await open('float16', { linearSearch: { candidates: 1, rounds: 0, runs: 0 } });
      await opened.kernels.compileCrosses();
      assert.equal(choiceOf(opened), 'cuBLASLt, finished by a kernel');
    }
    for (const precision of ['float32', 'tf32'] as const) {
      using opened = await open(precision, { linearSearch: OWN_KERNELS });
      await opened.kernels.compileCrosses();
      assert.equal(choiceOf(opened, { formats: ['float32', 'float32'] }), 'direct');
    }
  });

  test('a kept choice of a cross product is used where there still is one, and measured anew elsewhere', async () => {
    const warnings: string[] = [];
    const kept = {
      folder: mkdtempSync(join(folder, 'kept-')),
      onWarning: (text: string) => warnings.push(text),
    };
    const chosen = async (rounds: number, crosses = true) => {
      const choices = new KeptChoices(SOME_CHOICES, kept);
      using opened = await open('bfloat16', { linearSearch: { candidates: 0, rounds, runs: 1 }, choices });
      if (crosses) await opened.kernels.compileCrosses();
      const formats = ['bfloat16', 'bfloat16'] as const;
      return runLinear(opened, { shape: [20, 16, 24], crossed: true, formats }).choice;
    };
    const first = await chosen(2);
    assert.match(first, /^cross product/);
    assert.equal(await chosen(1), first);
    assert.deepEqual(warnings, []);
    assert.equal(await chosen(1, false), 'direct');
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /cannot be run here/);
  });

  test('an input whose rows end in zeros is multiplied with them', async () => {
    for (const precision of ['float16', 'bfloat16'] as const) {
      using opened = await open(precision);
      const { kernels, stream } = opened;
      const random = new Random(13);
      for (const [batch, inputs, outputs] of [
        [20, 13, 24],
        [3, 13, 5],
      ] as const) {
        const values = {
          input: random.integers(batch * inputs, 8),
          weight: random.integers(outputs * inputs, 8),
        };
        using layer = kernels.placeLinear(values.weight, undefined, outputs, inputs);
        const zeros = Float32Array.from({ length: batch * 16 }, (_, i) =>
          i % 16 < inputs ? at(values.input, Math.floor(i / 16) * inputs + (i % 16)) : 0,
        );
        using input = new Framed(stream, batch, 16, 0, zeros, precision);
        using output = new Framed(stream, batch, outputs, 8);
        const operation = {
          layer,
          input: { ...input.matrix, cols: inputs, padding: 3 },
          output: output.matrix,
          activation: 'none',
        } as const;
        kernels.prepare(operation);
        kernels.linear(stream, operation);
        const expected = referenceLinear({ batch, inputs, outputs, activation: 'none', ...values });
        assertSameValues(withoutSignOfZero(output.values()), withoutSignOfZero(expected), `${batch}`);
      }
    }
  });

  test('dot interaction and copies: exact, beside other columns', async () => {
    for (const precision of UNSCALED_PRECISIONS) {
      const format = activationFormat(precision);
      const padding = format === 'float32' ? 0 : 2;
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
          using input = new Framed(stream, batch, features * dim, 8, values, format);
          using output = new Framed(stream, batch, pairs, 3, undefined, format);
          const matrices = { input: input.matrix, output: { ...output.matrix, padding } };
          kernels.dotInteraction(stream, { ...matrices, features, dim, order, diagonal });
          const expected = referenceDotInteraction({ batch, features, dim, order, diagonal, input: values });
          assertSameValues(
            withoutSignOfZero(output.values(padding)),
            withoutSignOfZero(expected.map((x) => roundedTo(format, x))),
            `${features} × ${dim}`,
          );
          using paired = new Framed(stream, batch, 1, 2, undefined, format);
          kernels.rowFunction(stream, {
            function: 'factorizationMachine',
            input: input.matrix,
            output: paired.matrix,
          });
          const rows = { batch, columns: features * dim, input: values };
          assertSameValues(
            withoutSignOfZero(paired.values()),
            withoutSignOfZero(
              REFERENCE_ROW_FUNCTIONS.factorizationMachine(rows).map((x) => roundedTo(format, x)),
            ),
            `factorization machine of ${features * dim}`,
          );
          for (const to of formatsOf(precision)) {
            using copied = new Framed(stream, batch, features * dim, 1, undefined, to);
            kernels.copy(stream, { input: input.matrix, output: copied.matrix });
            assert.deepEqual(copied.values(), values);
          }
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

  for (const precision of HALVES)
    for (const activation of ['none', 'relu'] as const)
      test(`sums that ${precision} cannot hold are rounded once, with the bias: ${activation}`, async () => {
        for (const [twice, choice] of [
          [1, 'cuBLASLt, fused'],
          [3, 'cuBLASLt, finished by a kernel'],
        ] as const)
          for (const from of ['float32', precision] as const) {
            fakeLt.setRoundingTwice(twice);
            using opened = await open(precision);
            const random = new Random(5);
            const { out, stored, ...own } = runLinear(opened, {
              ...{ shape: [20, 300, 24], activation, formats: [from, precision] },
              draw: (count) => random.integers(count, 40),
            });
            assert.equal(own.choice, choice);
            assertSameValues(
              withoutSignOfZero(out),
              withoutSignOfZero(stored),
              `${from}, ${twice} round twice`,
            );
          }
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
    const format = 'float32' as ElementFormat;
    const matrix = (rows: number, cols: number, stride = cols) => ({ address, format, rows, cols, stride });
    const half16 = (rows: number, cols: number) => ({ ...matrix(rows, cols), format: 'float16' }) as const;
    const good = { layer, input: matrix(2, 4), output: matrix(2, 3), activation: 'relu' } as const;
    const calls = fake.calls();
    const bad: readonly (readonly [DeviceLinear, RegExp])[] = [
      [{ ...good, input: half16(2, 4) }, /the input is float16, expected float32/],
      [{ ...good, output: half16(2, 3) }, /the output is float16, expected float32/],
      [{ ...good, activation: 'none', cross: { x0: half16(2, 3), x: matrix(2, 3) } }, /x0 is float16/],
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
    assert.throws(() => kernels.copy(stream, { input: half16(2, 4), output: matrix(2, 4) }), {
      code: 'KERNEL_FAILED',
      message: /the input is float16/,
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
    assert.throws(() => half.kernels.placeLinear(Float32Array.of(1, 2), Float32Array.of(-7e4), 1, 2), {
      code: 'PLAN_ILLEGAL',
      message: /-70000 is beyond float16/,
    });
    assert.throws(
      () =>
        half.kernels.dotInteraction(half.stream, {
          ...interaction,
          input: matrix(2, 4),
          output: matrix(2, 1),
        }),
      { code: 'KERNEL_FAILED', message: /the input is float32, expected float16/ },
    );
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
