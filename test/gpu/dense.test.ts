/** The dense operations on a GPU, in every precision, against the reference; launched by themselves and from graphs. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { at } from '../../src/at.ts';
import type { Activation } from '../../src/backend/backend.ts';
import { canMakeCrossProducts } from '../../src/backend/cuda/dense/cross-product.ts';
import { DenseKernels } from '../../src/backend/cuda/dense/dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix } from '../../src/backend/cuda/dense/dense-operation.ts';
import { factorBits } from '../../src/backend/cuda/dense/dense-source.ts';
import { mayBeDirect } from '../../src/backend/cuda/dense/linear-choice.ts';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDevices, cudaDriver } from '../../src/cuda/discover.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { referenceDotInteraction, referenceLinear } from '../../src/dense/reference.ts';
import { activationFormat, type ElementFormat, UNSCALED_PRECISIONS } from '../../src/device.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { BATCHES, INTERACTIONS, LAYERS } from '../conformance/dense.ts';
import { assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import {
  decoded,
  type Elements,
  encoded,
  formatsOf,
  newElements,
  roundedTo,
  roundingOf,
} from '../support/elements.ts';
import { Random } from '../support/random.ts';

const found = cudaDevices();
const reason = 'reason' in found ? found.reason : found.missing[0]?.reason.message;
/** Idle memory of measurements. */
const POOL_BYTES = 2 ** 30;
const SENTINEL = 12344;
/** Of a batch, as many rows at most are compared with the reference, which takes a second for some. */
const MOST_CHECKED = 160;

/** All rows, or the first and last tiles' and every so many between: of each place in a tile, and of most blocks. */
function checkedRows(batch: number): readonly number[] {
  const rows = Array.from({ length: batch }, (_, row) => row);
  if (batch <= 2 * MOST_CHECKED) return rows;
  const step = Math.ceil(batch / (MOST_CHECKED / 2)) | 1;
  return rows.filter((row) => row < MOST_CHECKED / 4 || row >= batch - MOST_CHECKED / 4 || row % step === 0);
}

function rowsOf(values: Float32Array, cols: number, rows: readonly number[]): Float32Array {
  const own = new Float32Array(rows.length * cols);
  rows.forEach((row, r) => {
    own.set(values.subarray(row * cols, (row + 1) * cols), r * cols);
  });
  return own;
}

