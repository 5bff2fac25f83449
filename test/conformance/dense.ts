/** Linear layers, their epilogues, and the dot interaction. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../src/at.ts';
import { type Activation, matrix } from '../../src/backend/backend.ts';
import {
  REFERENCE_ROW_FUNCTIONS,
  referenceDotInteraction,
  referenceLinear,
} from '../../src/dense/reference.ts';
import { activationFormat, type ElementFormat } from '../../src/device.ts';
import { shared } from '../support/cases.ts';
import { assertSameBits, assertSameValues, assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import { formatsOf, roundedTo, roundingOf } from '../support/elements.ts';
import { Random } from '../support/random.ts';
import {
  type DotProblem,
  dotInteractionOn,
  type LinearOptions,
  type LinearProblem,
  linearOn,
  type RowProblem,
  rowFunctionOn,
} from '../support/run-operators.ts';
import type { Subject } from './subject.ts';

/** [inputs, outputs]: single ones, odd ones, around vector and block sizes, long and narrow. */
export const LAYERS = [
  [1, 1],
  [1, 7],
  [7, 1],
  [3, 5],
  [13, 64],
  [16, 16],
  [17, 33],
  [64, 31],
  [65, 63],
  [100, 130],
  [255, 48],
  [256, 64],
  [257, 65],
  [367, 64],
  [1000, 17],
  [3000, 1],
  [3000, 40],
  [40, 600],
] as const;
export const BATCHES = [0, 1, 2, 13, 32, 257];

/** Multiply-adds above which a shape runs with small batches only, so that the reference stays quick. */
const MOST_MULTIPLY_ADDS = 1.5e6;

type Draw = (count: number) => Float32Array;

function layerProblem(
  draw: Draw,
  [batch, inputs, outputs]: readonly [number, number, number],
  {
    activation = 'none',
    biased = true,
    crossed = false,
  }: { activation?: Activation; biased?: boolean; crossed?: boolean } = {},
): LinearProblem {
  return {
    batch,
    inputs,
    outputs,
    activation,
    input: draw(batch * inputs),
    weight: draw(outputs * inputs),
    bias: biased ? draw(outputs) : undefined,
    cross: crossed ? { x0: draw(batch * outputs), x: draw(batch * outputs) } : undefined,
  };
}

const references = new WeakMap<object, Float64Array>();

/** The reference of a problem that several backends meet. */
function remembered<P extends object>(problem: P, reference: (problem: P) => Float64Array): Float64Array {
  const values = references.get(problem) ?? reference(problem);
  references.set(problem, values);
  return values;
}

/**
 * Compares with the float64 reference. Each of K products, K sums, the bias and the epilogue's two operations may be
 * rounded, in any order: (K + 4) · rounding · (|x|·|W| + |b|), which a ReLU or sigmoid does not enlarge; the sigmoid's
 * own rounding adds some ulps of at most 1. The result is rounded to `format`; a bias and the sums of a cross are among the
 * roundings above. `rounding` 0 asks for the exact values, rounded once to `format`.
 */
export function assertLinear(
  out: Float32Array,
  problem: LinearProblem,
  rounding: number,
  what: string,
  format: ElementFormat = 'float32',
): void {
  const expected = remembered(problem, referenceLinear);
  if (rounding === 0) {
    // −0 and 0 are the same here: which of them a sum of zeros gives is left open.
    assertSameValues(
      out.map((x) => x + 0),
      expected.map((x) => roundedTo(format, x) + 0),
      what,
    );
    return;
  }
  const { bias, cross } = problem;
  const absolute = (values: Float32Array) => values.map(Math.abs);
  const magnitude = referenceLinear({
    ...problem,
    activation: 'none',
    input: absolute(problem.input),
    weight: absolute(problem.weight),
    bias: bias && absolute(bias),
    cross: cross && { x0: absolute(cross.x0), x: absolute(cross.x) },
  });
  const roundings = problem.inputs + 4;
  const ownRounding = problem.activation === 'sigmoid' ? 2 ** -22 : 0;
  const boundOf = (i: number) =>
    roundings * rounding * at(magnitude, i) + ownRounding + lastRounding(format, at(expected, i));
  assertWithin(out, expected, boundOf, what);
}

