import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timing } from '../../src/bench/statistics.ts';

/** 0 … count - 1, not in order. */
const shuffled = (count: number) => Array.from({ length: count }, (_, i) => (i * 7) % count);

test('median, spread and ends of samples in any order', () => {
  const samples = shuffled(11).map((ms) => 10 * ms);
  assert.deepEqual(timing(samples), {
    medianMs: 50,
    p10Ms: 10,
    p90Ms: 90,
    minMs: 0,
    maxMs: 100,
    rounds: 11,
  });
});

test('the slowest hundredth is told from 100 rounds on', () => {
  assert.equal(timing(shuffled(99)).p99Ms, undefined);
  assert.ok(Math.abs((timing(shuffled(100)).p99Ms as number) - 98.01) < 1e-9);
  assert.equal(timing(shuffled(101)).p99Ms, 99);
});
