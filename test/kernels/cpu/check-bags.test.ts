/** The check of bags where row counts are larger than the type of the indices. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  BAGS_WORDS,
  CHECK_REPORT_WORDS,
  OPERATOR,
  OPERATOR_WORDS,
  TABLE_WORDS,
} from '../../../src/ffi/cpu-operators.ts';
import { addressOf } from '../../../src/ffi/host-memory.ts';
import { library } from '../../../src/ffi/native-library.ts';
import { bestIsa, createPool, destroyPool, ISA, type Isa } from '../../../src/ffi/thread-pool.ts';

const isas = (Object.keys(ISA) as Isa[]).filter((isa) => ISA[isa] <= ISA[bestIsa()]);
const pools = new Map(isas.map((isa) => [isa, createPool(2, isa)]));
after(() => {
  for (const pool of pools.values()) destroyPool(pool);
});

/** Indices that the library calls bad, of a table of `rowCount` rows that are nowhere, and where the first is. */
function check(
  isa: Isa,
  rowCount: bigint,
  indices: Int32Array | BigInt64Array,
  pruned = false,
  offsets = Int32Array.of(0, indices.length),
) {
  const table = new BigInt64Array(TABLE_WORDS);
  table.set([addressOf(offsets), rowCount, 1n, 0n, 4n, 0n, -1n, 0n, pruned ? 1n : 0n, 0n]);
  const bags = new BigInt64Array(BAGS_WORDS);
  const width = BigInt(indices.BYTES_PER_ELEMENT);
  bags.set([
    addressOf(indices),
    addressOf(offsets),
    width,
    4n,
    BigInt(indices.length),
    BigInt(offsets.length),
  ]);
  const report = new BigInt64Array(CHECK_REPORT_WORDS);
  const operator = new BigInt64Array(OPERATOR_WORDS);
  const at = [table, bags].map(addressOf);
  operator.set([
    BigInt(OPERATOR.checkBags),
    0n,
    ...at,
    1n,
    BigInt(offsets.length - 1),
    0n,
    addressOf(report),
  ]);
  assert.equal(Number(library().run(pools.get(isa), operator, 1, null)), 0);
  // Addresses keep nothing from the collector.
  assert.ok([table, bags, offsets, indices].every(({ byteOffset }) => byteOffset === 0));
  const [code, , position, value, limit, bad, badOffsets] = report;
  if (badOffsets !== 0n) return { code, badOffsets, position };
  return { bad: Number(bad), first: Number(bad) === 0 ? undefined : { position, value, limit } };
}

/** Row counts about the ends of int32 and uint32, and above. */
const ROW_COUNTS = [31n, 32n, 33n, 40n, 47n].flatMap((bits) =>
  [-1n, 0n, 1n, 5n].map((more) => 2n ** bits + more),
);
const [LEAST, MOST] = [-(2 ** 31), 2 ** 31 - 1];

test('int32 indices into tables of 2³¹ rows and more, pruned ones or not', () => {
  for (const isa of isas)
    for (const rowCount of ROW_COUNTS)
      for (const pruned of [false, true]) {
        const good = (index: number) => (index >= 0 && BigInt(index) < rowCount) || (pruned && index === -1);
        const indices = Int32Array.of(0, 1, MOST - 1, MOST, 5, -1, -2, LEAST, 7, LEAST + 1);
        const { bad, first } = check(isa, rowCount, indices, pruned);
        const what = `${isa}, ${rowCount} rows${pruned ? ', pruned' : ''}`;
        assert.equal(bad, [...indices].filter((index) => !good(index)).length, what);
        const position = indices.findIndex((index) => !good(index));
        assert.deepEqual(
          first,
          { position: BigInt(position), value: BigInt(indices[position] as number), limit: rowCount },
          what,
        );
        const all = check(
          isa,
          rowCount,
          Int32Array.from({ length: 1000 }, (_, i) => MOST - 1 - i),
          pruned,
        );
        assert.deepEqual(all, { bad: 0, first: undefined }, what);
      }
});

test('int64 indices at the last row and past it', () => {
  for (const isa of isas)
    for (const rowCount of ROW_COUNTS) {
      const indices = BigInt64Array.of(0n, rowCount - 1n, rowCount, -1n, 2n ** 63n - 1n, -(2n ** 63n));
      const { bad, first } = check(isa, rowCount, indices, false);
      assert.equal(bad, 4);
      assert.deepEqual(first, { position: 2n, value: rowCount, limit: rowCount });
      assert.equal(check(isa, rowCount, indices, true).bad, 3);
    }
});

test('offsets of many bags without lookups, and bad indices in many places, are all found', () => {
  const count = 1 << 20;
  for (const isa of isas) {
    const offsets = new Int32Array(count + 1);
    offsets[count - 5] = 1;
    const none = new Int32Array(0);
    assert.deepEqual(check(isa, 5n, none, false, offsets), {
      code: 4n,
      // It is past the end, and the one behind it decreases.
      badOffsets: 2n,
      position: BigInt(count - 5),
    });
    // So many that both threads find some.
    const bad = new Int32Array(8 * count).fill(5);
    assert.deepEqual(check(isa, 5n, bad), { bad: bad.length, first: { position: 0n, value: 5n, limit: 5n } });
  }
});
