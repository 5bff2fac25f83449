/** The dense operations on a GPU, in every precision, against the reference; launched by themselves and from graphs. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Activation } from '../../src/backend/backend.ts';
import { DenseKernels } from '../../src/backend/cuda/dense/dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix } from '../../src/backend/cuda/dense/dense-operation.ts';
import { factorBits } from '../../src/backend/cuda/dense/dense-source.ts';
import { mayBeDirect } from '../../src/backend/cuda/dense/linear-choice.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDevices, cudaDriver } from '../../src/cuda/discover.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { referenceDotInteraction, referenceLinear } from '../../src/dense/reference.ts';
import { UNSCALED_PRECISIONS } from '../../src/device.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { BATCHES, INTERACTIONS, LAYERS } from '../conformance/dense.ts';
import { assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import { Random } from '../support/random.ts';

const found = cudaDevices();
const reason = 'reason' in found ? found.reason : found.missing[0]?.reason.message;
const SENTINEL = 12345.5;

describe('the dense operations on a GPU', { skip: reason !== undefined && `no GPU: ${reason}` }, () => {
  if (reason !== undefined) return;
  const device = new CudaDevice(cudaDriver());
  const stream = new CudaStream(device);
  const majorVersion = Math.floor(device.driver.version / 1000);
  const compiler = new Nvrtc({ majorVersion });
  const cublasLt = new CublasLt({ majorVersion });
  const cache = new KernelCache();
  after(() => {
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
    readonly #host: Float32Array;
    readonly #pad: number;

    constructor(rows: number, cols: number, pad: number, values?: Float32Array) {
      const stride = cols + 2 * pad;
      this.#pad = pad;
      this.#host = new Float32Array(new ArrayBuffer(4 * Math.max(1, rows * stride))).fill(SENTINEL);
      for (let r = 0; values !== undefined && r < rows; r++)
        this.#host.set(values.subarray(r * cols, (r + 1) * cols), r * stride + pad);
      this.#memory = new DeviceMemory(device, this.#host.byteLength);
      stream.copyToDevice(this.#memory.address(), addressOf(this.#host), this.#host.byteLength);
      stream.synchronize();
      this.matrix = { address: this.#memory.address(4 * pad), rows, cols, stride };
    }

    /** Reads the values; the frame must be as it was. */
    values(): Float32Array {
      const { rows, cols, stride } = this.matrix;
      stream.copyToHost(addressOf(this.#host), this.#memory.address(), this.#host.byteLength);
      stream.synchronize();
      const values = new Float32Array(rows * cols);
      for (let r = 0; r < rows; r++) {
        const row = this.#host.subarray(r * stride, (r + 1) * stride);
        const frame = [...row.subarray(0, this.#pad), ...row.subarray(this.#pad + cols)];
        assert.ok(
          frame.every((x) => x === SENTINEL),
          `row ${r}: something was written beside the output`,
        );
        values.set(row.subarray(this.#pad, this.#pad + cols), r * cols);
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
    /** 0 and 4: rows of a multiple of 4 columns are aligned to 16 bytes; 3: to 4 bytes. */
    readonly pad: number;
    readonly captured: boolean;
  }

  /** `draw` gives values; `rounding`: of a factor, and of a sum, both 0 for exact results. */
  function checkLinear(
    kernels: DenseKernels,
    problem: Problem,
    draw: (count: number) => Float32Array,
    [factorRounding, sumRounding]: readonly [number, number],
  ): void {
    const { shape, activation, biased, crossed, pad, captured } = problem;
    const [batch, inputs, outputs] = shape;
    const values = { input: draw(batch * inputs), weight: draw(outputs * inputs) };
    const bias = biased ? draw(outputs) : undefined;
    const crosses = crossed ? { x0: draw(batch * outputs), x: draw(batch * outputs) } : undefined;
    using layer = kernels.placeLinear(values.weight, bias, outputs, inputs);
    using input = new Framed(batch, inputs, pad, values.input);
    using output = new Framed(batch, outputs, pad);
    using x0 = new Framed(batch, outputs, pad, crosses?.x0);
    using x = new Framed(batch, outputs, pad, crosses?.x);
    const operation: DeviceLinear = {
      layer,
      input: input.matrix,
      output: output.matrix,
      activation,
      ...(crossed ? { cross: { x0: x0.matrix, x: x.matrix } } : {}),
    };
    const choice = kernels.prepare(operation);
    // A warp a sum is for few sums: everything else would be far too slow.
    if (pad !== 3 && !mayBeDirect(batch, outputs))
      assert.match(choice, /^cuBLASLt/, `${shape} ${activation}`);
    run(captured, () => kernels.linear(stream, operation));
    const plain = { batch, inputs, outputs, activation } as const;
    const expected = referenceLinear({ ...plain, ...values, bias, cross: crosses });
    const magnitude = referenceLinear({
      ...plain,
      activation: 'none',
      input: values.input.map(Math.abs),
      weight: values.weight.map(Math.abs),
      bias: bias?.map(Math.abs),
      cross: crosses && { x0: crosses.x0.map(Math.abs), x: crosses.x.map(Math.abs) },
    });
    // Both factors are rounded once; tensor cores may drop bits where float32 rounds them.
    const bound = 2.1 * factorRounding + 2 * (inputs + 4) * sumRounding;
    const own = activation === 'sigmoid' ? 2 ** -22 : 0;
    const what = `${shape} ${JSON.stringify({ activation, biased, crossed, pad, captured })}`;
    assertWithin(output.values(), expected, (i) => bound * (magnitude[i] as number) + own, what);
  }

  for (const precision of UNSCALED_PRECISIONS) {
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
              checkLinear(kernels, { ...problem, shape, pad }, (n) => random.integers(n, 8), [0, 0]);
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
              const problem = { shape, activation, biased, crossed, pad: captured ? 4 : 3, captured };
              checkLinear(kernels, problem, (n) => random.reals(n), [factorRounding, FLOAT32_ROUNDING]);
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
        ] as const) {
          const problem = {
            activation: 'relu',
            biased: true,
            crossed: false,
            pad: 0,
            captured: true,
          } as const;
          const shape = [batch, inputs, outputs] as const;
          checkLinear(kernels, { ...problem, shape }, (n) => random.reals(n), [
            factorRounding,
            FLOAT32_ROUNDING,
          ]);
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
            using input = new Framed(40, inputs, 0, values);
            using output = new Framed(40, outputs, 0);
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
        const pairs = (features * (features + (diagonal ? 1 : -1))) / 2;
        using input = new Framed(batch, features * dim, pad, problem.input);
        using output = new Framed(batch, pairs, 3);
        const matrices = { input: input.matrix, output: output.matrix };
        run(captured, () => kernels.dotInteraction(stream, { ...matrices, features, dim, order, diagonal }));
        const magnitude = referenceDotInteraction({ ...problem, input: problem.input.map(Math.abs) });
        const bound = exact ? 0 : 2.1 * factorRounding + 2 * (dim + 1) * FLOAT32_ROUNDING;
        assertWithin(
          output.values(),
          referenceDotInteraction(problem),
          (i) => bound * (magnitude[i] as number),
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
              checkDot(shape, interaction, { pad: 4, captured }, (n) => random.reals(n), false);
          }
        }
        // More samples than an H200 has blocks for at once: some take two.
        const [first] = INTERACTIONS;
        checkDot([141, 130, 128], first, { pad: 4, captured: false }, (n) => random.reals(n), false);
      });

      test('copies of any alignment', () => {
        const random = new Random(87);
        for (const [rows, cols] of [
          [1, 1],
          [7, 33],
          [2048, 128],
          [3, 5000],
        ] as const) {
          for (const pad of [0, 3, 4]) {
            const values = random.reals(rows * cols);
            using input = new Framed(rows, cols, pad, values);
            using output = new Framed(rows, cols, 4 - (pad % 4));
            kernels.copy(stream, { input: input.matrix, output: output.matrix });
            assert.deepEqual(output.values(), values);
          }
        }
      });
    });
  }
});
