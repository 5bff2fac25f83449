import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quantileOf } from '../../../src/serve/page/quantile.ts';

const BOUNDS = [1, 2, 4, 8];

test('values lie evenly in their bucket', () => {
  // 4 values up to 1, 4 in (1, 2], 2 in (4, 8].
  const counts = [4, 4, 0, 2, 0];
  const known: [number, number][] = [
    [0, 0],
    [0.2, 0.5],
    [0.4, 1],
    [0.5, 1.25],
    [0.8, 2],
    [0.9, 6],
    [1, 8],
  ];
  for (const [q, value] of known) assert.equal(quantileOf(counts, BOUNDS, q), value, `${q}`);
});

test('values beyond the last bound count as it', () => {
  assert.equal(quantileOf([0, 0, 0, 1, 9], BOUNDS, 0.5), 8);
  assert.equal(quantileOf([0, 0, 0, 0, 1], BOUNDS, 0.999), 8);
});

test('of nothing there is no quantile', () => {
  assert.equal(quantileOf([0, 0, 0, 0, 0], BOUNDS, 0.5), Number.NaN);
  assert.equal(quantileOf([], BOUNDS, 0.5), Number.NaN);
});
