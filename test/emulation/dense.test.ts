/** The dense kernels on the host, against the reference: every precision, shape, alignment. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { DENSE_PRECISIONS, type DensePrecision } from '../../src/backend/backend.ts';
import {
  ACTIVATION_NUMBER,
  encodeConvertRows,
  encodeDirectLinear,
  encodeDotInteraction,
  encodeFinishLinear,
} from '../../src/backend/cuda/dense-params.ts';
import {
  convertRowsSource,
  denseSources,
  directLaunch,
  directLinearSource,
  dotInteractionSource,
  dotLaunch,
  dotSamplesLaunch,
  dotSamplesSource,
  dotTile,
  factorBits,
  finishLinearSource,
  isMadeOfSamples,
  type PackWidth,
  packLaunch,
} from '../../src/backend/cuda/dense-source.ts';
import { interactionPairs, referenceDotInteraction, referenceLinear } from '../../src/dense/reference.ts';
import type { LaunchShape } from '../../src/ffi/cuda-structs.ts';
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';
import { assertSameValues, assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { addressOf, type Emulator, emulate, type HostArray, refuseEmulation } from './emulator.ts';

const skip = refuseEmulation();
let emulator: Emulator;

before(async () => {
  if (skip !== undefined) return;
  const sources = DENSE_PRECISIONS.flatMap((precision) => denseSources(precision, true));
  emulator = await emulate([...new Map(sources.map((source) => [source.id, source])).values()]);
});

const SENTINEL = 12345.5;

/** A float32 matrix that begins at an element `offset` of an array which is aligned to 16 bytes. */
class HostMatrix {
  readonly array: Float32Array;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly stride: number,
    readonly offset: number,
    values?: Float32Array,
  ) {
    this.array = new Float32Array(new ArrayBuffer(4 * (offset + rows * stride + 4))).fill(SENTINEL);
    assert.equal(addressOf(this.array) % 16n, 0n);
    if (values !== undefined)
      for (let r = 0; r < rows; r++)
        this.array.set(values.subarray(r * cols, (r + 1) * cols), offset + r * stride);
  }

  get address(): bigint {
    return addressOf(this.array) + BigInt(4 * this.offset);
  }

  /** The values; what stands beside them must not have changed. */
  values(): Float32Array {
    const values = new Float32Array(this.rows * this.cols);
    this.array.forEach((x, i) => {
      const at = i - this.offset;
      const [row, col] = [Math.floor(at / this.stride), at - Math.floor(at / this.stride) * this.stride];
      if (at >= 0 && row < this.rows && col < this.cols) values[row * this.cols + col] = x;
      else assert.equal(x, SENTINEL, `element ${i}, beside the matrix, was written`);
    });
    return values;
  }
}

/** A matrix whose rows are aligned for `width`, and for no more. */
function framed(width: PackWidth, rows: number, cols: number, values?: Float32Array): HostMatrix {
  const stride = width === 4 ? Math.ceil(cols / 4) * 4 + 4 : cols + 3;
  return new HostMatrix(rows, cols, stride, width === 4 ? 4 : 1, values);
}

function launch(
  kernel: string,
  { grid, block }: LaunchShape,
  params: BigInt64Array,
  reads: readonly HostArray[],
  writes: readonly HostArray[],
  backwards = false,
): void {
  if (grid[0] === 0) return;
  const shape = { grid: [grid[0], grid[1]], block: [block[0], block[1]] } as const;
  emulator.launch(kernel, { ...shape, params, reads, writes, backwards });
}

/** The most that one rounding of a factor changes it by, of its size. */
const factorRounding = (precision: DensePrecision) =>
  precision === 'float32' ? 0 : 2 ** -factorBits(precision);

interface DotCase {
  readonly batch: number;
  readonly features: number;
  readonly dim: number;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
}

