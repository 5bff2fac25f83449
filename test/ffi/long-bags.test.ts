import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findLongBags } from '../../src/ffi/long-bags.ts';
import fc from '../support/properties.ts';

const BATCH = 5;
const clamped = (offset: number, lookups: number) => Math.min(Math.max(offset, 0), lookups);

function hasLongBag(offsets: readonly number[], lookups: number, split: number): boolean {
  const bounds = [...offsets, ...(offsets.length === BATCH ? [lookups] : [])].map((at) =>
    clamped(at, lookups),
  );
  return bounds.some((begin, i) => i < BATCH && (bounds[i + 1] as number) - begin > split);
}

const table = fc.record({
  offsets: fc.array(fc.integer({ min: -4, max: 24 }), { minLength: BATCH, maxLength: BATCH + 1 }),
  lookups: fc.nat(20),
  wide: fc.boolean(),
});

test('long bags are found whatever the offsets are', () => {
  fc.assert(
    fc.property(fc.array(table), fc.integer({ min: 1, max: 12 }), (tables, split) => {
      const found = findLongBags(
        tables.map(({ offsets, lookups, wide }) => ({
          offsets: wide ? BigInt64Array.from(offsets, BigInt) : Int32Array.from(offsets),
          lookups,
        })),
        BATCH,
        split,
      );
      assert.deepEqual(
        found,
        tables.map(({ offsets, lookups }) => hasLongBag(offsets, lookups, split)),
      );
    }),
  );
});

test('offsets at the ends of their types', () => {
  const int32 = Int32Array.of(-(2 ** 31), 2 ** 31 - 1);
  const int64 = BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n);
  for (const offsets of [int32, int64]) {
    assert.deepEqual(findLongBags([{ offsets, lookups: 100 }], 1, 99), [true]);
    assert.deepEqual(findLongBags([{ offsets, lookups: 100 }], 1, 100), [false]);
  }
});