describe('the dense operations on a GPU', { skip: reason !== undefined && `no GPU: ${reason}` }, () => {
  if (reason !== undefined) return;
  const device = new CudaDevice(cudaDriver());
  const stream = new CudaStream(device);
  const majorVersion = Math.floor(device.driver.version / 1000);
  const compiler = new Nvrtc({ majorVersion });
  const cublasLt = new CublasLt({ majorVersion });
  const cache = new KernelCache();
  const pool = BlockPool.ofDevice(device, POOL_BYTES);
  after(() => {
    pool[Symbol.dispose]();
    stream[Symbol.dispose]();
    assert.deepEqual(
      Object.values(device.live().counts).filter((count) => count > 0),
      [],
      'everything was given back',
    );
    device[Symbol.dispose]();
  });

  /** A matrix amid sentinels: `pad` columns of them on both sides decide how its rows are aligned. */
  class Framed implements Disposable {
    readonly matrix: DeviceMatrix;
    readonly #memory: DeviceMemory;
    readonly #host: Elements;
    readonly #pad: number;

    constructor(
      rows: number,
      cols: number,
      pad: number,
      values?: Float32Array,
      format: ElementFormat = 'float32',
    ) {
      const stride = cols + 2 * pad;
      this.#pad = pad;
      this.#host = newElements(format, Math.max(1, rows * stride)).fill(encoded(format, SENTINEL));
      values?.forEach((x, i) => {
        this.#host[Math.floor(i / cols) * stride + pad + (i % cols)] = encoded(format, x);
      });
      const { byteLength, BYTES_PER_ELEMENT } = this.#host;
      this.#memory = new DeviceMemory(device, byteLength);
      stream.copyToDevice(this.#memory.address(), addressOf(this.#host), byteLength);
      stream.synchronize();
      this.matrix = { address: this.#memory.address(BYTES_PER_ELEMENT * pad), format, rows, cols, stride };
    }

    /** Reads the values; `padding` columns behind must be zeros, the rest of the frame as it was. */
    values(padding = 0): Float32Array {
      const { rows, cols, stride, format } = this.matrix;
      stream.copyToHost(addressOf(this.#host), this.#memory.address(), this.#host.byteLength);
      stream.synchronize();
      const values = new Float32Array(rows * cols);
      for (let i = 0; i < rows * stride; i++) {
        const [row, col] = [Math.floor(i / stride), (i % stride) - this.#pad];
        const x = at(this.#host, i);
        if (col >= 0 && col < cols) values[row * cols + col] = decoded(format, x);
        else {
          const expected = col >= cols && col < cols + padding ? 0 : encoded(format, SENTINEL);
          if (x !== expected) assert.fail(`row ${row}: something was written beside the output`);
        }
      }
      return values;
    }

    [Symbol.dispose](): void {
      this.#memory[Symbol.dispose]();
    }
  }

  /** Runs at once, or as a graph that is launched twice. */
  function run(captured: boolean, work: () => void): void {
    if (!captured) {
      work();
      return;
    }
    using graph = stream.capture(work);
    graph.launch(stream);
    graph.launch(stream);
    stream.synchronize();
  }

  interface Problem {
    readonly shape: readonly [batch: number, inputs: number, outputs: number];
    readonly activation: Activation;
    readonly biased: boolean;
    readonly crossed: boolean;
    /** 0 and 8: rows of a multiple of 8 columns are aligned to 16 bytes; 3: to an element. */
    readonly pad: number;
    readonly captured: boolean;
    /** Of what is read and written; default: float32. */
    readonly formats?: readonly [input: ElementFormat, output: ElementFormat];
    /** What must have been chosen; default: cuBLASLt, but for few sums. */
    readonly choice?: RegExp;
  }

  /** `draw` gives values; `rounding`: of a factor, and of a sum, both 0 for exact results. */
  function checkLinear(
    kernels: DenseKernels,
    problem: Problem,
    draw: (count: number) => Float32Array,
    [factorRounding, sumRounding]: readonly [number, number],
  ): void {
    const {
      shape,
      activation,
      biased,
      crossed,
      pad,
      captured,
      formats: [from, to] = ['float32', 'float32'],
    } = problem;
    const [batch, inputs, outputs] = shape;
    const values = { input: draw(batch * inputs), weight: draw(outputs * inputs) };
    const bias = biased ? draw(outputs) : undefined;
    const crosses = crossed ? { x0: draw(batch * outputs), x: draw(batch * outputs) } : undefined;
    using layer = kernels.placeLinear(values.weight, bias, outputs, inputs);
    using input = new Framed(batch, inputs, pad, values.input, from);
    using output = new Framed(batch, outputs, pad, undefined, to);
    using x0 = new Framed(batch, outputs, pad, crosses?.x0, to);
    using x = new Framed(batch, outputs, pad, crosses?.x, to);
    const operation: DeviceLinear = {
      layer,
      input: input.matrix,
      output: output.matrix,
      activation,
      ...(crossed ? { cross: { x0: x0.matrix, x: x.matrix } } : {}),
    };
    const choice = kernels.prepare(operation);
    // A warp a sum is for few sums: everything else would be far too slow.
    if (problem.choice !== undefined) assert.match(choice, problem.choice, `${shape}`);
    else if (pad !== 3 && !mayBeDirect(batch, outputs))
      assert.match(choice, /^cuBLASLt/, `${shape} ${activation}`);
    run(captured, () => kernels.linear(stream, operation));
    const checked = checkedRows(batch);
    const ofChecked = (of: Float32Array, cols: number) => rowsOf(of, cols, checked);
    const plain = { batch: checked.length, inputs, outputs, activation } as const;
    const own = {
      input: ofChecked(values.input, inputs),
      weight: values.weight,
      bias,
      cross: crosses && { x0: ofChecked(crosses.x0, outputs), x: ofChecked(crosses.x, outputs) },
    };
    const expected = referenceLinear({ ...plain, ...own });
    const magnitude = referenceLinear({
      ...plain,
      activation: 'none',
      input: own.input.map(Math.abs),
      weight: own.weight.map(Math.abs),
      bias: bias?.map(Math.abs),
      cross: own.cross && { x0: own.cross.x0.map(Math.abs), x: own.cross.x.map(Math.abs) },
    });
    // Both factors are rounded once, in 16 bits a bias, and what a cross takes, too; tensor cores may drop bits where float32 rounds them.
    const narrow = to === 'float32' ? 0 : 4 * factorRounding;
    const bound = 2.1 * factorRounding + narrow + 2 * (inputs + 4) * sumRounding;
    const ofSigmoid = activation === 'sigmoid' ? 2 ** -22 : 0;
    const exact = factorRounding === 0 && sumRounding === 0;
    const last = (y: number) => (to === 'float32' || exact ? 0 : 1.01 * roundingOf(to, y));
    const what = `${shape} ${JSON.stringify({ activation, biased, crossed, pad, captured, from, to })}`;
    assertWithin(
      ofChecked(output.values(), outputs),
      exact ? expected.map((y) => roundedTo(to, y)) : expected,
      (i) => bound * at(magnitude, i) + ofSigmoid + last(at(expected, i)),
      what,
    );
  }

  for (const precision of UNSCALED_PRECISIONS) {
    const format = activationFormat(precision);
    const pairs = formatsOf(precision).flatMap((from) =>
      formatsOf(precision).map((to) => [from, to] as const),
    );
    const factorRounding = precision === 'float32' ? 0 : 2 ** -factorBits(precision);
    let kernels: DenseKernels;

    describe(precision, () => {
      before(async () => {
        kernels = await DenseKernels.open(device, {
          precision,
          compiler,
          cache,
          cublasLt,
          settle: () => stream.synchronize(),
          pool,
        });
      });
      after(() => {
        kernels[Symbol.dispose]();
      });

      test('linear: every shape and batch is exact on integers', () => {
        const random = new Random(81);
        for (const [inputs, outputs] of LAYERS) {
          for (const batch of BATCHES.filter((batch) => batch * inputs * outputs <= 1.5e6)) {
            const activation = batch % 2 === 0 ? 'relu' : 'none';
            const problem = { activation, biased: batch % 2 === 1, crossed: false, captured: false } as const;
            for (const pad of [0, 3]) {
              const shape = [batch, inputs, outputs] as const;
              for (const formats of pairs)
                checkLinear(
                  kernels,
                  { ...problem, shape, pad, formats },
                  (n) => random.integers(n, 8),
                  [0, 0],
                );
            }
          }
        }
      });

      test('linear: reals, every activation and cross, also from a graph', () => {
        const random = new Random(82);
        for (const [inputs, outputs] of LAYERS) {
          const shape = [13, inputs, outputs] as const;
          for (const [activation, biased, crossed] of [
            ['none', true, false],
            ['relu', false, false],
            ['relu', true, false],
            ['sigmoid', true, false],
            ['none', true, true],
            ['none', false, true],
          ] as const) {
            for (const captured of [false, true]) {
              for (const formats of pairs) {
                const problem = {
                  shape,
                  activation,
                  biased,
                  crossed,
                  pad: captured ? 8 : 3,
                  captured,
                  formats,
                };
                checkLinear(kernels, problem, (n) => random.reals(n), [factorRounding, FLOAT32_ROUNDING]);
              }
            }
          }
        }
      });

      test('linear: models’ layers, batches of 1, 128 and 2,048', () => {
        const random = new Random(83);
        for (const [batch, inputs, outputs] of [
          [1, 1024, 512],
          [128, 512, 256],
          [2048, 64, 1],
          [2048, 13, 64],
          [3, 31503, 128],
          [2048, 512, 3456],
        ] as const) {
          const problem = {
            activation: 'relu',
            biased: true,
            crossed: false,
            pad: 0,
            captured: true,
          } as const;
          const shape = [batch, inputs, outputs] as const;
          for (const formats of pairs)
            checkLinear(kernels, { ...problem, shape, formats }, (n) => random.reals(n), [
              factorRounding,
              FLOAT32_ROUNDING,
            ]);
        }
      });

      const lacks = format === 'float32' || !canMakeCrossProducts(device.properties);
      test('cross layers whole: shapes off the tile, several waves, also from a graph', {
        skip: lacks && 'no 16-bit cross products here',
      }, async () => {
        const random = new Random(88);
        using own = await DenseKernels.open(device, {
          ...{ precision, compiler, cache, cublasLt },
          settle: () => stream.synchronize(),
          pool,
          // No product of the library, no measurement: the first way that there is.
          linearSearch: { candidates: 0, rounds: 0, runs: 0 },
        });
        await own.compileCrosses();
        for (const shape of [
          [9, 8, 16],
          [64, 64, 96],
          [65, 72, 200],
          [333, 168, 1000],
          [1000, 504, 3448],
          [2049, 512, 3456],
          [700, 640, 264],
          [300, 800, 96],
        ] as const) {
          for (const captured of [false, true]) {
            const problem = {
              activation: 'none',
              crossed: true,
              biased: !captured,
              pad: 8,
              captured,
            } as const;
            const formats = [format, format] as const;
            const whole = { ...problem, shape, formats, choice: /^cross product/ };
            if (shape[0] <= 333) checkLinear(own, whole, (n) => random.integers(n, 1), [0, 0]);
            checkLinear(own, whole, (n) => random.reals(n), [factorRounding, FLOAT32_ROUNDING]);
          }
        }
      });

      test('linear: a NaN stays in its sample, and a ReLU keeps it', () => {
        const random = new Random(84);
        for (const [inputs, outputs] of [
          [64, 64],
          [300, 1],
          [257, 130],
        ] as const) {
          for (const activation of ['none', 'relu'] as const) {
            const values = random.reals(40 * inputs);
            values[4 * inputs] = Number.NaN;
            using layer = kernels.placeLinear(random.reals(outputs * inputs), undefined, outputs, inputs);
            using input = new Framed(40, inputs, 0, values, format);
            using output = new Framed(40, outputs, 0, undefined, format);
            const operation = { layer, input: input.matrix, output: output.matrix, activation };
            kernels.prepare(operation);
            kernels.linear(stream, operation);
            output.values().forEach((y, i) => {
              assert.equal(Number.isNaN(y), Math.floor(i / outputs) === 4, `${activation}, element ${i}`);
            });
          }
        }
      });

      function checkDot(
        shape: readonly [batch: number, features: number, dim: number],
        [order, diagonal]: (typeof INTERACTIONS)[number],
        { pad, captured }: { pad: number; captured: boolean },
        draw: (count: number) => Float32Array,
        exact: boolean,
      ): void {
        const [batch, features, dim] = shape;
        const problem = { batch, features, dim, order, diagonal, input: draw(batch * features * dim) };
        const pairsOfSample = (features * (features + (diagonal ? 1 : -1))) / 2;
        using input = new Framed(batch, features * dim, pad, problem.input, format);
        using output = new Framed(batch, pairsOfSample, 3, undefined, format);
        const padding = format === 'float32' ? 0 : 3;
        const matrices = { input: input.matrix, output: { ...output.matrix, padding } };
        run(captured, () => kernels.dotInteraction(stream, { ...matrices, features, dim, order, diagonal }));
        const magnitude = referenceDotInteraction({ ...problem, input: problem.input.map(Math.abs) });
        const bound = exact ? 0 : 2.1 * factorRounding + 2 * (dim + 1) * FLOAT32_ROUNDING;
        const expected = referenceDotInteraction(problem);
        const last = (y: number) => (format === 'float32' || exact ? 0 : 1.01 * roundingOf(format, y));
        assertWithin(
          output.values(padding),
          exact ? expected.map((y) => roundedTo(format, y)) : expected,
          (i) => bound * at(magnitude, i) + last(at(expected, i)),
          `${shape} ${order} ${diagonal}`,
        );
      }

      test('dot interaction: every shape is exact on integers', () => {
        const random = new Random(85);
        for (const features of [1, 2, 3, 8, 9, 27, 31, 32, 33, 64, 65, 128, 129, 200]) {
          for (const dim of [1, 3, 4, 8, 17, 32, 33, 64, 128, 130]) {
            INTERACTIONS.forEach((interaction, i) => {
              // Of so many features, whole samples at a time, where the samples suffice.
              const fewest = features > 128 && dim <= 33 ? 40 : 1;
              const shape = [fewest + ((features + dim + i) % 3), features, dim] as const;
              const place = { pad: i % 2 === 0 ? 0 : 3, captured: i === 0 };
              checkDot(shape, interaction, place, (n) => random.integers(n, 8), true);
            });
          }
        }
      });

      test('dot interaction: reals', () => {
        const random = new Random(86);
        for (const shape of [
          [257, 4, 33],
          [13, 27, 16],
          [300, 27, 128],
          [5, 251, 128],
          [40, 251, 32],
        ] as const) {
          for (const interaction of INTERACTIONS) {
            for (const captured of [false, true])
              checkDot(shape, interaction, { pad: 8, captured }, (n) => random.reals(n), false);
          }
        }
        // More samples than an H200 has blocks for at once: some take two.
        const [first] = INTERACTIONS;
        checkDot([141, 130, 128], first, { pad: 8, captured: false }, (n) => random.reals(n), false);
      });

      test('copies of any alignment', () => {
        const random = new Random(87);
        for (const [rows, cols] of [
          [1, 1],
          [7, 33],
          [2048, 128],
          [3, 5000],
        ] as const) {
          for (const pad of [0, 3, 8]) {
            const values = random.reals(rows * cols);
            for (const [from, to] of pairs) {
              using input = new Framed(rows, cols, pad, values, from);
              using output = new Framed(rows, cols, 8 - (pad % 8), undefined, to);
              kernels.copy(stream, { input: input.matrix, output: output.matrix });
              assert.deepEqual(
                output.values(),
                values.map((x) => roundedTo(to, roundedTo(from, x))),
              );
            }
          }
        }
      });
    });
  }
});
