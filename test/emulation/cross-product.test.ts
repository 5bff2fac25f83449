/** The product of a cross layer with its end on the host, against sums in float64. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  CROSS_COLUMNS,
  CROSS_FACTORS,
  type CrossColumns,
  type CrossFactors,
  crossLaunch,
  crossProductSource,
  crossProductWords,
  crossSharedBytes,
  crossTile,
} from '../../src/backend/cuda/dense/cross-product.ts';
import { floatBits } from '../../src/backend/cuda/dense/dense-library.ts';
import { float8ToNumber, numberToFloat8 } from '../../src/float8.ts';
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';
import { Random } from '../support/random.ts';
import { addressOf, type Emulator, emulate, refuseEmulation } from './emulator.ts';
import { launch } from './host-matrix.ts';

/** A format of elements: its bits and their values. */
interface Coding {
  readonly bytes: 1 | 2;
  encode(x: number): number;
  decode(bits: number): number;
}
const CODINGS: Readonly<Record<CrossFactors, Coding>> = {
  float16: { bytes: 2, encode: numberToFloat16, decode: float16ToNumber },
  bfloat16: { bytes: 2, encode: numberToBfloat16, decode: bfloat16ToNumber },
  float8_e4m3: { bytes: 1, encode: numberToFloat8, decode: float8ToNumber },
};

const skip = refuseEmulation();
let emulator: Emulator;

before(async () => {
  if (skip === undefined)
    emulator = await emulate(
      CROSS_FACTORS.flatMap((factors) =>
        CROSS_COLUMNS.map((columns) => crossProductSource(factors, columns)),
      ),
    );
});

/** The bits that stand beside a matrix: a NaN in every format. */
const SENTINEL = 0xffff;

/** A matrix whose rows are aligned to 16 bytes and no more, amid sentinels. */
class Framed {
  readonly array: Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
  readonly stride: number;
  readonly #bytes: number;
  readonly #frame: number;

