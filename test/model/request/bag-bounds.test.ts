/** Bounds of bags: each at its limits and past them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorCode } from '../../../src/errors.ts';
import type { FeatureInput } from '../../../src/model/inputs.ts';
import {
  asNumbers,
  type BagsPlace,
  boundCount,
  checkOffsets,
  longBag,
  offsetsOf,
  repeated,
  runningSums,
} from '../../../src/model/request/bag-bounds.ts';
import type { BagBounds, Lookups } from '../../../src/model/request/request-parts.ts';

const ints = (...values: readonly number[]) => Int32Array.from(values);
const longs = (...values: readonly number[]) => BigInt64Array.from(values, BigInt);
const place = (bags: number): BagsPlace => ({
  feature: { name: 'f' } as FeatureInput,
  table: 3,
  bags,
  nameOf: (bag) => `bag ${bag}`,
});
const refused = (run: () => unknown, code: ErrorCode, message = /./) => assert.throws(run, { code, message });

test('lengths are not negative, and add up to the lookups', () => {
  for (const of of [ints, longs]) {
    assert.deepEqual(runningSums(of(2, 0, 3), 5, 'l'), ints(0, 2, 2, 5));
    assert.deepEqual(runningSums(of(), 0, 'l'), ints(0));
    refused(() => runningSums(of(2, -1, 4), 5, 'l'), 'LENGTHS_INVALID', /l\[1\] = -1 is negative/);
    refused(() => runningSums(of(6, -1), 5, 'l'), 'LENGTHS_INVALID');
    refused(() => runningSums(of(2, 4), 5, 'l'), 'LENGTHS_INVALID', /l\[1\] = 4 goes past the end of 5/);
    refused(() => runningSums(of(2, 2), 5, 'l'), 'LENGTHS_INVALID', /add up to 4, there are 5/);
    refused(() => runningSums(of(), 1, 'l'), 'LENGTHS_INVALID');
  }
});

test('offsets of int32 reach 2³¹ − 1 lookups', () => {
  const most = 2 ** 31 - 1;
  assert.deepEqual(runningSums(ints(most), most, 'l'), ints(0, most));
  refused(() => runningSums(longs(2 ** 31), 2 ** 31, 'l'), 'LENGTHS_INVALID', /more than 2147483647/);
  const one = { indices: new Int32Array(1 << 16), offsets: ints(0, 1 << 16) };
  refused(() => repeated(one, 1 << 15), 'LENGTHS_INVALID', /2147483648 lookups, more than/);
});

test('as many bounds as bags', () => {
  const lookups = (bounds: BagBounds, values = 4) =>
    ({ bounds, values: new Int32Array(values), names: { values: 'v', bounds: 'b' } }) as unknown as Lookups;
  for (const [count, good] of [
    [1, false],
    [2, true],
    [3, true],
    [4, false],
    [5, false],
  ] as const) {
    const bounds: BagBounds = { kind: 'offsets', offsets: new Int32Array(count) };
    assert.equal(boundCount(bounds), count);
    if (good) assert.equal(offsetsOf(lookups(bounds), place(2)), bounds.offsets);
    else refused(() => offsetsOf(lookups(bounds), place(2)), 'TENSOR_SHAPE', /offsets for a batch of 2/);
  }
  const lengths: BagBounds = { kind: 'lengths', lengths: ints(1, 3) };
  assert.deepEqual(offsetsOf(lookups(lengths), place(2)), ints(0, 1, 4));
  const fixed: BagBounds = { kind: 'fixed', bags: 2, length: 2 };
  assert.deepEqual(offsetsOf(lookups(fixed), place(2)), ints(0, 2, 4));
  for (const bounds of [lengths, fixed])
    for (const bags of [1, 3])
      refused(() => offsetsOf(lookups(bounds), place(bags)), 'TENSOR_SHAPE', /2 bags/);
});

test('one bag for all of a batch', () => {
  const one = { indices: longs(7, 8), offsets: ints(0, 2), weights: Float32Array.of(0.5, 2) };
  assert.deepEqual(repeated(one, 3), {
    indices: longs(7, 8, 7, 8, 7, 8),
    offsets: ints(0, 2, 4, 6),
    weights: Float32Array.of(0.5, 2, 0.5, 2, 0.5, 2),
  });
  assert.deepEqual(repeated(one, 0).offsets, ints(0));
});

test('offsets begin with 0, never decrease, and end with the lookups', () => {
  for (const of of [ints, longs]) {
    for (const good of [of(), of(0), of(0, 0), of(0, 2, 2, 5), of(0, 5, 5)]) checkOffsets(good, 5, place(2));
    for (const [bad, position, message] of [
      [of(1, 2), 0, /must be 0|not 0/],
      [of(-1, 2), 0, /./],
      [of(0, 3, 2), 2, /./],
      [of(0, 6), 1, /./],
      [of(0, 2, 6), 2, /./],
    ] as const)
      assert.throws(
        () => checkOffsets(bad, 5, place(2)),
        (error: { code: string; message: string; details: { position: number } }) => {
          assert.equal(error.code, 'OFFSETS_INVALID');
          assert.equal(error.details.position, position);
          assert.match(error.message, message);
          return true;
        },
      );
  }
});

test('integers as numbers, exact', () => {
  const ends = [0n, 1n, -1n, 2n ** 31n, 2n ** 32n - 1n, -(2n ** 31n), -(2n ** 32n), 2n ** 53n, -(2n ** 53n)];
  assert.deepEqual([...asNumbers(BigInt64Array.from(ends))], ends.map(Number));
  const same = ints(1, -1);
  assert.equal(asNumbers(same), same);
});

test('the first bag that is too long, the last one too', () => {
  assert.equal(longBag(ints(0, 2, 4), 6, 3, 2), undefined);
  assert.deepEqual(longBag(ints(0, 2, 5), 6, 3, 2), { bag: 1, length: 3 });
  assert.deepEqual(longBag(longs(0, 2, 4), 7, 3, 2), { bag: 2, length: 3 });
});
