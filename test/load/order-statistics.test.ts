import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quantileRanks } from '../../src/load/order-statistics.ts';

test('ranks of the median as tables of order statistics have them', () => {
  // 95 % intervals of the median (Conover, Practical Nonparametric Statistics): n, lower and upper rank.
  for (const [n, low, high] of [
    [6, 1, 6],
    [10, 2, 9],
    [15, 4, 12],
    [20, 6, 15],
    [25, 8, 18],
  ] as const)
    assert.deepEqual(quantileRanks(n, 0.5), { rank: Math.ceil(n / 2), low, high });
});

test('a sample that is too small bounds nothing', () => {
  assert.deepEqual(quantileRanks(5, 0.5), { rank: 3 });
  // One value is below the 99th percentile with a probability of 99 %.
  assert.deepEqual(quantileRanks(1, 0.99), { rank: 1, low: 1 });
  assert.deepEqual(quantileRanks(0, 0.5), { rank: 0 });
  const { low, high } = quantileRanks(100, 0.99);
  assert.equal(high, undefined);
  assert.equal(low, 97);
});

test('each end is missed with a probability of at most 2.5 %, and would be with more by one rank less', () => {
  const logFactorial = [0];
  for (let n = 1; n <= 3000; n++) logFactorial.push((logFactorial[n - 1] as number) + Math.log(n));
  const share = (n: number, p: number, k: number) =>
    Math.exp(
      (logFactorial[n] as number) -
        (logFactorial[k] as number) -
        (logFactorial[n - k] as number) +
        k * Math.log(p) +
        (n - k) * Math.log1p(-p),
    );
  const below = (n: number, p: number, ranks: number) =>
    Array.from({ length: ranks }, (_, k) => share(n, p, k)).reduce((sum, own) => sum + own, 0);
  for (const [n, p] of [
    [300, 0.5],
    [500, 0.9],
    [3000, 0.99],
    [3000, 0.999],
  ] as const) {
    const { low, high } = quantileRanks(n, p);
    if (low !== undefined)
      assert.ok(below(n, p, low) <= 0.025 && below(n, p, low + 1) > 0.025, `${n} ${p} low`);
    if (high !== undefined)
      assert.ok(1 - below(n, p, high) <= 0.025 && 1 - below(n, p, high - 1) > 0.025, `${n} ${p} high`);
  }
});

test('ten million values', () => {
  const { rank, low = 0, high = 0 } = quantileRanks(1e7, 0.999);
  assert.equal(rank, 9_990_000);
  // 1.96 standard deviations of the binomial: 195.9.
  assert.ok(Math.abs(rank - low - 196) <= 2 && Math.abs(high - rank - 196) <= 2, `${low} ${high}`);
});
