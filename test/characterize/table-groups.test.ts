/** Which tables stand for which, and how many cells a budget has time for. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import { Budget } from '../../src/characterize/budget.ts';
import { cellsThatFit } from '../../src/characterize/counted-cells.ts';
import { tableGroups } from '../../src/characterize/table-groups.ts';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';

const table = (name: string, change: Partial<EmbeddingTable> = {}): EmbeddingTable => ({
  ...(syntheticTables({ tables: 1, rows: 1000, dim: 16, rowFormat: 'float32' })[0] as EmbeddingTable),
  ...change,
  name,
});

/** `length` lookups a bag for 10 samples, of `distinct` rows in turn. */
const bags = (length: number, distinct: number, wide = true): Bags => {
  const rows = Array.from({ length: 10 * length }, (_, i) => i % distinct);
  const offsets = Array.from({ length: 10 }, (_, b) => b * length);
  return wide
    ? { indices: BigInt64Array.from(rows, BigInt), offsets: BigInt64Array.from(offsets, BigInt) }
    : { indices: Int32Array.from(rows), offsets: Int32Array.from(offsets) };
};

describe('groups of tables', () => {
  test('what decides the kernel, the length of bags and the hotness part them', () => {
    const parts: [EmbeddingTable, Bags, Bags][] = [
      [table('first'), bags(10, 100), bags(10, 1)],
      [table('other rows', { rows: 5000 }), bags(10, 90), bags(10, 2)],
      [table('dim', { dim: 32 }), bags(10, 100), bags(10, 1)],
      [table('pooling', { mode: 'mean' }), bags(10, 100), bags(10, 1)],
      [table('narrow indices'), bags(10, 100, false), bags(10, 1, false)],
      [table('longer bags'), bags(40, 400), bags(40, 1)],
      [table('warm'), bags(10, 30), bags(10, 1)],
      [table('hot'), bags(10, 5), bags(10, 1)],
      [table('a little shorter'), bags(9, 90), bags(9, 1)],
      [table('cold on the other pattern'), bags(10, 1), bags(10, 80)],
    ];
    const batch = (at: 1 | 2) => ({ batchSize: 10, bags: parts.map((part) => part[at]) });
    const groups = tableGroups(
      parts.map(([own]) => own),
      [
        { pattern: 'a', batches: [batch(1)] },
        { pattern: 'b', batches: [batch(2)] },
      ],
    );
    assert.deepEqual(
      groups.map(({ tables, about }) => [about.measured, tables]),
      [
        ['first', [0, 1, 8, 9]],
        ['dim', [2]],
        ['pooling', [3]],
        ['narrow indices', [4]],
        ['longer bags', [5]],
        ['warm', [6]],
        ['hot', [7]],
      ],
    );
    assert.deepEqual(groups[0]?.about, {
      ...{ measured: 'first', tables: 4, rows: 1000, dim: 16, rowFormat: 'float32', pooling: 'sum' },
      ...{ bagLength: 10, distinctShare: 1 },
    });
  });

  test('empty batches', () => {
    const empty = { indices: new BigInt64Array(), offsets: new BigInt64Array() };
    const groups = tableGroups(
      [table('first')],
      [{ pattern: 'a', batches: [{ batchSize: 0, bags: [empty] }] }],
    );
    assert.deepEqual([groups[0]?.about.bagLength, groups[0]?.about.distinctShare], [0, 0]);
  });
});

describe('the budget', () => {
  test('ends with its time, or with an interrupt', () => {
    const interrupt = new AbortController();
    let nowMs = 0;
    const budget = new Budget({ seconds: 2, signal: interrupt.signal, now: () => nowMs });
    assert.deepEqual([budget.leftMs, budget.stopped], [2000, undefined]);
    nowMs = 1500;
    assert.deepEqual([budget.leftMs, budget.stopped], [500, undefined]);
    nowMs = 2500;
    assert.deepEqual([budget.leftMs, budget.stopped], [0, 'out of time']);
    interrupt.abort();
    assert.equal(budget.stopped, 'interrupted');
  });

  /** A run that takes 1 s to start, and then 0.1 s for each of 20 cells, `cells` of which have begun. */
  const told = (cells: number) =>
    Array.from({ length: cells }, (_, cell) => ({ cell, atMs: 1000 + 100 * cell }));
  const fit = (nowMs: number, leftMs: number, progress = told(0)) =>
    cellsThatFit({ progress, beganMs: 0, nowMs, leftMs, cells: 20 });

  test('all cells, while there is nothing that says otherwise', () => {
    assert.equal(fit(500, 30_000), 20);
    assert.equal(fit(1500, 60_000, told(6)), 20);
    // 13 passes of 3 s each.
    assert.equal(fit(3000, 36_000, told(21)), 20);
    assert.equal(fit(4000, 35_000, [...told(21), { cell: 0, atMs: 4000 }]), 20);
  });

  test('none, where the start alone takes too long', () => {
    assert.equal(fit(5000, 30_000), 0);
    assert.equal(fit(6000, 30_000, told(1)), 0);
    assert.equal(fit(3000, 11_000, told(11)), 0);
  });

  test('as many as passes of them fit into the time that is left', () => {
    // 26 s for 13 passes: 2 s each, of which 1 s is the start.
    assert.equal(fit(3000, 26_000, told(20)), 10);
    assert.equal(fit(4000, 26_000, [...told(21), { cell: 0, atMs: 4000 }]), 10);
    // Fewer than before in any case.
    assert.equal(fit(3100, 37_000, told(21)), 18);
    assert.equal(fit(4001, 34_998, [...told(21), { cell: 0, atMs: 4000 }]), 16);
  });
});
