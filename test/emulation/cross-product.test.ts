/** The product of a cross layer with its end on the host, against sums in float64. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  CROSS_COLUMNS,
  type CrossColumns,
  crossLaunch,
  crossProductSource,
  crossProductWords,
  crossSharedBytes,
  type HalfFormat,
  INPUT_TILE,
} from '../../src/backend/cuda/dense/cross-product.ts';
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';
import { Random } from '../support/random.ts';
import { addressOf, type Emulator, emulate, refuseEmulation } from './emulator.ts';
import { launch } from './host-matrix.ts';

const FORMATS: Readonly<Record<HalfFormat, { encode(x: number): number; decode(bits: number): number }>> = {
  float16: { encode: numberToFloat16, decode: float16ToNumber },
  bfloat16: { encode: numberToBfloat16, decode: bfloat16ToNumber },
};
const FORMAT_NAMES = ['float16', 'bfloat16'] as const;

const skip = refuseEmulation();
let emulator: Emulator;

before(async () => {
  if (skip === undefined)
    emulator = await emulate(
      FORMAT_NAMES.flatMap((format) => CROSS_COLUMNS.map((columns) => crossProductSource(format, columns))),
    );
});

/** The bits that stand beside a matrix: a NaN. */
const SENTINEL = 0xfff1;

/** A matrix of 16-bit elements whose rows are aligned to 16 bytes and no more, amid sentinels. */
class HalfMatrix {
  readonly array: Uint16Array;
  readonly stride: number;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly bits: Uint16Array = new Uint16Array(rows * cols).fill(SENTINEL),
  ) {
    this.stride = cols + 8;
    this.array = new Uint16Array(new ArrayBuffer(2 * (rows + 1) * this.stride)).fill(SENTINEL);
    for (let row = 0; row < rows; row++)
      this.array.set(bits.subarray(row * cols, (row + 1) * cols), 8 + row * this.stride);
  }

  get address(): bigint {
    return addressOf(this.array) + 16n;
  }

  /** The bits; what stands beside them must not have changed. */
  values(): Uint16Array {
    const values = new Uint16Array(this.rows * this.cols);
    for (const [i, bits] of this.array.entries()) {
      const [row, col] = [Math.floor((i - 8) / this.stride), (i - 8 + this.stride) % this.stride];
      if (i >= 8 && row < this.rows && col < this.cols) values[row * this.cols + col] = bits;
      else assert.equal(bits, SENTINEL, `element ${i}, beside the matrix, was written`);
    }
    return values;
  }
}

interface Problem {
  readonly batch: number;
  readonly outputs: number;
  readonly inputs: number;
  readonly biased: boolean;
  /** Whether the output is x. */
  readonly inPlace?: boolean;
}

/** Runs the kernel as a GPU of so many multiprocessors would; sums of small integers, exact in both formats. */
function check(
  format: HalfFormat,
  columns: CrossColumns,
  problem: Problem,
  multiprocessors: number,
  backwards: boolean,
) {
  const { batch, outputs, inputs, biased, inPlace = false } = problem;
  const { encode, decode } = FORMATS[format];
  const random = new Random(batch * 7919 + outputs * 31 + inputs);
  const whole = (count: number, most: number) => random.integers(count, most);
  const placed = (rows: number, cols: number, values: Float32Array) =>
    new HalfMatrix(rows, cols, Uint16Array.from(values, encode));
  const [h, weight] = [whole(batch * inputs, 1), whole(outputs * inputs, 1)];
  const [x0, x] = [whole(batch * outputs, 1), whole(batch * outputs, 3)];
  const bias = whole(outputs, 2);
  const [inputOn, weightOn] = [placed(batch, inputs, h), placed(outputs, inputs, weight)];
  const [x0On, xOn] = [placed(batch, outputs, x0), placed(batch, outputs, x)];
  const output = inPlace ? xOn : new HalfMatrix(batch, outputs);
  const map = new BigUint64Array(16);
  map.set([inputOn.address, BigInt(inputs), BigInt(batch), BigInt(2 * inputOn.stride)]);
  map.set([BigInt(INPUT_TILE.tileColumns), BigInt(INPUT_TILE.tileRows)], 4);
  const words = crossProductWords(map, {
    weight: weightOn.address,
    weightStride: weightOn.stride,
    bias: biased ? addressOf(bias) : 0n,
    x0: x0On.address,
    x0Stride: x0On.stride,
    x: xOn.address,
    xStride: xOn.stride,
    output: output.address,
    outputStride: output.stride,
    batch,
    outputs,
    inputs,
  });
  const reads = [inputOn.array, weightOn.array, x0On.array, bias, ...(inPlace ? [] : [xOn.array])];
  const { kernel } = crossProductSource(format, columns);
  launch(
    emulator,
    kernel,
    crossLaunch(columns, problem, multiprocessors),
    words,
    reads,
    [output.array],
    backwards,
  );
  const made = output.values();
  const what = JSON.stringify({ ...problem, format, columns });
  for (let row = 0; row < batch; row++) {
    for (let column = 0; column < outputs; column++) {
      let sum = biased ? (bias[column] as number) : 0;
      for (let k = 0; k < inputs; k++)
        sum += (h[row * inputs + k] as number) * (weight[column * inputs + k] as number);
      const at = row * outputs + column;
      const expected = (x0[at] as number) * sum + (x[at] as number);
      assert.equal(decode(made[at] as number), expected, what);
    }
  }
}

const PROBLEMS: readonly (Problem & { readonly multiprocessors: number })[] = [
  { batch: 1, outputs: 8, inputs: 8, biased: false, multiprocessors: 132 },
  { batch: 64, outputs: 160, inputs: 64, biased: true, multiprocessors: 1 },
  { batch: 65, outputs: 40, inputs: 72, biased: true, multiprocessors: 2 },
  { batch: 200, outputs: 200, inputs: 136, biased: true, multiprocessors: 2, inPlace: true },
  // More tiles than the ring has stages, and more stages than a tile has chunks: both warp groups, several turns.
  { batch: 460, outputs: 104, inputs: 64, biased: false, multiprocessors: 1 },
  { batch: 330, outputs: 32, inputs: 520, biased: true, multiprocessors: 1 },
];

for (const format of FORMAT_NAMES) {
  test(`cross products, ${format}`, { skip }, () => {
    for (const columns of format === 'float16' ? CROSS_COLUMNS : ([128] as const)) {
      for (const [i, { multiprocessors, ...problem }] of PROBLEMS.entries())
        if (crossSharedBytes(columns, problem.inputs) <= 227 * 1024)
          check(format, columns, problem, multiprocessors, i % 2 === 1);
    }
  });
}
