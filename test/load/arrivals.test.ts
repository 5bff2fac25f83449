import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PoissonArrivals } from '../../src/load/arrivals.ts';

const times = (rate: number, seed: number, count: number) => {
  const arrivals = new PoissonArrivals(rate, seed);
  return Array.from({ length: count }, () => arrivals.next());
};

test('gaps are exponential: mean, deviation, and the share that is longer than the mean', () => {
  const count = 50_000;
  const at = times(2000, 1, count);
  const gaps = at.map((time, i) => time - (at[i - 1] ?? 0));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / count;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / count;
  const longer = gaps.filter((gap) => gap > 0.5).length / count;
  // Five standard errors each.
  assert.ok(Math.abs(mean - 0.5) < 5 * (0.5 / Math.sqrt(count)), `mean ${mean}`);
  assert.ok(Math.abs(Math.sqrt(variance) / 0.5 - 1) < 0.03, `deviation ${Math.sqrt(variance)}`);
  assert.ok(Math.abs(longer - Math.exp(-1)) < 0.011, `longer ${longer}`);
  assert.ok(gaps.every((gap) => gap >= 0));
});

test('streams of processes are others, together of the whole rate', () => {
  const [a, b] = [times(500, 1, 10_000), times(500, 7920, 10_000)];
  assert.notDeepEqual(a.slice(0, 5), b.slice(0, 5));
  const seconds = Math.min(a.at(-1) as number, b.at(-1) as number) / 1000;
  const rate = [...a, ...b].filter((time) => time < 1000 * seconds).length / seconds;
  assert.ok(Math.abs(rate / 1000 - 1) < 0.05, `rate ${rate}`);
  assert.deepEqual(times(500, 1, 5), a.slice(0, 5));
});