/** What the last rounding changes, of a value that may be a little larger than the reference. */
function lastRounding(format: ElementFormat, expected: number): number {
  return format === 'float32' ? 0 : 1.01 * roundingOf(format, expected);
}

/**
 * Compares with the float64 reference, each of the D products and sums rounded, and the result to `format`. `rounding` 0: exact
 * values, rounded once.
 */
export function assertDot(
  out: Float32Array,
  problem: DotProblem,
  rounding: number,
  what: string,
  format: ElementFormat = 'float32',
): void {
  const expected = remembered(problem, referenceDotInteraction);
  if (rounding === 0) {
    assertSameValues(
      out.map((x) => x + 0),
      expected.map((x) => roundedTo(format, x) + 0),
      what,
    );
    return;
  }
  const magnitude = referenceDotInteraction({ ...problem, input: problem.input.map(Math.abs) });
  const boundOf = (i: number) =>
    (problem.dim + 1) * rounding * at(magnitude, i) + lastRounding(format, at(expected, i));
  assertWithin(out, expected, boundOf, what);
}

/**
 * Compares with the float64 reference. Σ x is off by n · 2⁻²⁴ · Σ |x| at most, its square by twice that, Σ x² by
 * (n + 1) · 2⁻²⁴ · Σ x², and three more operations round; then the result to `format`. 0: exact values, rounded once.
 */
export function assertFactorizationMachine(
  out: Float32Array,
  problem: Pick<RowProblem, 'batch' | 'columns' | 'input'>,
  rounding: number,
  what: string,
  format: ElementFormat = 'float32',
): void {
  const { batch, columns, input } = problem;
  const exact = REFERENCE_ROW_FUNCTIONS.factorizationMachine(problem);
  const expected = rounding === 0 ? exact.map((x) => roundedTo(format, x)) : exact;
  const bounds = Array.from({ length: batch }, (_, b) => {
    const row = Array.from(input.subarray(b * columns, (b + 1) * columns), Math.abs);
    const sum = row.reduce((total, x) => total + x, 0);
    const summed = (columns + 3) * rounding * (sum ** 2 + row.reduce((total, x) => total + x * x, 0));
    return summed + (rounding === 0 ? 0 : lastRounding(format, at(expected, b)));
  });
  assertWithin(out, expected, (b) => bounds[b] ?? 0, what);
}

/** Columns: none, around vectors of 4, 8 and 16 and a warp, many. */
export const ROW_COLUMNS = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 127, 1000];

export const INTERACTIONS = [
  ['lower', false],
  ['lower', true],
  ['upper', false],
  ['upper', true],
] as const;

/** Sums of 3,000 products of at most 8 · 8 stay below 2^24: exact in float32 in any order. */
function integerLayers(): LinearProblem[] {
  const random = new Random(71);
  const draw = (count: number) => random.integers(count, 8);
  return LAYERS.flatMap(([inputs, outputs]) =>
    BATCHES.filter((batch) => batch * inputs * outputs <= MOST_MULTIPLY_ADDS).map((batch) =>
      layerProblem(draw, [batch, inputs, outputs], { biased: batch % 2 === 1 }),
    ),
  );
}

function integerInteractions(): DotProblem[] {
  const random = new Random(76);
  const features = [1, 2, 3, 4, 5, 8, 9, 16, 17, 27, 31, 32, 33, 40];
  const dims = [1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 128, 130];
  return features.flatMap((features) =>
    dims.flatMap((dim) =>
      INTERACTIONS.map(([order, diagonal]) => {
        const batch = 1 + ((features + dim) % 3);
        return { batch, features, dim, input: random.integers(batch * features * dim, 8), order, diagonal };
      }),
    ),
  );
}