function dotOnDevice(
  precision: DensePrecision,
  { batch, features, dim, diagonal, order }: DotCase,
  input: Float32Array,
  width: PackWidth,
  backwards: boolean,
  /** In whole samples, by so many blocks, to an output of this alignment; else in tiles. */
  samples?: { readonly blocks: number; readonly offset: number; readonly stride: number },
): Float32Array {
  const pairs = interactionPairs(features, diagonal, order).length;
  const z = framed(width, batch, features * dim, input);
  const output =
    samples === undefined
      ? framed(1, batch, pairs)
      : new HostMatrix(batch, pairs, pairs + samples.stride, samples.offset);
  const params = encodeDotInteraction({
    input: z.address,
    inputStride: z.stride,
    features,
    dim,
    diagonal: diagonal ? 1 : 0,
    upper: order === 'upper' ? 1 : 0,
    output: output.address,
    outputStride: output.stride,
    batch,
  });
  const [{ kernel }, shape] =
    samples === undefined
      ? [dotInteractionSource(precision, dotTile(features), width), dotLaunch(batch, features)]
      : [dotSamplesSource(precision), dotSamplesLaunch(batch, pairs, samples.blocks)];
  launch(kernel, shape, params, [z.array], [output.array], backwards);
  return output.values();
}

const ORDERS = [
  ['lower', false],
  ['lower', true],
  ['upper', false],
  ['upper', true],
] as const;

for (const precision of DENSE_PRECISIONS) {
  test(`dot interaction, ${precision}: exact on integers, every shape`, { skip }, () => {
    const random = new Random(1);
    const shapes = [
      ...[1, 2, 3, 8, 9, 27, 32].flatMap((features) =>
        [1, 4, 7, 32, 33, 68].map((dim) => [features, dim] as const),
      ),
      ...([
        [33, 5],
        [64, 36],
        [65, 16],
        [128, 3],
        [129, 8],
        [160, 4],
      ] as const),
    ];
    shapes.forEach(([features, dim], s) => {
      ORDERS.forEach(([order, diagonal], o) => {
        const problem = { batch: 1 + ((s + o) % 2), features, dim, diagonal, order };
        const input = random.integers(problem.batch * features * dim, 8);
        const widths: PackWidth[] = dim % 4 === 0 ? [1, 4] : [1];
        const expected = referenceDotInteraction({ ...problem, input });
        for (const width of widths) {
          const out = dotOnDevice(precision, problem, input, width, (s + o) % 3 === 0);
          const what = `${features} × ${dim}, ${order}${diagonal ? ' with diagonal' : ''}, width ${width}`;
          assertSameValues(
            out.map((x) => x + 0),
            expected.map((x) => x + 0),
            what,
          );
        }
      });
    });
  });

  test(`dot interaction, ${precision}: whole samples, exact on integers`, { skip }, () => {
    const random = new Random(6);
    // Squares of 64 features, the last one full, begun, or empty; chunks of 32 columns, more or fewer than the stages.
    for (const [s, [batch, features, dim, blocks]] of (
      [
        [1, 129, 4, 1],
        [3, 160, 36, 1],
        [2, 192, 32, 2],
        [3, 193, 68, 2],
        [5, 251, 8, 2],
        [2, 256, 100, 1],
      ] as const
    ).entries()) {
      ORDERS.forEach(([order, diagonal], o) => {
        const problem = { batch, features, dim, diagonal, order };
        assert.ok(isMadeOfSamples({ batch: 33, features, dim }, 4, 132));
        const input = random.integers(batch * features * dim, 8);
        const place = { blocks, offset: (s + o) % 4, stride: (s + 2 * o) % 5 };
        const out = dotOnDevice(precision, problem, input, 4, (s + o) % 2 === 0, place);
        const expected = referenceDotInteraction({ ...problem, input });
        const what = `${features} × ${dim}, ${order}${diagonal ? ' with diagonal' : ''}`;
        assertSameValues(
          out.map((x) => x + 0),
          expected.map((x) => x + 0),
          what,
        );
      });
    }
  });

  test(`dot interaction, ${precision}: reals, 27 and 251 features of 128`, { skip }, () => {
    const random = new Random(2);
    for (const features of [27, 251]) {
      const problem = { batch: 1, features, dim: 128, diagonal: false, order: 'lower' } as const;
      const input = random.reals(features * 128);
      const expected = referenceDotInteraction({ ...problem, input });
      const magnitude = referenceDotInteraction({ ...problem, input: input.map(Math.abs) });
      const out = dotOnDevice(precision, problem, input, 4, false);
      if (isMadeOfSamples({ batch: 33, features, dim: 128 }, 4, 132)) {
        const place = { blocks: 132, offset: 0, stride: 0 };
        assert.deepEqual(dotOnDevice(precision, problem, input, 4, false, place), out, 'bit for bit');
      }
      // Both factors are rounded; then each of the products and sums.
      const bound = 2.1 * factorRounding(precision) + 129 * FLOAT32_ROUNDING;
      assertWithin(out, expected, (i) => bound * (magnitude[i] as number), `${features} features`);
    }
  });
}

