import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HotRowCoverage, type WatchedTable } from '../../../src/serve/metrics/hot-row-coverage.ts';
import { RowCounts } from '../../../src/serve/metrics/row-counts.ts';
import { createStream } from '../../../src/workload/access-patterns.ts';
import { countRows, coverageOf } from '../../../src/workload/hotness.ts';
import { createRandom } from '../../../src/workload/random.ts';
import fc from '../../support/properties.ts';

const random = () => 0.5;

/** Has batches of `lookups` looked at, drawn for each table. */
function watched(
  tables: readonly WatchedTable[],
  draw: readonly ((count: number) => Int32Array | BigInt64Array)[],
  batches: number,
  lookups: readonly number[] = tables.map(() => 2048),
) {
  const coverage = new HotRowCoverage(tables, { random });
  for (let i = 0; i < batches; i++)
    coverage.observe({ bags: draw.map((next, t) => ({ indices: next(lookups[t] as number) })) });
  return coverage.figures();
}

test('rows are counted as a Map counts them, within the room there is', () => {
  const rows = fc.array(
    fc.oneof(
      fc.nat(40),
      fc.integer({ min: 2 ** 31, max: 2 ** 31 + 9 }),
      fc.constantFrom(2 ** 40, 2 ** 40 + 2 ** 32, 2 ** 53 - 1),
    ),
    { maxLength: 64 },
  );
  fc.assert(
    fc.property(rows, rows, (before, all) => {
      const counts = new RowCounts(64);
      for (const row of before) counts.add(row);
      counts.clear();
      assert.equal(counts.highest, 0);
      const expected = new Map<number, number>();
      for (const row of all) {
        counts.add(row);
        expected.set(row, (expected.get(row) ?? 0) + 1);
      }
      for (const row of [...before, ...all]) assert.equal(counts.countOf(row), expected.get(row) ?? 0);
      assert.equal(counts.highest, Math.max(0, ...expected.values()));
      for (let count = 1; count <= 64; count++)
        assert.equal(counts.rowsWith(count), [...expected.values()].filter((n) => n === count).length);
    }),
  );
});

test('counts stop; more rows than there is room for are refused', () => {
  const counts = new RowCounts(4);
  for (let i = 0; i < 9; i++) counts.add(7);
  assert.equal(counts.countOf(7), 4);
  assert.equal(counts.rowsWith(4), 1);
  assert.equal(counts.highest, 4);
  for (const row of [1, 2, 3]) counts.add(row);
  assert.throws(() => counts.add(4), /more rows/);
  for (const capacity of [0, 3, 2 ** 16, Number.NaN])
    assert.throws(() => new RowCounts(capacity), RangeError);
});

test('the share of the hottest 1 % is near what all lookups say', () => {
  const rows = 100_000;
  for (const [pattern, tolerance] of [
    ['one_item', 0],
    ['high_hot', 0.08],
    ['random', 0.01],
  ] as const) {
    const draw = createStream(pattern, { rows, seed: 7 });
    const { share } = watched([{ name: 'a', rows }], [draw], 1500);
    const all = createStream(pattern, { rows, seed: 8 })(2_000_000);
    const [exact] = coverageOf(countRows(all), [rows / 100]);
    assert.ok(
      Math.abs(share - (exact?.share ?? -1)) <= tolerance,
      `${pattern}: ${share}, not ${exact?.share}`,
    );
  }
});

test('pruned lookups are of no row', () => {
  const kinds = createRandom(5);
  const draw = (count: number) =>
    Int32Array.from({ length: count }, () => [-1, -1, -1, 4, 4, 9][kinds.integer(6)] as number);
  const { share } = watched([{ name: 'a', rows: 100 }], [draw], 1500);
  assert.ok(Math.abs(share - 2 / 3) < 0.05, String(share));
});

