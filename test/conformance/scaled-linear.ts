/** Linear layers whose factors are float8 e4m3. Inputs are float16 numbers, so that devices may keep them so. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Activation } from '../../src/backend/backend.ts';
import { type ScaledWeight, scaledWeight, unscaled } from '../../src/backend/scaled-weight.ts';
import { referenceLinear, roundedInputs } from '../../src/dense/reference.ts';
import { activationsOn, type ElementFormat } from '../../src/device.ts';
import { float8ToNumber, numberToFloat8 } from '../../src/float8.ts';
import { float16ToNumber, numberToFloat16 } from '../../src/tensor.ts';
import { assertSameBits, assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import { roundingOf } from '../support/elements.ts';
import { Random } from '../support/random.ts';
import { type LinearProblem, linearOn } from '../support/run-operators.ts';
import type { Subject } from './subject.ts';

const PRECISION = { precision: 'float8_e4m3' } as const;
const LACKING = 'the device has no 8-bit products';

/** [batch, inputs, outputs]. */
const SHAPES = [
  [1, 16, 16],
  [2, 13, 5],
  [3, 1, 1],
  [5, 40, 3],
  [33, 64, 48],
  [97, 300, 130],
  [13, 3000, 1],
  [1, 257, 600],
  [40, 512, 64],
] as const;

const halves = (values: Float32Array) => values.map((x) => float16ToNumber(numberToFloat16(x)));

interface ScaledProblem extends LinearProblem {
  readonly scaled: ScaledWeight;
}

function scaledProblem(
  random: Random,
  [batch, inputs, outputs]: readonly [number, number, number],
  { activation = 'none', crossed = false }: { activation?: Activation; crossed?: boolean } = {},
  inputScale?: number,
): ScaledProblem {
  // Outputs and samples of very different sizes.
  const sized = (values: Float32Array, width: number, powers: number) =>
    values.map((x, i) => x * 2 ** ((Math.floor(i / width) % (2 * powers + 1)) - powers));
  const weight = sized(random.reals(outputs * inputs), inputs, 3);
  const scaled = {
    ...scaledWeight(weight, outputs),
    ...(inputScale === undefined ? {} : { inputScale: Math.fround(inputScale) }),
  };
  const drawn = (count: number) => halves(random.reals(count));
  return {
    ...{ batch, inputs, outputs, activation, scaled },
    input: halves(sized(random.reals(batch * inputs), inputs, 4)),
    weight: unscaled(scaled),
    bias: batch % 2 === 1 ? drawn(outputs) : undefined,
    cross: crossed ? { x0: drawn(batch * outputs), x: drawn(batch * outputs) } : undefined,
  };
}

/**
 * Compares with the float64 reference over the same rounded factors, in matrices of float32 and of the device's activations: K sums,
 * two scales, the bias and the epilogue's two operations are rounded, and what the matrices hold to their format. Sums that a library
 * makes may be fast ones.
 */
async function assertScaled(subject: Subject, problem: ScaledProblem, what: string): Promise<void> {
  const { inputs, outputs, input, scaled, activation, weight, bias, cross } = problem;
  const rounded = { ...problem, input: roundedInputs(input, inputs, scaled.inputScale) };
  const expected = referenceLinear(rounded);
  const absolute = (values: Float32Array | Float64Array) => Float64Array.from(values, Math.abs);
  const magnitude = referenceLinear({
    ...rounded,
    activation: 'none',
    input: absolute(rounded.input),
    weight: absolute(weight),
    bias: bias && absolute(bias),
    cross: cross && { x0: absolute(cross.x0), x: absolute(cross.x) },
  });
  const narrow = activationsOn(subject.backend.device, 'float8_e4m3');
  const sums = (inputs + 6) * FLOAT32_ROUNDING + (outputs % 16 === 0 ? subject.fastSums : 0);
  for (const format of new Set<ElementFormat>(['float32', narrow])) {
    const own = activation === 'sigmoid' ? 2 ** -22 + roundingOf(format, 1) : 0;
    for (const inPlace of cross === undefined ? [false] : [false, true]) {
      const run = { ...PRECISION, scaled, formats: [format, format], inPlace } as const;
      const out = await linearOn(subject.backend, problem, run);
      const bound = (i: number) => {
        const size = magnitude[i] as number;
        // The sums, the bias, x0 and x, and the result may each be rounded to the format.
        return sums * size + 5 * roundingOf(format, size) + own;
      };
      assertWithin(out, expected, bound, `${what}, ${format}${inPlace ? ', in place' : ''}`);
    }
  }
}