test('dot interaction: a NaN stays in its sample and its pairs', { skip }, () => {
  const random = new Random(3);
  for (const precision of DENSE_PRECISIONS) {
    for (const [features, samples] of [
      [40, undefined],
      [130, { blocks: 1, offset: 0, stride: 0 }],
    ] as const) {
      const problem = { batch: 3, features, dim: 8, diagonal: false, order: 'lower' } as const;
      const input = random.reals(3 * features * 8);
      input[features * 8 + 5 * 8 + 2] = Number.NaN;
      const out = dotOnDevice(precision, problem, input, 4, false, samples);
      const pairs = interactionPairs(features, false, 'lower');
      out.forEach((x, i) => {
        const [a, b] = pairs[i % pairs.length] as [number, number];
        const touched = Math.floor(i / pairs.length) === 1 && (a === 5 || b === 5);
        assert.equal(Number.isNaN(x), touched, `${precision}: sample and pair ${i}`);
      });
    }
  }
});

/** The stored form of a weight [outputs, inputs], rows padded to a multiple of 8, and what it then stands for. */
function storedWeight(precision: DensePrecision, weight: Float32Array, inputs: number) {
  const stride = Math.ceil(inputs / 8) * 8;
  const outputs = weight.length / inputs;
  const half = precision === 'float16' || precision === 'bfloat16';
  const count = outputs * stride;
  const array = half
    ? new Uint16Array(new ArrayBuffer(2 * count))
    : new Float32Array(new ArrayBuffer(4 * count));
  const [encode, decode] =
    precision === 'float16'
      ? [numberToFloat16, float16ToNumber]
      : precision === 'bfloat16'
        ? [numberToBfloat16, bfloat16ToNumber]
        : [(x: number) => x, (x: number) => x];
  const values = weight.map((x, i) => {
    array[Math.floor(i / inputs) * stride + (i % inputs)] = encode(x);
    return decode(encode(x));
  });
  return { array, stride, values };
}

const FINISHES = [
  { activation: 'none', biased: false, crossed: false },
  { activation: 'relu', biased: true, crossed: false },
  { activation: 'sigmoid', biased: true, crossed: false },
  { activation: 'none', biased: true, crossed: true },
  { activation: 'none', biased: false, crossed: true },
] as const;

