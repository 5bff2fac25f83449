import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asInt32, asNumbers, GrowingArray } from '../../src/workload/index-values.ts';

const ENDS = [
  0n,
  1n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 32n + 5n,
  2n ** 53n,
  -1n,
  -5n,
];

test('int64 indices below 2³¹ are themselves in int32, all others negative', () => {
  const narrow = asInt32(BigInt64Array.from(ENDS));
  for (const [i, value] of ENDS.entries())
    if (value >= 0n && value < 2n ** 31n) assert.equal(narrow[i], Number(value));
    else assert.ok((narrow[i] as number) < 0, `${value}`);
  const same = Int32Array.of(1, -1);
  assert.equal(asInt32(same), same);
});

test('integers as numbers, exact', () => {
  assert.deepEqual([...asNumbers(BigInt64Array.from(ENDS))], ENDS.map(Number));
  assert.deepEqual([...asNumbers(Int32Array.of(-(2 ** 31), 7))], [-(2 ** 31), 7]);
  // Of a part of a buffer.
  assert.deepEqual([...asNumbers(BigInt64Array.from(ENDS).subarray(5, 7))], [2 ** 32, 2 ** 32 + 5]);
});

test('a vector that grows over several blocks keeps all its values', () => {
  const count = 2 * (1 << 20) + 3;
  const values = new GrowingArray((length) => new Int32Array(length));
  for (let i = 0; i < count; i++) values.push(i);
  assert.equal(values.length, count);
  const all = values.toArray();
  assert.equal(all.length, count);
  assert.equal(
    all.findIndex((value, i) => value !== i),
    -1,
  );
});
