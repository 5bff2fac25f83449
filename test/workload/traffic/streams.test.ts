/** Batches of streams: in order, table by table; what a table is too small for is drawn. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Trace } from '../../../src/workload/trace.ts';
import { fittedStreams } from '../../../src/workload/traffic/streams.ts';
import { feedBatches, lookupsNeeded } from '../../../src/workload/traffic/table-feeds.ts';
import { numbers } from '../../support/trace-files.ts';

const trace = (...streams: number[][]): Trace => ({
  file: 'trace.txt',
  format: streams.length === 1 ? 'text' : 'dlrm_datasets',
  streams: streams.map((stream) => Int32Array.from(stream)),
});
const shape = { batchSize: 2, bagLengths: '2', seed: 1, batches: 2 };

function batchesOf(from: Trace, rows: readonly number[], change: Partial<typeof shape> = {}) {
  const own = { ...shape, ...change };
  const tables = rows.map((count, t) => ({ name: `t${t}`, rows: count }));
  const streams = fittedStreams(from, tables, lookupsNeeded(tables.length, own));
  const { batches, notes } = feedBatches(streams.feeds, own);
  return { batches, notes: [...streams.notes, ...notes] };
}
const lookups = ({ batches }: ReturnType<typeof batchesOf>) =>
  batches.map(({ bags }) => bags.map(({ indices }) => numbers(indices)));

describe('batches of streams', () => {
  test('one stream goes table by table, batch by batch, and begins again', () => {
    const made = batchesOf(trace([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), [10, 10]);
    assert.deepEqual(made.notes, []);
    assert.deepEqual(lookups(made), [
      [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
      ],
      [
        [8, 9, 0, 1],
        [2, 3, 4, 5],
      ],
    ]);
    for (const { batchSize, bags } of made.batches) {
      assert.equal(batchSize, 2);
      for (const { offsets } of bags) assert.deepEqual(numbers(offsets), [0, 2]);
    }
  });

  test('indices past the rows are dropped before, and that is said', () => {
    const made = batchesOf(trace([0, 99, 1, 4, 2, 3]), [4], { batches: 1 });
    assert.deepEqual(made.notes, ["trace.txt: 2 lookups past the tables' rows were dropped"]);
    assert.deepEqual(lookups(made), [[[0, 1, 2, 3]]]);
  });

  test('a stream shorter than a table’s part of a batch comes again, and that is said', () => {
    const made = batchesOf(trace([3]), [4], { batches: 1 });
    assert.deepEqual(lookups(made), [[[3, 3, 3, 3]]]);
    assert.match(made.notes.join(), /1 lookups are fewer than the 4 .* look hotter than they are/);
  });

  test('a stream per table', () => {
    const made = batchesOf(trace([1, 2, 3], [10, 20]), [100, 100]);
    assert.deepEqual(lookups(made), [
      [
        [1, 2, 3, 1],
        [10, 20, 10, 20],
      ],
      [
        [2, 3, 1, 2],
        [10, 20, 10, 20],
      ],
    ]);
  });

  test('equal seeds draw equal ragged bags', () => {
    const ragged = { batchSize: 50, bagLengths: 'uniform:0:5' };
    const once = batchesOf(trace([0, 1, 2, 3]), [4], ragged);
    assert.deepEqual(once, batchesOf(trace([0, 1, 2, 3]), [4], ragged));
    assert.notDeepEqual(once, batchesOf(trace([0, 1, 2, 3]), [4], { ...ragged, seed: 2 }));
  });

  test('a table that nothing fits draws from the nearest pattern, and that is said', () => {
    const hot = Array.from({ length: 200 }, () => 500);
    const made = batchesOf(trace([...hot, 501]), [1000, 4], { batchSize: 30 });
    for (const [first, second] of lookups(made) as [number[], number[]][]) {
      assert.ok(first.every((row) => row === 500 || row === 501));
      assert.equal(second.length, 60);
      assert.equal(new Set(second).size, 1, 'one row');
      assert.ok(second.every((row) => row >= 0 && row < 4));
    }
    assert.match(made.notes.join(), /larger table than table 1 \(t1, 4 rows\).* drawn from one_item/);
  });

  test('a table that a batch’s worth fits looks that up', () => {
    const stream = Array.from({ length: 1000 }, (_, i) => i);
    assert.deepEqual(lookups(batchesOf(trace(stream), [5], { batches: 1 })), [[[0, 1, 2, 3]]]);
    const longer = batchesOf(trace(stream), [5], { batches: 1, batchSize: 3 });
    assert.match(longer.notes.join(), /drawn from/);
  });

  test('an empty batch, and bags of nothing', () => {
    assert.deepEqual(lookups(batchesOf(trace([1]), [4], { batchSize: 0 })), [[[]], [[]]]);
    assert.deepEqual(lookups(batchesOf(trace([1]), [4], { bagLengths: '0' })), [[[]], [[]]]);
  });
});

describe('recorded bags', () => {
  // Bags [], [1, 2], [3] of table 0, and [10], [20, 99], [] of table 1.
  const recorded: Trace = {
    ...trace([1, 2, 3], [10, 20, 99]),
    offsets: [Float64Array.of(0, 0, 2, 3), Float64Array.of(0, 1, 3, 3)],
  };
  const bagsOf = ({ batches }: ReturnType<typeof batchesOf>) =>
    batches.map(({ bags }) => bags.map(({ indices, offsets }) => [numbers(indices), numbers(offsets)]));

  test('are handed out as they were recorded, whatever lengths would be drawn', () => {
    const made = batchesOf(recorded, [100, 100], { bagLengths: '7' });
    assert.deepEqual(made.notes, []);
    assert.deepEqual(bagsOf(made), [
      [
        [
          [1, 2],
          [0, 0],
        ],
        [
          [10, 20, 99],
          [0, 1],
        ],
      ],
      [
        [[3], [0, 1]],
        [[10], [0, 0]],
      ],
    ]);
  });

  test('lose what is past the rows', () => {
    const [first] = bagsOf(batchesOf(recorded, [100, 50])) as [unknown[]];
    assert.deepEqual(first[1], [
      [10, 20],
      [0, 1],
    ]);
  });

  test('come again within a batch that is larger, and that is said', () => {
    const made = batchesOf(recorded, [100, 100], { batchSize: 5, batches: 1 });
    assert.deepEqual(numbers(made.batches[0]?.bags[0]?.indices), [1, 2, 3, 1, 2]);
    assert.match(made.notes.join(), /3 bags are fewer than the 5 /);
  });

  test('lend their lengths where lookups are drawn', () => {
    const one: Trace = { ...trace([7, 8, 9]), offsets: [Float64Array.of(0, 0, 2, 3)] };
    const made = batchesOf(one, [2], { batchSize: 3, batches: 1 });
    assert.deepEqual(numbers(made.batches[0]?.bags[0]?.offsets), [0, 0, 2]);
    assert.ok(numbers(made.batches[0]?.bags[0]?.indices).every((row) => row < 2));
  });
});