for (const precision of DENSE_PRECISIONS) {
  test(`direct linear layers, ${precision} weights`, { skip }, () => {
    const random = new Random(4);
    for (const [batch, inputs, outputs] of [
      [1, 1, 1],
      [3, 64, 1],
      [2, 13, 9],
      [1, 260, 7],
      [5, 300, 3],
      [9, 4, 5],
    ] as const) {
      for (const [f, { activation, biased, crossed }] of FINISHES.entries()) {
        for (const width of inputs % 4 === 0 ? ([1, 4] as const) : ([1] as const)) {
          const input = framed(width, batch, inputs, random.reals(batch * inputs));
          const weight = storedWeight(precision, random.reals(outputs * inputs), inputs);
          const bias = random.reals(outputs);
          const x0 = framed(1, batch, outputs, random.reals(batch * outputs));
          const x = framed(1, batch, outputs, random.reals(batch * outputs));
          const inPlace = f % 2 === 1 && crossed;
          const output = inPlace ? x : framed(1, batch, outputs);
          const problem = {
            batch,
            inputs,
            outputs,
            input: input.values(),
            weight: weight.values,
            bias: biased ? bias : undefined,
            activation,
            cross: crossed ? { x0: x0.values(), x: x.values() } : undefined,
          };
          const expected = referenceLinear(problem);
          const params = encodeDirectLinear({
            input: input.address,
            inputStride: input.stride,
            weight: addressOf(weight.array),
            weightStride: weight.stride,
            inputs,
            bias: biased ? addressOf(bias) : 0n,
            activation: ACTIVATION_NUMBER[activation],
            x0: crossed ? x0.address : 0n,
            x0Stride: x0.stride,
            x: crossed ? x.address : 0n,
            xStride: x.stride,
            output: output.address,
            outputStride: output.stride,
            batch,
            outputs,
          });
          const reads = [input.array, weight.array, bias, x0.array, ...(inPlace ? [] : [x.array])];
          const { kernel } = directLinearSource(precision, width);
          launch(kernel, directLaunch(batch, outputs), params, reads, [output.array]);
          const bound = (inputs + 6) * FLOAT32_ROUNDING * (inputs + 2);
          assertWithin(output.values(), expected, () => bound, `${batch} × ${inputs} → ${outputs}, ${f}`);
        }
      }
    }
  });
}

test('finishing sums: bias, activation, cross; in place, any alignment', { skip }, () => {
  const random = new Random(5);
  for (const [batch, outputs] of [
    [1, 1],
    [3, 4],
    [5, 33],
    [2, 260],
    [300, 8],
  ] as const) {
    for (const { activation, biased, crossed } of FINISHES) {
      for (const width of outputs % 4 === 0 ? ([1, 4] as const) : ([1] as const)) {
        const sums = framed(width, batch, outputs, random.reals(batch * outputs));
        const bias = Float32Array.from(random.reals(outputs));
        const x0 = framed(width, batch, outputs, random.reals(batch * outputs));
        const x = framed(width, batch, outputs, random.reals(batch * outputs));
        const output = crossed ? x : sums;
        // One input of weight 1 per output would be a matrix: the sums are the layer's without one.
        const expected = referenceFinish(sums.values(), outputs, biased ? bias : undefined, activation, {
          x0: x0.values(),
          x: x.values(),
          crossed,
        });
        const params = encodeFinishLinear({
          sums: sums.address,
          sumsStride: sums.stride,
          bias: biased ? addressOf(bias) : 0n,
          activation: ACTIVATION_NUMBER[activation],
          x0: crossed ? x0.address : 0n,
          x0Stride: x0.stride,
          x: crossed ? x.address : 0n,
          xStride: x.stride,
          output: output.address,
          outputStride: output.stride,
          batch,
          outputs,
        });
        const { kernel } = finishLinearSource(width);
        const written = [...new Set([sums.array, output.array])];
        const shape = packLaunch(batch, outputs, width);
        launch(kernel, shape, params, [bias, x0.array, ...(crossed ? [] : [x.array])], written);
        assertWithin(output.values(), expected, () => 2 ** -21, `${batch} × ${outputs}, ${activation}`);
      }
    }
  }
});

