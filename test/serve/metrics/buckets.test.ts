import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Buckets } from '../../../src/serve/metrics/buckets.ts';
import { metricOf } from '../../../src/serve/metrics/metric-list.ts';
import fc from '../../support/properties.ts';

/** The first bucket whose bound is the value or more, by looking at all. */
function slowly({ bounds }: Buckets, value: number): number {
  const found = bounds.findIndex((bound) => value <= bound);
  return found < 0 ? bounds.length : found;
}

const shapes = fc.record({
  first: fc.oneof(fc.constantFrom(20e-6, 1, 1024), fc.double({ min: 1e-9, max: 1e3, noNaN: true })),
  doublings: fc.integer({ min: 1, max: 28 }),
  steps: fc.constantFrom(1 as const, 2 as const, 4 as const, 8 as const),
});

test('a value is in the first bucket whose bound is the value or more', () => {
  fc.assert(
    fc.property(shapes, fc.double({ min: -2, max: 30, noNaN: true }), (shape, exponent) => {
      const buckets = new Buckets(shape);
      const value = shape.first * 2 ** exponent;
      assert.equal(buckets.indexOf(value), slowly(buckets, value));
    }),
    { numRuns: 2000 },
  );
});

test('bounds belong to their buckets, and what is a little more to the next', () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      const buckets = new Buckets(shape);
      for (const [i, bound] of buckets.bounds.entries()) {
        assert.equal(buckets.indexOf(bound), i);
        for (const ulps of [1, 2, 4]) {
          assert.equal(buckets.indexOf(bound * (1 + ulps * Number.EPSILON)), i + 1);
          assert.equal(buckets.indexOf(bound * (1 - ulps * Number.EPSILON)), i);
        }
      }
    }),
  );
});

test('bounds double in equal steps', () => {
  const { bounds } = new Buckets({ first: 20e-6, doublings: 2, steps: 4 });
  assert.deepEqual(bounds, [20e-6, 25e-6, 30e-6, 35e-6, 40e-6, 50e-6, 60e-6, 70e-6, 80e-6]);
  assert.deepEqual(new Buckets({ first: 1, doublings: 3, steps: 1 }).bounds, [1, 2, 4, 8]);
});

test('latencies go from 20 µs to 10 s, in buckets of at most a quarter', () => {
  const metric = metricOf('duration');
  assert.ok(metric.type === 'histogram');
  const { bounds } = metric.buckets;
  assert.equal(bounds[0], 20e-6);
  assert.ok((bounds.at(-1) as number) >= 10 && (bounds.at(-1) as number) < 11);
  for (let i = 1; i < bounds.length; i++)
    assert.ok((bounds[i] as number) / (bounds[i - 1] as number) <= 1.25 + 1e-9);
});

test('values that are no numbers, nothing or endless have a bucket', () => {
  const buckets = new Buckets({ first: 1, doublings: 2, steps: 2 });
  assert.equal(buckets.indexOf(0), 0);
  assert.equal(buckets.indexOf(-1), 0);
  assert.equal(buckets.indexOf(Number.POSITIVE_INFINITY), buckets.count - 1);
  assert.equal(buckets.indexOf(Number.NaN), buckets.count - 1);
});

test('shapes that are none are refused', () => {
  for (const shape of [
    { first: 0, doublings: 1 },
    { first: Number.POSITIVE_INFINITY, doublings: 1 },
    { first: 1, doublings: 0 },
    { first: 1, doublings: 29 },
    { first: 1, doublings: 1.5 },
  ])
    assert.throws(() => new Buckets({ ...shape, steps: 1 }), RangeError);
});
