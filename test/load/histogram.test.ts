import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram } from '../../src/load/histogram.ts';
import fc from '../support/properties.ts';

const of = (values: readonly number[]) => {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
};
/** Between values that are told apart: a unit, or 1/128. */
const isNear = (got: number, value: number) =>
  Math.abs(got - value) <= Math.max(0.5e-4, value * 0.005) + 1e-9;

test('every rank is the value of that rank, within half a percent', () => {
  const anyMs = fc.double({ min: 0, max: 400_000, noNaN: true });
  fc.assert(
    fc.property(fc.array(anyMs, { minLength: 1, maxLength: 60 }), (values) => {
      const histogram = of(values);
      values
        .toSorted((a, b) => a - b)
        .forEach((value, i) => {
          const got = histogram.atRank(i + 1);
          assert.ok(isNear(got, value), `rank ${i + 1}: ${got} of ${value}`);
        });
      assert.equal(histogram.greatest, Math.max(...values));
      assert.equal(histogram.count, values.length);
    }),
  );
});

test('around every power of two, values stay in their order and near', () => {
  for (let exponent = 0; exponent < 32; exponent++) {
    for (const units of [2 ** exponent - 1, 2 ** exponent, 2 ** exponent + 1]) {
      const got = of([units / 10_000, 1e9]).atRank(1);
      assert.ok(isNear(got, units / 10_000), `${units} units: ${got}`);
    }
  }
});

test('what is longer than seven minutes keeps its maximum', () => {
  const histogram = of([1, 1e9]);
  assert.equal(histogram.atRank(2), 1e9);
  assert.equal(histogram.greatest, 1e9);
});

test('those of processes add up to that of one', () => {
  const [a, b] = [
    [1, 2.5, 1000],
    [0.01, 2.5, 7],
  ] as const;
  const sum = of(a);
  sum.add(structuredClone(of(b).counts()));
  assert.deepEqual(sum.counts(), of([...a, ...b]).counts());
  assert.equal(sum.mean, of([...a, ...b]).mean);
});

test('of nothing, everything is 0', () => {
  const none = new Histogram();
  assert.deepEqual([none.count, none.mean, none.greatest, none.atRank(1)], [0, 0, 0, 0]);
  const sum = of([3]);
  sum.add(none.counts());
  assert.equal(sum.atRank(1), 3);
});
