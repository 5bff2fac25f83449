/** Linear layers by warps, the ends of linear layers and conversions on the host, against the reference. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { at } from '../../src/at.ts';
import type { Activation } from '../../src/backend/backend.ts';
import {
  ConvertRowsParams,
  DirectLinearParams,
  FinishLinearParams,
} from '../../src/backend/cuda/dense/dense-params.ts';
import {
  convertRowsSource,
  directLaunch,
  directLinearSource,
  finishLinearSource,
  packLaunch,
  widestPack,
} from '../../src/backend/cuda/dense/dense-source.ts';
import { referenceLinear } from '../../src/dense/reference.ts';
import {
  activationFormat,
  type ElementFormat,
  UNSCALED_PRECISIONS,
  type UnscaledPrecision,
} from '../../src/device.ts';
import { ACTIVATION } from '../../src/ffi/cpu-operators.ts';
import { assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import { encoded, formatsOf, newElements, roundedTo, roundingOf } from '../support/elements.ts';
import { Random } from '../support/random.ts';
import { addressOf, type Emulator, refuseEmulation } from './emulator.ts';
import { emulateDense, framed, HostMatrix, launch, widthsFor } from './host-matrix.ts';

const skip = refuseEmulation();
let emulator: Emulator;

before(async () => {
  if (skip === undefined) emulator = await emulateDense(/^(?!dot)/);
});

/** The stored form of a weight [outputs, inputs], rows padded to a multiple of 8, and what it then stands for. */
function storedWeight(precision: UnscaledPrecision, weight: Float32Array, inputs: number) {
  const format = activationFormat(precision);
  const stride = Math.ceil(inputs / 8) * 8;
  const array = newElements(format, (weight.length / inputs) * stride);
  const values = weight.map((x, i) => {
    array[Math.floor(i / inputs) * stride + (i % inputs)] = encoded(format, x);
    return roundedTo(format, x);
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

/** What the kernels take of a layer's end. */
function endOf(
  output: HostMatrix,
  activation: Activation,
  bias?: Float32Array,
  cross?: { readonly x0: HostMatrix; readonly x: HostMatrix },
) {
  return {
    bias: bias === undefined ? 0n : addressOf(bias),
    activation: ACTIVATION[activation],
    x0: cross?.x0.address ?? 0n,
    x0Stride: cross?.x0.stride ?? 0,
    x: cross?.x.address ?? 0n,
    xStride: cross?.x.stride ?? 0,
    output: output.address,
    outputStride: output.stride,
    batch: output.rows,
    outputs: output.cols,
    rowScales: 0n,
    weightScales: 0n,
  };
}

for (const precision of UNSCALED_PRECISIONS) {
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
        for (const [from, to] of pairsOf(precision)) {
          for (const width of widthsFor(inputs, from)) {
            const input = framed(width, batch, inputs, random.reals(batch * inputs), from);
            const weight = storedWeight(precision, random.reals(outputs * inputs), inputs);
            const bias = random.reals(outputs);
            const x0 = framed(1, batch, outputs, random.reals(batch * outputs), to);
            const x = framed(1, batch, outputs, random.reals(batch * outputs), to);
            const inPlace = f % 2 === 1 && crossed;
            const output = inPlace ? x : framed(1, batch, outputs, undefined, to);
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
            const params = DirectLinearParams.encode({
              input: input.address,
              inputStride: input.stride,
              weight: addressOf(weight.array),
              weightStride: weight.stride,
              inputs,
              ...endOf(output, activation, biased ? bias : undefined, crossed ? { x0, x } : undefined),
            });
            const reads = [input.array, weight.array, bias, x0.array, ...(inPlace ? [] : [x.array])];
            const { kernel } = directLinearSource(precision, { input: from, output: to }, width);
            launch(emulator, kernel, directLaunch(batch, outputs), params, reads, [output.array]);
            const summed = (inputs + 6) * FLOAT32_ROUNDING * (inputs + 2);
            const bound = (i: number) => summed + 1.01 * roundingOf(to, at(expected, i));
            const what = `${batch} × ${inputs} → ${outputs}, ${f}, ${from} to ${to}`;
            assertWithin(output.values(), expected, bound, what);
          }
        }
      }
    }
  });
}

