/** The artifact's kernel on the host, against the reference, bit for bit: a variant of each kind. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  PLAIN_VARIANT,
  type StandardBagVariant,
  tableBagSource,
  tableVariantId,
} from '../../src/backend/cuda/embedding/standard-source.ts';
import { bagsOf, integers } from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { bagsFor, everyLength, expectedOf, tableFor } from '../support/cuda-bags.ts';
import { prefetching } from '../support/cuda-variants.ts';
import { Random } from '../support/random.ts';
import { emulate, refuseEmulation } from './emulator.ts';
import { SENTINEL, TableKernelsOnHost, UNWRITTEN } from './table-pool.ts';

const PREFETCHES = [
  prefetching('registers', 2),
  prefetching('shared', 10),
  prefetching('local', 2),
  prefetching('l1', 2),
];
const VARIANTS: readonly StandardBagVariant[] = [
  PLAIN_VARIANT,
  ...PREFETCHES,
  { ...prefetching('registers', 3), pooling: 'mean', padding: true, pruned: true, repair: true },
  { ...PLAIN_VARIANT, repair: true, padding: true },
  { ...PLAIN_VARIANT, pooling: 'mean', padding: true, pruned: true, index: 'int32' },
];

const skip = refuseEmulation();
let host: TableKernelsOnHost;

before(async () => {
  if (skip !== undefined) return;
  const sources = VARIANTS.map((variant) => tableBagSource('artifact', variant));
  host = new TableKernelsOnHost(await emulate(sources), 'artifact');
});

const name = (variant: StandardBagVariant) => tableVariantId('artifact', variant);

for (const variant of VARIANTS) {
  test(`${name(variant)}: bags of every length; each lookup's bag and each bag's size are noted`, {
    skip,
  }, () => {
    const random = new Random(7);
    for (const dim of [1, 32, 33, 130]) {
      const table = tableFor(random, variant, 37, dim);
      const lengths = everyLength(variant);
      const bags = bagsFor(random, variant, table.rows, lengths, dim % 2 === 0);
      const { offsetToBag, bagSize } = host.check(variant, table, bags, lengths.length);
      assert.deepEqual(
        Array.from(offsetToBag),
        lengths.flatMap((length, b) => Array(length).fill(BigInt(b))),
      );
      let from = 0;
      const sizes = lengths.map((length) => {
        const own = Array.from(bags.indices.subarray(from, from + length), BigInt);
        from += length;
        const counted = own.filter((index) =>
          index === -1n ? variant.pooling === 'mean' : index !== BigInt(table.paddingIdx ?? -1),
        );
        return BigInt(counted.length);
      });
      assert.deepEqual(Array.from(bagSize), sizes);
    }
  });
}

test('nothing past a bag is read or asked for, and each index and element once', { skip }, () => {
  const random = new Random(12);
  const dim = 40;
  for (const variant of [PLAIN_VARIANT, ...PREFETCHES]) {
    const table = tableFor(random, variant, 10, dim);
    const lengths = everyLength(variant);
    const lists = lengths.map((length) => Array.from({ length }, () => random.integer(0, 9)));
    const { indices, offsets } = bagsOf(lists, { endOffset: true });
    const lookups = indices.length;
    // Past the end offset: rows that a kernel must not even look at.
    const beyond = Array.from({ length: 20 }, () => 3n);
    const bags = { indices: integers([...indices, ...beyond] as bigint[]), offsets };
    const { values, counts, offsetToBag } = host.pool(variant, table, bags, lengths.length);
    assertSameValues(values, expectedOf(table, { indices, offsets }, lengths.length), name(variant));
    assert.ok(offsetToBag.subarray(lookups).every((bag) => bag === UNWRITTEN));
    // Offsets, then an index and an element a lookup and feature; outputs, and what feature 0 notes.
    const reads = 2 * lengths.length * dim + 2 * lookups * dim;
    const later = lengths.reduce((sum, length) => sum + Math.max(0, length - 2), 0) * dim;
    const isL1 = variant.prefetch?.into === 'l1';
    assert.equal(counts.reads, reads + (isL1 ? later : 0), name(variant));
    assert.equal(counts.prefetches, isL1 ? later : 0);
    assert.equal(counts.writes, lengths.length * dim + lookups + lengths.length);
  }
});

test('bad indices and offsets are repaired as the reference does', { skip }, () => {
  const random = new Random(13);
  for (const variant of VARIANTS.filter(({ repair }) => repair)) {
    for (let round = 0; round < 4; round++) {
      const table = tableFor(random, variant, 1 + 5 * (round % 2), 34);
      const bad = [-1n, 6n, 2n ** 32n, 2n ** 32n + 1n, 2n ** 63n - 1n, -(2n ** 63n)];
      const indices = integers([0n, ...bad, 0n, 0n], 'int64');
      for (const offsets of [
        [0n, 3n, 5n],
        [0n, 5n, 3n, 100n],
        [2n, 1n, -7n],
        [-(2n ** 40n), 2n ** 40n, 4n, 2n],
      ])
        host.check(variant, table, { indices, offsets: integers(offsets, 'int64') }, 3);
    }
  }
});

test('any grid gives the same bits, and a stop word that is not 0 stops everything', { skip }, () => {
  const random = new Random(14);
  for (const variant of [PLAIN_VARIANT, ...PREFETCHES]) {
    const table = tableFor(random, variant, 50, 70);
    const bags = bagsFor(random, variant, 50, [3, 9, 0, 14, 1, 24, 4]);
    for (const grid of [1, 2, 40]) host.check(variant, table, bags, 7, { grid });
    host.check(variant, table, bags, 7, { stop: BigInt64Array.of(0n) });
    const stopped = host.pool(variant, table, bags, 7, { stop: BigInt64Array.of(1n) });
    assert.ok(stopped.values.every((x) => x === SENTINEL));
    assert.ok(stopped.bagSize.every((size) => size === UNWRITTEN));
  }
});

test('NaN, infinities and signed zeros', { skip }, () => {
  const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0, 2 ** -149, 3e38];
  const lists = special.flatMap((_, i) => [[i], ...special.map((_, j) => [i, j]), [6, i, 6, 5]]);
  const table = {
    name: 'special',
    weight: { dtype: 'float32', shape: [special.length, 1], data: Float32Array.from(special) },
    rows: special.length,
    dim: 1,
    rowFormat: 'float32',
    mode: 'sum',
  } as const;
  for (const variant of [PLAIN_VARIANT, ...PREFETCHES])
    host.check(variant, table, bagsOf(lists), lists.length);
});