/** The reference of a layer whose products are given. */
function referenceFinish(
  sums: Float32Array,
  outputs: number,
  bias: Float32Array | undefined,
  activation: 'none' | 'relu' | 'sigmoid',
  { x0, x, crossed }: { x0: Float32Array; x: Float32Array; crossed: boolean },
): Float64Array {
  // Each row is a layer of one input: the sums as its weights, 1 as its input.
  const batch = sums.length / outputs;
  const rows = Array.from({ length: batch }, (_, b) => {
    const row = (values: Float32Array) => values.subarray(b * outputs, (b + 1) * outputs);
    const cross = crossed ? { x0: row(x0), x: row(x) } : undefined;
    const input = Float32Array.of(1);
    return [
      ...referenceLinear({ batch: 1, inputs: 1, outputs, input, weight: row(sums), bias, activation, cross }),
    ];
  });
  return Float64Array.from(rows.flat());
}

test('activations at their limits', { skip }, () => {
  const values = Float32Array.of(NaN, Infinity, -Infinity, 100, -100, 90, -90, 0, 1e-30, 3.4e38, -3.4e38);
  for (const activation of ['relu', 'sigmoid'] as const) {
    const sums = new HostMatrix(1, values.length, values.length, 0, values);
    const params = encodeFinishLinear({
      sums: sums.address,
      sumsStride: sums.stride,
      bias: 0n,
      activation: ACTIVATION_NUMBER[activation],
      x0: 0n,
      x0Stride: 0,
      x: 0n,
      xStride: 0,
      output: sums.address,
      outputStride: sums.stride,
      batch: 1,
      outputs: values.length,
    });
    launch(finishLinearSource(1).kernel, packLaunch(1, values.length, 1), params, [], [sums.array]);
    sums.values().forEach((y, i) => {
      const x = values[i] as number;
      const expected = activation === 'relu' ? Math.max(0, x) : 1 / (1 + Math.exp(-x));
      if (Number.isNaN(x)) assert.ok(Number.isNaN(y), `${activation}(NaN)`);
      else if (activation === 'relu') assert.equal(y, expected);
      else assert.ok(Math.abs(y - expected) <= Math.max(2 ** -22 * expected, 1e-38), `sigmoid(${x}) is ${y}`);
    });
  }
});

test('rows are converted to the nearest, and copied as they are', { skip }, () => {
  const random = new Random(6);
  const special = [
    0,
    -0,
    1,
    65504,
    65519,
    65520,
    -7e4,
    1e-8,
    2 ** -25,
    3 * 2 ** -25,
    1 / 3,
    Infinity,
    -Infinity,
    3.4e38,
  ];
  for (const precision of ['float32', 'float16', 'bfloat16'] as const) {
    for (const [rows, cols] of [
      [1, special.length],
      [3, 8],
      [2, 33],
      [40, 4],
    ] as const) {
      for (const [width, padded] of [
        [1, cols],
        [1, cols + 3],
        [4, Math.ceil(cols / 4) * 4],
        [4, Math.ceil(cols / 8) * 8 + 4],
      ] as const) {
        const drawn = rows === 1 ? Float32Array.from(special) : random.reals(rows * cols);
        const input = framed(width, rows, cols, drawn);
        const stride = Math.ceil(padded / 8) * 8;
        const half = precision !== 'float32';
        const output = half
          ? new Uint16Array(new ArrayBuffer(2 * rows * stride))
          : new Float32Array(new ArrayBuffer(4 * rows * stride));
        const params = encodeConvertRows({
          input: input.address,
          inputStride: input.stride,
          output: addressOf(output),
          outputStride: stride,
          rows,
          columns: cols,
          outputColumns: padded,
        });
        const { kernel } = convertRowsSource(precision, width);
        output.fill(7);
        launch(kernel, packLaunch(rows, padded, width), params, [input.array], [output]);
        const encode = { float32: (x: number) => x, float16: numberToFloat16, bfloat16: numberToBfloat16 };
        output.forEach((x, i) => {
          const [row, col] = [Math.floor(i / stride), i % stride];
          const from = drawn[row * cols + col] as number;
          const expected = col < cols ? encode[precision](from) : col < padded ? 0 : 7;
          assert.equal(x, expected, `${precision} of ${from}`);
        });
      }
    }
  }
});