/** Formats of what is read and written. */
function pairsOf(precision: UnscaledPrecision): (readonly [ElementFormat, ElementFormat])[] {
  const formats = formatsOf(precision);
  return formats.flatMap((from) => formats.map((to) => [from, to] as const));
}

/** Formats of sums and of what they are finished into. */
const FINISHED = [
  ['float32', 'float32'],
  ['float32', 'float16'],
  ['float32', 'bfloat16'],
  ['float16', 'float16'],
  ['bfloat16', 'bfloat16'],
] as const;

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
      for (const [from, to] of FINISHED) {
        for (const width of widthsFor(outputs, from, to)) {
          const sums = framed(width, batch, outputs, random.reals(batch * outputs), from);
          // Of a bias, 32 bytes may be loaded at once.
          const room = new Float32Array(new ArrayBuffer(4 * outputs + 32));
          const bias = room.subarray(Number(-addressOf(room) & 31n) / 4).subarray(0, outputs);
          bias.set(random.reals(outputs));
          const x0 = framed(width, batch, outputs, random.reals(batch * outputs), to);
          const x = framed(width, batch, outputs, random.reals(batch * outputs), to);
          const output = crossed ? x : from === to ? sums : framed(width, batch, outputs, undefined, to);
          // One input of weight 1 per output would be a matrix: the sums are the layer's without one.
          const expected = referenceFinish(sums.values(), outputs, biased ? bias : undefined, activation, {
            x0: x0.values(),
            x: x.values(),
            crossed,
          });
          const params = FinishLinearParams.encode({
            sums: sums.address,
            sumsStride: sums.stride,
            ...endOf(output, activation, biased ? bias : undefined, crossed ? { x0, x } : undefined),
          });
          const { kernel } = finishLinearSource(from, to, width);
          const written = [...new Set([sums.array, output.array])];
          const shape = packLaunch(batch, outputs, width);
          launch(emulator, kernel, shape, params, [bias, x0.array, ...(crossed ? [] : [x.array])], written);
          const bound = (i: number) => 2 ** -21 + 1.01 * roundingOf(to, at(expected, i));
          const what = `${batch} × ${outputs}, ${activation}, ${from} to ${to}`;
          assertWithin(output.values(), expected, bound, what);
        }
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
    const params = FinishLinearParams.encode({
      sums: sums.address,
      sumsStride: sums.stride,
      ...endOf(sums, activation),
    });
    launch(
      emulator,
      finishLinearSource('float32', 'float32', 1).kernel,
      packLaunch(1, values.length, 1),
      params,
      [],
      [sums.array],
    );
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
  for (const [from, to] of [...pairsOf('float16'), ...pairsOf('bfloat16')]) {
    for (const [rows, cols] of [
      [1, special.length],
      [3, 8],
      [2, 33],
      [40, 4],
    ] as const) {
      const widest = widestPack(from, to);
      for (const [width, padded] of [
        [1, cols],
        [1, cols + 3],
        [widest, Math.ceil(cols / widest) * widest],
        [widest, Math.ceil(cols / 8) * 8 + widest],
      ] as const) {
        const drawn = rows === 1 ? Float32Array.from(special) : random.reals(rows * cols);
        const input = framed(width, rows, cols, drawn, from);
        const stride = Math.ceil(padded / 8) * 8;
        const output = newElements(to, rows * stride);
        const params = ConvertRowsParams.encode({
          input: input.address,
          inputStride: input.stride,
          output: addressOf(output),
          outputStride: stride,
          rows,
          columns: cols,
          outputColumns: padded,
        });
        const { kernel } = convertRowsSource(from, to, width);
        output.fill(7);
        launch(emulator, kernel, packLaunch(rows, padded, width), params, [input.array], [output]);
        output.forEach((x, i) => {
          const [row, col] = [Math.floor(i / stride), i % stride];
          const given = roundedTo(from, drawn[row * cols + col] as number);
          const expected = col < cols ? encoded(to, given) : col < padded ? 0 : 7;
          assert.equal(x, expected, `${from} to ${to} of ${given}`);
        });
      }
    }
  }
});