test('rows met once are no hot rows of a small table', () => {
  // 50,000 rows have 500 hot ones, and a window of even lookups meets most rows once: 1 % of lookups, not all of them.
  const rows = 50_000;
  const { share } = watched([{ name: 'a', rows }], [createStream('random', { rows, seed: 3 })], 1000);
  assert.ok(share > 0.004 && share < 0.03, String(share));
});

test('the K hottest are hot, and those that are as hot as the last of them by their part', () => {
  const even = createStream('random', { rows: 10, seed: 2 });
  // Rows 1 and 2 have 40 % of the lookups each, 3 and 4 10 %.
  const draw = (count: number) =>
    Int32Array.from(even(count), (n) => [1, 1, 1, 1, 2, 2, 2, 2, 3, 4][Number(n)] as number);
  for (const [rows, share] of [
    [100, 0.4],
    [200, 0.8],
    [300, 0.9],
    [400, 1],
    [900, 1],
  ] as const) {
    const figures = watched([{ name: 'a', rows }], [draw], 1000);
    assert.ok(Math.abs(figures.share - share) < 0.03, `${rows} rows: ${figures.share}`);
  }
});

test('the whole is by lookups, pruned rows and empty bags aside', () => {
  const one = (row: number) => (count: number) => new Int32Array(count).fill(row);
  const tables = [
    { name: 'a', rows: 10 },
    { name: 'b', rows: 1_000_000 },
    { name: 'c', rows: 10 },
    { name: 'd', rows: 2 ** 32 },
  ];
  const even = createStream('random', { rows: 1_000_000, seed: 2 });
  const wide = (count: number) => new BigInt64Array(count).fill(2n ** 31n);
  const draw = [one(1), even, one(-1), wide];
  const figures = watched(tables, draw, 3000, [100, 200, 5, 0]);
  const [a, b, c, d] = figures.tables.map(({ share }) => share);
  assert.deepEqual([a, c, d], [1, Number.NaN, Number.NaN]);
  assert.ok((b ?? 1) < 0.05, String(b));
  assert.ok(Math.abs(figures.share - (1 + 2 * (b ?? 0)) / 3) < 1e-9);
  assert.equal(watched(tables, draw, 3000, [0, 0, 0, 300]).share, 1);
});

test('nothing is said before there is something to compare with', () => {
  const draw = createStream('high_hot', { rows: 1000, seed: 1 });
  assert.equal(watched([{ name: 'a', rows: 1000 }], [draw], 3).share, Number.NaN);
  assert.deepEqual(watched([], [], 3), { share: Number.NaN, tables: [] });
});

test('what changed is forgotten', () => {
  const coverage = new HotRowCoverage([{ name: 'a', rows: 1_000_000 }], { random });
  const even = createStream('random', { rows: 1_000_000, seed: 5 });
  for (let i = 0; i < 1000; i++) coverage.observe({ bags: [{ indices: new Int32Array(64).fill(9) }] });
  assert.equal(coverage.figures().share, 1);
  for (let i = 0; i < 2500; i++) coverage.observe({ bags: [{ indices: even(64) }] });
  assert.ok(coverage.figures().share < 0.1, String(coverage.figures().share));
});

test('of many tables only the whole is shown; of very many, the largest are watched', () => {
  const tables = (count: number) =>
    Array.from({ length: count }, (_, t) => ({ name: `t${t}`, rows: 10 + t }));
  assert.equal(new HotRowCoverage(tables(100)).shownTables.length, 100);
  assert.equal(new HotRowCoverage(tables(100)).figures().tables.length, 100);
  assert.deepEqual(new HotRowCoverage(tables(101)).shownTables, []);
  assert.deepEqual(new HotRowCoverage(tables(101)).figures().tables, []);
  // Of 600 tables the first 88 are not looked at: their batches could not even be read.
  const bags = Array.from({ length: 600 }, (_, t) => {
    const indices = new Int32Array(1);
    return {
      get indices() {
        assert.ok(t >= 88, `table ${t}`);
        return indices;
      },
    };
  });
  const coverage = new HotRowCoverage(tables(600), { random });
  for (let i = 0; i < 1200; i++) coverage.observe({ bags });
});
