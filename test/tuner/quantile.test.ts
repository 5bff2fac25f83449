import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mean, median, quantile } from '../../src/tuner/quantile.ts';

test('a share of the samples lies below a quantile, which is interpolated between two of them', () => {
  const sorted = [10, 20, 40, 80];
  for (const [q, expected] of [
    [0, 10],
    [1 / 3, 20],
    [0.25, 17.5],
    [0.5, 30],
    [0.75, 50],
    [0.9, 68],
    [1, 80],
  ] as const)
    assert.ok(Math.abs(quantile(sorted, q) - expected) < 1e-9, `${q}`);
  assert.deepEqual([quantile([7], 0), quantile([7], 0.9), quantile([7], 1)], [7, 7, 7]);
  assert.ok(Number.isNaN(quantile([], 0.5)));
});

test('samples are sorted by their size, and left as they are', () => {
  const samples = [100, 9, 20];
  assert.equal(median(samples), 20);
  assert.equal(median([100, 9, 5]), 9);
  assert.equal(median([100, 9, 20, 3]), 14.5);
  assert.equal(mean(samples), 43);
  assert.deepEqual(samples, [100, 9, 20]);
});