export function scaledLinearCases(subject: Subject): void {
  const has = () => subject.backend.device.capabilities.precisions.includes('float8_e4m3');

  test('scales of each row, and one for all inputs', async (t) => {
    if (!has()) return t.skip(LACKING);
    const random = new Random(501);
    for (const shape of SHAPES) {
      await assertScaled(subject, scaledProblem(random, shape), `${shape}, rows`);
      await assertScaled(subject, scaledProblem(random, shape, {}, 16 / 448), `${shape}, a tensor`);
    }
  });

  test('activations and cross layers', async (t) => {
    if (!has()) return t.skip(LACKING);
    const random = new Random(502);
    for (const shape of SHAPES) {
      for (const activation of ['relu', 'sigmoid'] as const)
        await assertScaled(subject, scaledProblem(random, shape, { activation }), `${shape}, ${activation}`);
      await assertScaled(subject, scaledProblem(random, shape, { crossed: true }, 0.05), `${shape}, cross`);
    }
  });

  test('every value of the format as an input and as a weight', async (t) => {
    if (!has()) return t.skip(LACKING);
    // One input of weight 1, or the other way around: the rounding alone. All values and what lies between are float16 numbers.
    const values = Array.from({ length: 127 }, (_, bits) => bits).flatMap((bits) => {
      const [own, next] = [bits, bits + 1].map(float8ToNumber) as [number, number];
      return bits === 126 ? [own, -own] : [own, -own, (own + next) / 2, -(own + next) / 2];
    });
    const input = Float32Array.from(values);
    const expected = input.map((x) => float8ToNumber(numberToFloat8(x)));
    const layer = { inputs: 1, activation: 'none', bias: undefined } as const;
    const one = { elements: Uint8Array.of(numberToFloat8(1)), scales: Float32Array.of(1), inputScale: 1 };
    const asInputs = { ...layer, batch: input.length, outputs: 1, input, weight: Float32Array.of(1) };
    const rows = await linearOn(subject.backend, asInputs, { ...PRECISION, scaled: one });
    assert.deepEqual(Array.from(rows, plain), Array.from(expected, plain));
    const elements = Uint8Array.from(values, numberToFloat8);
    const scales = new Float32Array(values.length).fill(0.5);
    const asWeights = { ...layer, batch: 1, outputs: values.length, input: Float32Array.of(2) };
    const outputs = await linearOn(
      subject.backend,
      { ...asWeights, weight: expected },
      { ...PRECISION, scaled: { elements, scales, inputScale: 1 } },
    );
    assert.deepEqual(Array.from(outputs, plain), Array.from(expected, plain));
  });

  test('what is beyond 448 scales becomes the largest, NaN stays in its sample, rows of zeros give the bias', async (t) => {
    if (!has()) return t.skip(LACKING);
    for (const outputs of [3, 48]) {
      const scaled = {
        elements: new Uint8Array(outputs * 32).fill(numberToFloat8(1)),
        scales: new Float32Array(outputs).fill(1),
      };
      const input = new Float32Array(5 * 32);
      input[0] = 3000;
      input[32] = -3000;
      input[64] = Number.NaN;
      input[65] = 1;
      input[128] = Number.POSITIVE_INFINITY;
      const bias = new Float32Array(outputs).fill(0.25);
      const problem = { batch: 5, inputs: 32, outputs, input, bias, activation: 'none' } as const;
      const row = (out: Float32Array, b: number) => out.subarray(b * outputs, (b + 1) * outputs);
      for (const inputScale of [2, undefined]) {
        const weight = unscaled(scaled);
        const given = inputScale === undefined ? scaled : { ...scaled, inputScale };
        const out = await linearOn(subject.backend, { ...problem, weight }, { ...PRECISION, scaled: given });
        const most = inputScale === undefined ? 3000 : 896;
        const near = (b: number, value: number) =>
          assert.ok(
            row(out, b).every((y) => Math.abs(y - value) <= 2 ** -10 * Math.abs(value)),
            `${row(out, b)}`,
          );
        near(0, most + 0.25);
        near(1, -most + 0.25);
        assert.ok(row(out, 2).every(Number.isNaN));
        assertSameBits(row(out, 3), bias, 'a row of zeros');
        // With a scale for all it saturates; a row with its own has none.
        if (inputScale === undefined) assert.ok(row(out, 4).every(Number.isNaN));
        else near(4, 896.25);
      }
    }
  });

  test('a sample has the same bits in a batch of one and in a large one', async (t) => {
    if (!has()) return t.skip(LACKING);
    if (!subject.rowsStandAlone) return t.skip('this backend adds in an order that depends on the batch');
    const random = new Random(503);
    for (const shape of [
      [70, 300, 130],
      [70, 64, 2],
    ] as const) {
      const problem = scaledProblem(random, shape);
      const [, inputs, outputs] = shape;
      const run = { ...PRECISION, scaled: problem.scaled };
      const whole = await linearOn(subject.backend, problem, run);
      for (const b of [0, 33, 69]) {
        const input = problem.input.slice(b * inputs, (b + 1) * inputs);
        const alone = await linearOn(subject.backend, { ...problem, batch: 1, input }, run);
        assertSameBits(alone, whole.subarray(b * outputs, (b + 1) * outputs), `${shape}, sample ${b}`);
      }
    }
  });

  test('a plain weight is rounded output by output', async (t) => {
    if (!has()) return t.skip(LACKING);
    const random = new Random(504);
    const problem = scaledProblem(random, [33, 64, 48]);
    const plain = { ...problem, weight: halves(random.reals(64 * 48)) };
    const scaled = scaledWeight(plain.weight, 48);
    const own = await linearOn(subject.backend, plain, PRECISION);
    assertSameBits(own, await linearOn(subject.backend, plain, { ...PRECISION, scaled }), 'rounded ahead');
  });
}

/** −0 is 0 here: which of them a sum gives is left open. */
const plain = (x: number) => x + 0;
