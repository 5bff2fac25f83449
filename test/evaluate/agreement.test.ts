import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  calibrationBins,
  errorFigures,
  logitOf,
  qualityFigures,
  sigmoid,
} from '../../src/evaluate/agreement.ts';
import { Random } from '../support/random.ts';
import { SEED } from '../support/seed.ts';

const floats = (...values: number[]) => Float64Array.from(values);
const near = (value: number | undefined, expected: number, within = 1e-12) =>
  assert.ok(
    Math.abs((value ?? Number.NaN) - expected) <= within * Math.max(1, Math.abs(expected)),
    `${value}, not ${expected}`,
  );

describe('errors', () => {
  test('a quantile is an error that so many do not exceed', () => {
    const reference = floats(...Array.from({ length: 1000 }, () => 1));
    const values = reference.map((value, i) => value + (i % 2 === 0 ? 1 : -1) * (i + 1));
    const { quantiles, worst, rms, bias } = errorFigures(values, reference);
    assert.deepEqual(quantiles, [
      [0.5, 500],
      [0.9, 900],
      [0.99, 990],
      [0.999, 999],
    ]);
    assert.equal(worst, 1000);
    near(rms, Math.sqrt((1000 * 1001 * 2001) / 6 / 1000));
    near(bias, -0.5);
  });

  test('of one value, all are its error', () => {
    const { quantiles, worst, rms, bias } = errorFigures(floats(3), floats(5));
    assert.deepEqual(new Set(quantiles.map(([, error]) => error)), new Set([2]));
    assert.deepEqual([worst, rms, bias], [2, 2, -2]);
  });
});

describe('quality', () => {
  test('log loss is the mean of what the labels’ classes were given', () => {
    const logits = floats(0, 1, -2, 800, -800);
    const labels = Uint8Array.of(1, 0, 0, 1, 1);
    const expected = [Math.log(2), Math.log(1 + Math.E), Math.log(1 + Math.exp(-2)), 0, 800];
    near(qualityFigures(logits, labels).logLoss, expected.reduce((sum, loss) => sum + loss) / 5);
  });

  test('AUC counts pairs in order, ties by half', () => {
    const random = new Random(SEED);
    for (let round = 0; round < 50; round++) {
      const length = random.integer(2, 40);
      const scores = Float64Array.from({ length }, () => random.integer(-3, 3));
      const labels = Uint8Array.from(scores, () => random.integer(0, 1));
      let [pairs, right] = [0, 0];
      for (let i = 0; i < length; i++)
        for (let j = 0; j < length; j++) {
          if (labels[i] !== 1 || labels[j] !== 0) continue;
          const [one, zero] = [scores[i] as number, scores[j] as number];
          pairs++;
          right += one > zero ? 1 : one === zero ? 0.5 : 0;
        }
      const { auc } = qualityFigures(scores, labels);
      if (pairs === 0) assert.equal(auc, undefined);
      else near(auc, right / pairs);
    }
  });

  test('labels of one kind have no AUC', () => {
    for (const label of [0, 1])
      assert.equal(qualityFigures(floats(1, 2, 3), new Uint8Array(3).fill(label)).auc, undefined);
  });

  test('calibration is what is expected over what came', () => {
    const logits = floats(logitOf(0.25), logitOf(0.5), logitOf(0.75), logitOf(0.5));
    near(qualityFigures(logits, Uint8Array.of(0, 1, 0, 0)).calibration, 2);
    assert.equal(qualityFigures(logits, new Uint8Array(4)).calibration, undefined);
  });
});

describe('tenths', () => {
  test('are of the reference’s order, and as even as they can be', () => {
    const reference = Float64Array.from({ length: 25 }, (_, i) => logitOf((25 - i) / 26));
    const model = reference.map((logit) => logit + 1);
    const labels = Uint8Array.from(reference, (_, i) => Number(i < 10));
    const bins = calibrationBins(model, reference, labels);
    assert.deepEqual(
      bins.map(({ samples }) => samples),
      [2, 3, 2, 3, 2, 3, 2, 3, 2, 3],
    );
    near(bins[0]?.reference, (1 / 26 + 2 / 26) / 2);
    near(bins[0]?.model, (sigmoid(logitOf(1 / 26) + 1) + sigmoid(logitOf(2 / 26) + 1)) / 2);
    assert.deepEqual(
      bins.map((bin) => bin.labels),
      [0, 0, 0, 0, 0, 0, 1, 1, 1, 1].map((share, i) => (i === 5 ? 0 : share)),
    );
  });

  test('of fewer than ten samples, each has its own', () => {
    const bins = calibrationBins(floats(0, 1, 2), floats(0, 1, 2), Uint8Array.of(0, 0, 1));
    assert.deepEqual(
      bins.map(({ samples, labels }) => [samples, labels]),
      [
        [1, 0],
        [1, 0],
        [1, 1],
      ],
    );
  });
});

test('a logit and its probability are each other’s', () => {
  for (const logit of [-30, -3, -1e-9, 0, 1e-9, 3, 30]) near(logitOf(sigmoid(logit)), logit, 1e-3);
  assert.equal(logitOf(0), Number.NEGATIVE_INFINITY);
  assert.equal(logitOf(1), Number.POSITIVE_INFINITY);
});