export function denseCases(subject: Subject): void {
  /** Formats of what a layer reads and writes. */
  const pairs = () =>
    formatsOf(subject.precision).flatMap((from) =>
      formatsOf(subject.precision).map((to) => [from, to] as const),
    );
  /** Those of layers that write what they read. */
  const alike = () => formatsOf(subject.precision).map((format) => [format, format] as const);

  /** Runs a layer between matrices of each pair of formats. */
  async function checkLinear(
    problem: LinearProblem,
    rounding: number,
    what: string,
    formats = pairs(),
    options: LinearOptions = {},
  ): Promise<void> {
    for (const pair of formats) {
      const own = { ...options, precision: subject.precision, formats: pair };
      const out = await linearOn(subject.backend, problem, own);
      assertLinear(out, problem, rounding, `${what}, ${pair.join(' to ')}`, pair[1]);
    }
  }

  test('linear: every shape and batch is exact on integers', async () => {
    for (const problem of shared('integer layers', integerLayers)) {
      await checkLinear(problem, 0, `linear ${problem.inputs} → ${problem.outputs}, batch ${problem.batch}`);
    }
  });

  test('linear: reals, with every activation', async () => {
    const random = new Random(72);
    for (const [inputs, outputs] of LAYERS) {
      for (const activation of ['none', 'relu', 'sigmoid'] as const) {
        const problem = layerProblem((count) => random.reals(count), [13, inputs, outputs], { activation });
        await checkLinear(problem, subject.denseRounding, `${activation} of ${inputs} → ${outputs}`);
      }
    }
  });

  test('cross: x0 ⊙ (W·v + b) + x, also in place', async () => {
    const random = new Random(73);
    const shapes: [number, number, number][] = [
      [1, 1, 1],
      [2, 48, 160],
      [13, 7, 33],
      [33, 64, 64],
      [257, 16, 130],
      [5, 300, 1],
    ];
    for (const shape of shapes) {
      for (const biased of [true, false]) {
        const exact = layerProblem((count) => random.integers(count, 8), shape, { biased, crossed: true });
        const real = layerProblem((count) => random.reals(count), shape, { biased, crossed: true });
        for (const inPlace of [false, true]) {
          const what = `cross ${shape}${inPlace ? ' in place' : ''}`;
          // Sums of 16 bits are rounded before the cross.
          const [float32, ...narrow] = alike();
          const rounding = subject.denseRounding;
          await checkLinear(exact, 0, what, [float32 as (typeof narrow)[number]], { inPlace });
          await checkLinear(exact, rounding, what, narrow, { inPlace });
          await checkLinear(real, rounding, what, alike(), { inPlace });
        }
      }
    }
  });

  test('activations at their limits', async () => {
    // One input of weight 1: the activation alone.
    const values = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      100,
      -100,
      90,
      -90,
      0,
      -0,
      // Factors of fewer bits hold no such numbers.
      ...(subject.denseRounding === FLOAT32_ROUNDING ? [1e-30, 3.4e38, -3.4e38] : []),
    ];
    for (const [outputs, formats] of [1, 19].flatMap((count) =>
      alike().map((pair) => [count, pair] as const),
    )) {
      const [format] = formats;
      const activated = async (activation: Activation) => {
        const problem: LinearProblem = {
          batch: values.length,
          inputs: 1,
          outputs,
          input: Float32Array.from(values),
          weight: new Float32Array(outputs).fill(1),
          activation,
        };
        const out = await linearOn(subject.backend, problem, { precision: subject.precision, formats });
        return values.map((_, b) => {
          const row = out.subarray(b * outputs, (b + 1) * outputs);
          assert.ok(
            row.every((x) => Object.is(x, row[0])),
            `${activation}: columns differ`,
          );
          return row[0] as number;
        });
      };
      const relu = await activated('relu');
      values.forEach((x, i) => {
        // relu(NaN) is NaN, as in torch.
        const expected = Number.isNaN(x) ? Number.NaN : Math.max(0, Math.fround(x));
        assert.ok(Object.is((relu[i] as number) + 0, expected + 0), `relu(${x}) is ${relu[i]}`);
      });
      const sigmoid = await activated('sigmoid');
      values.forEach((x, i) => {
        const y = sigmoid[i] as number;
        const expected = 1 / (1 + Math.exp(-x));
        if (Number.isNaN(x)) assert.ok(Number.isNaN(y), 'sigmoid(NaN)');
        else {
          assert.ok(y >= 0 && y <= 1, `sigmoid(${x}) is ${y}`);
          // Two ulps of e^x and of the division; e^-100 is subnormal in float32, where ulps are coarse.
          const bound = Math.max(2 ** -22 * expected, 1e-38) + lastRounding(format, expected);
          assert.ok(Math.abs(y - expected) <= bound, `sigmoid(${x}) is ${y}`);
        }
      });
      assert.equal(sigmoid[values.indexOf(100)], 1);
    }
  });

  test('NaN and infinities in one sample stay in that sample', async () => {
    const random = new Random(74);
    for (const [inputs, outputs] of [
      [5, 3],
      [64, 64],
      [300, 1],
      [257, 130],
    ] as const) {
      const problem = layerProblem((count) => random.reals(count), [9, inputs, outputs]);
      const input = problem.input.slice();
      input[4 * inputs] = Number.NaN;
      input[7 * inputs] = Number.POSITIVE_INFINITY;
      for (const formats of alike()) {
        const options = { precision: subject.precision, formats };
        const clean = await linearOn(subject.backend, problem, options);
        const out = await linearOn(subject.backend, { ...problem, input }, options);
        for (let b = 0; b < 9; b++) {
          const row = out.subarray(b * outputs, (b + 1) * outputs);
          if (b === 4) assert.ok(row.every(Number.isNaN), 'the row with NaN');
          else if (b === 7) assert.ok(!row.some(Number.isFinite), 'the row with infinity');
          else assertSameBits(row, clean.subarray(b * outputs, (b + 1) * outputs), `row ${b}`);
        }
      }
    }
  });

  test('a sample has the same bits in a batch of one and in a large one', async (t) => {
    if (!subject.rowsStandAlone) return t.skip('this backend adds in an order that depends on the batch');
    const random = new Random(75);
    for (const [inputs, outputs] of [
      [13, 64],
      [300, 130],
      [1000, 1],
      [64, 600],
    ] as const) {
      const problem = layerProblem((count) => random.reals(count), [70, inputs, outputs], {
        activation: 'relu',
      });
      const whole = await linearOn(subject.backend, problem, { precision: subject.precision });
      for (const [first, batch] of [
        [0, 1],
        [69, 1],
        [5, 2],
        [20, 13],
        [1, 33],
      ] as const) {
        const input = problem.input.subarray(first * inputs, (first + batch) * inputs);
        const part = await linearOn(
          subject.backend,
          { ...problem, batch, input },
          { precision: subject.precision },
        );
        const same = whole.subarray(first * outputs, (first + batch) * outputs);
        assertSameBits(part, same, `${inputs} → ${outputs}, ${batch} samples from ${first}`);
      }
    }
  });

  test('dot interaction: every shape is exact on integers', async () => {
    for (const problem of shared('integer interactions', integerInteractions)) {
      const { features, dim, order, diagonal } = problem;
      const out = await dotInteractionOn(subject.backend, problem, subject.precision);
      const what = `${features} × ${dim}, ${order}${diagonal ? ', diagonal' : ''}`;
      assertDot(out, problem, 0, what, activationFormat(subject.precision));
    }
  });

  test('dot interaction: reals, all batches, 251 features', async () => {
    const random = new Random(77);
    for (const [batch, features, dim] of [
      [0, 5, 16],
      [1, 9, 64],
      [13, 27, 16],
      [257, 4, 33],
      [2, 251, 128],
      // Whole samples at a time, from a quarter of the multiprocessors on.
      [34, 129, 8],
    ] as const) {
      for (const [order, diagonal] of INTERACTIONS) {
        const problem: DotProblem = {
          batch,
          features,
          dim,
          input: random.reals(batch * features * dim),
          order,
          diagonal,
        };
        const out = await dotInteractionOn(subject.backend, problem, subject.precision);
        const what = `${batch} × ${features} × ${dim}, ${order}`;
        assertDot(out, problem, subject.denseRounding, what, activationFormat(subject.precision));
      }
    }
  });

  test('factorization machine: exact on integers, every width', async () => {
    const random = new Random(78);
    for (const [c, columns] of ROW_COLUMNS.entries()) {
      const batch = [0, 1, 2, 13, 70][c % 5] as number;
      // Sums stay below 2^12, their squares below 2^24.
      const input = random.integers(batch * columns, columns > 100 ? 3 : 8);
      const problem = { function: 'factorizationMachine', batch, columns, input } as const;
      for (const format of formatsOf(subject.precision)) {
        const out = await rowFunctionOn(subject.backend, problem, format);
        assertFactorizationMachine(out, problem, 0, `${batch} rows of ${columns}, ${format}`, format);
      }
    }
  });

  test('factorization machine: reals; NaN and infinity stay in their row', async () => {
    const random = new Random(79);
    for (const [batch, columns] of [
      [1, 5],
      [257, 108],
      [33, 1024],
    ] as const) {
      const input = random.reals(batch * columns);
      const problem = { function: 'factorizationMachine', batch, columns, input } as const;
      const out = await rowFunctionOn(subject.backend, problem);
      assertFactorizationMachine(out, problem, FLOAT32_ROUNDING, `${batch} rows of ${columns}`);
      if (batch === 1) continue;
      const odd = input.slice();
      odd[3 * columns + 1] = Number.NaN;
      odd[7 * columns] = Number.POSITIVE_INFINITY;
      const changed = await rowFunctionOn(subject.backend, { ...problem, input: odd });
      assert.deepEqual([changed[3], changed[7]], [Number.NaN, Number.NaN]);
      assertSameBits(changed.subarray(8), out.subarray(8), 'the other rows');
    }
  });

  test('copies: strided matrices, and uploads and downloads of the first rows only', async () => {
    const { backend } = subject;
    using buffer = backend.allocate(7 * 12);
    using other = backend.allocate(7 * 9);
    const all = matrix(buffer, 7, 12);
    const inner = matrix(buffer, 7, 5, 3, 12);
    const copied = matrix(other, 7, 5, 2, 9);
    const before = Float32Array.from({ length: 84 }, (_, i) => i);
    const source = Float32Array.from({ length: 4 * 5 }, (_, i) => 1000 + i);
    const [whole, few] = [new Float32Array(84), new Float32Array(3 * 5)];
    await backend.run([
      { op: 'upload', source: before, output: all },
      { op: 'upload', source, output: inner },
      { op: 'copy', input: inner, output: copied },
      { op: 'download', input: all, target: whole },
      { op: 'download', input: copied, target: few },
    ]);
    const expected = before.slice();
    for (let row = 0; row < 4; row++) expected.set(source.subarray(row * 5, (row + 1) * 5), row * 12 + 3);
    assertSameBits(whole, expected, 'rows past the first four keep what they held');
    assertSameBits(few, source.subarray(0, 15), 'the first three rows of the copy');
  });

  test('copies round to the nearest value of their format, and give it back', async () => {
    const { backend } = subject;
    using buffer = backend.allocate(7 * 18);
    using other = backend.allocate(7 * 12);
    const source = new Random(80).reals(7 * 5);
    for (const format of formatsOf(subject.precision)) {
      const narrow = { ...matrix(other, 7, 5, 3, 11), format };
      const again = { ...matrix(other, 7, 5, 3, 6), format, buffer };
      const back = matrix(other, 7, 5, 1, 6);
      const target = new Float32Array(7 * 5);
      await backend.run([
        { op: 'upload', source, output: matrix(buffer, 7, 5, 64) },
        { op: 'copy', input: matrix(buffer, 7, 5, 64), output: narrow },
        { op: 'copy', input: narrow, output: again },
        { op: 'copy', input: again, output: back },
        { op: 'download', input: back, target },
      ]);
      assertSameValues(
        target,
        source.map((x) => roundedTo(format, x)),
        format,
      );
    }
  });
}
