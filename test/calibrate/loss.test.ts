import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lossIncrease } from '../../src/calibrate/loss.ts';
import { Random } from '../support/random.ts';

/** −p log q − (1 − p) log(1 − q), straight from the definition. */
function crossEntropy(p: number, q: number): number {
  return -p * Math.log(q) - (1 - p) * Math.log(1 - q);
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

test('the rise of the log loss, by its definition', () => {
  const random = new Random(1);
  for (const off of [1e-2, 0.1, 1, 3]) {
    const reference = Float64Array.from({ length: 200 }, () => 6 * random.next() - 4);
    const own = reference.map((logit) => logit + off * (2 * random.next() - 1));
    const sum = (q: Float64Array) =>
      reference.reduce((s, logit, i) => s + crossEntropy(sigmoid(logit), sigmoid(q[i] ?? 0)), 0);
    const expected = sum(own) / sum(reference) - 1;
    assert.ok(Math.abs(lossIncrease(reference, own) - expected) <= 1e-9 + 1e-9 * expected, `${off}`);
  }
});

test('small errors cost their squares, down to none', () => {
  const reference = Float64Array.of(-2, 0, 1.5);
  assert.equal(lossIncrease(reference, reference), 0);
  const at = (off: number) =>
    lossIncrease(
      reference,
      reference.map((x) => x + off),
    );
  // Across the place where the expansion ends.
  for (const off of [1e-9, 1e-6, 4e-4, 6e-4, 1.1e-3])
    assert.ok(Math.abs(at(2 * off) / at(off) / 4 - 1) < 2e-3, `${off}`);
  assert.ok(at(-5e-4) > 0 && at(5e-4) > 0);
});

test('what is no number loses everything; a reference that is certain loses nothing', () => {
  assert.equal(lossIncrease(Float64Array.of(0), Float64Array.of(Number.NaN)), Number.POSITIVE_INFINITY);
  assert.equal(
    lossIncrease(Float64Array.of(0), Float64Array.of(-Number.POSITIVE_INFINITY)),
    Number.POSITIVE_INFINITY,
  );
  assert.equal(lossIncrease(Float64Array.of(1e4), Float64Array.of(1e4)), 0);
});