  constructor(
    readonly rows: number,
    readonly cols: number,
    { bytes }: Pick<Coding, 'bytes'>,
    bits?: readonly number[],
  ) {
    this.#bytes = bytes;
    this.#frame = 16 / bytes;
    this.stride = Math.ceil(cols / this.#frame) * this.#frame + this.#frame;
    const length = (rows + 1) * this.stride;
    this.array = (bytes === 1 ? new Uint8Array(length) : new Uint16Array(length)).fill(SENTINEL);
    bits?.forEach((own, i) => {
      this.array[this.#frame + Math.floor(i / cols) * this.stride + (i % cols)] = own;
    });
  }

  get address(): bigint {
    return addressOf(this.array) + 16n;
  }

  /** Its map, in tiles of a format. */
  tiles(format: CrossFactors): BigUint64Array {
    const { tileRows, tileColumns } = crossTile(format);
    const words = [this.cols, this.rows, this.#bytes * this.stride, tileColumns, tileRows, this.#bytes];
    const map = new BigUint64Array(16);
    map.set([this.address, ...words.map(BigInt)]);
    return map;
  }

  /** The bits; what stands beside them must not have changed, but for zeros that fill units of `unit` columns. */
  values(unit = 1): number[] {
    const values = new Array<number>(this.rows * this.cols).fill(0);
    const filled = Math.ceil(this.cols / unit) * unit;
    for (const [i, bits] of this.array.entries()) {
      const [row, col] = [
        Math.floor(i / this.stride) - (i % this.stride < this.#frame ? 1 : 0),
        (i - this.#frame + this.stride) % this.stride,
      ];
      if (i >= this.#frame && row < this.rows && col < this.cols) values[row * this.cols + col] = bits;
      else if (i >= this.#frame && row < this.rows && col < filled)
        assert.equal(bits, 0, `element ${i} behind a row`);
      else
        assert.equal(
          bits,
          this.#bytes === 1 ? 0xff : SENTINEL,
          `element ${i}, beside the matrix, was written`,
        );
    }
    return values;
  }
}

interface Problem {
  readonly batch: number;
  readonly outputs: number;
  readonly inputs: number;
  readonly biased: boolean;
  /** What x is: a matrix of its own by default, the output, or x0. */
  readonly x?: 'output' | 'x0';
  /** Whether the output is written in 8 bits too. */
  readonly rounded?: boolean;
  /** … and so alone. */
  readonly alone?: boolean;
}

/** A power of two, so that scaled sums of small integers stay exact. */
const ROUNDED_SCALE = 2 ** -3;

/** Runs the kernel as a GPU of so many multiprocessors would; sums of small integers, exact in all formats. */
function check(
  factors: CrossFactors,
  columns: CrossColumns,
  problem: Problem,
  multiprocessors: number,
  backwards: boolean,
) {
  const { batch, outputs, inputs, biased, rounded = false, alone = false } = problem;
  const isScaled = factors === 'float8_e4m3';
  const format = isScaled ? 'float16' : factors;
  const { decode } = CODINGS[format];
  const random = new Random(batch * 7919 + outputs * 31 + inputs);
  const whole = (count: number, most: number) => random.integers(count, most);
  const placed = (rows: number, cols: number, values: Float32Array, coding: Coding) =>
    new Framed(rows, cols, coding, Array.from(values, coding.encode));
  const h = whole(batch * inputs, 1);
  const weight = whole(outputs * inputs, 1);
  const x0 = whole(batch * outputs, 1);
  const x = problem.x === 'x0' ? x0 : whole(batch * outputs, 3);
  const bias = whole(outputs, 2);
  const powers = (count: number) => Float32Array.from({ length: count }, (_, i) => 2 ** (i % 3));
  const [rowScales, weightScales] = [powers(batch), powers(outputs)];
  const inputOn = placed(batch, inputs, h, CODINGS[factors]);
  const weightOn = placed(outputs, inputs, weight, CODINGS[factors]);
  const x0On = placed(batch, outputs, x0, CODINGS[format]);
  const xOn = problem.x === 'x0' ? x0On : placed(batch, outputs, x, CODINGS[format]);
  const output = problem.x === 'output' ? xOn : new Framed(batch, outputs, CODINGS[format]);
  const inEightBits = new Framed(batch, outputs, CODINGS.float8_e4m3);
  const maps = {
    input: inputOn.tiles(factors),
    x0: x0On.tiles(format),
    x: xOn.tiles(format),
    output: output.tiles(format),
  };
  const words = crossProductWords(maps, {
    weight: weightOn.address,
    weightStride: weightOn.stride,
    bias: biased ? addressOf(bias) : 0n,
    batch,
    outputs,
    inputs,
    rowScales: isScaled ? addressOf(rowScales) : 0n,
    weightScales: isScaled ? addressOf(weightScales) : 0n,
    xIsX0: problem.x === 'x0' ? 1 : 0,
    x0: x0On.address,
    x0Stride: x0On.stride,
    rounded: rounded ? inEightBits.address : 0n,
    roundedStride: inEightBits.stride,
    roundedScale: floatBits(ROUNDED_SCALE),
    roundedAlone: alone ? 1 : 0,
  });
  const apart = problem.x === undefined ? [xOn.array] : [];
  const reads = [inputOn.array, weightOn.array, x0On.array, bias, rowScales, weightScales, ...apart];
  const { kernel } = crossProductSource(factors, columns);
  const shape = crossLaunch(factors, columns, problem, multiprocessors);
  launch(emulator, kernel, shape, words, reads, [output.array, inEightBits.array], backwards);
  const [made, small] = [output.values(), inEightBits.values(rounded ? 16 : 1)];
  const what = JSON.stringify({ ...problem, factors, columns });
  for (let row = 0; row < batch; row++) {
    for (let column = 0; column < outputs; column++) {
      let sum = 0;
      for (let k = 0; k < inputs; k++)
        sum += (h[row * inputs + k] as number) * (weight[column * inputs + k] as number);
      if (isScaled) sum *= (rowScales[row] as number) * (weightScales[column] as number);
      const at = row * outputs + column;
      const expected =
        (x0[at] as number) * (sum + (biased ? (bias[column] as number) : 0)) + (x[at] as number);
      if (alone) assert.equal(made[at], SENTINEL, what);
      else assert.equal(decode(made[at] as number), expected, what);
      const bits = rounded ? numberToFloat8(expected / ROUNDED_SCALE) : 0xff;
      assert.equal(small[at], bits, `${what}: in 8 bits`);
    }
  }
}

const PROBLEMS: readonly (Problem & { readonly multiprocessors: number })[] = [
  { batch: 1, outputs: 8, inputs: 16, biased: false, multiprocessors: 132 },
  { batch: 64, outputs: 160, inputs: 64, biased: true, multiprocessors: 1, rounded: true },
  { batch: 65, outputs: 40, inputs: 80, biased: true, multiprocessors: 2, x: 'x0', rounded: true },
  { batch: 200, outputs: 200, inputs: 144, biased: true, multiprocessors: 2, x: 'output' },
  // More tiles than the ring has stages, and more stages than a tile has chunks: both warp groups, several turns.
  { batch: 460, outputs: 104, inputs: 64, biased: false, multiprocessors: 1, rounded: true },
  { batch: 200, outputs: 72, inputs: 64, biased: true, multiprocessors: 1, rounded: true, alone: true },
  { batch: 330, outputs: 32, inputs: 528, biased: true, multiprocessors: 1, x: 'x0' },
];

for (const factors of CROSS_FACTORS) {
  test(`cross products, ${factors}`, { skip }, () => {
    for (const columns of factors === 'bfloat16' ? ([128] as const) : CROSS_COLUMNS) {
      for (const [i, { multiprocessors, ...problem }] of PROBLEMS.entries())
        if (crossSharedBytes(factors, columns, problem.inputs) <= 227 * 1024)
          check(factors, columns, problem, multiprocessors, i % 2 === 1);
    }
  });
}
