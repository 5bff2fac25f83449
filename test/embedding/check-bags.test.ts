/** Batches of callers: each number of them at its bounds and past them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkBagShapes,
  checkBatchSize,
  checkOffsetCount,
  checkUsers,
  MOST_SAMPLES,
} from '../../src/embedding/check-bags.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';

const table = (mode: 'sum' | 'mean' | 'max' = 'sum', rowWeights = false) =>
  randomTable(new Random(1), { rows: 9, dim: 2, name: 't', mode, rowWeights });
const ints = (...values: readonly number[]) => Int32Array.from(values);
const bags = (offsets: Int32Array, lookups = 3, more: object = {}) => ({
  indices: new Int32Array(lookups),
  offsets,
  ...more,
});
const refused = (run: () => unknown, code: ErrorCode, message = /./) => assert.throws(run, { code, message });

test('batch sizes', () => {
  for (const size of [0, 1, MOST_SAMPLES]) assert.equal(checkBatchSize(size), size);
  for (const size of [-1, MOST_SAMPLES + 1, 1.5, '2', null, Number.NaN])
    refused(() => checkBatchSize(size), 'TENSOR_SHAPE');
});

test('a table for all bags, bags for all tables', () => {
  const tables = [table(), table()];
  const own = bags(ints(0));
  const batch = (count: number) => ({ batchSize: 1, bags: Array.from({ length: count }, () => own) });
  assert.equal(checkBagShapes(tables, batch(2)).bags.length, 2);
  for (const count of [0, 1]) refused(() => checkBagShapes(tables, batch(count)), 'TABLE_MISSING');
  for (const count of [3, 4]) refused(() => checkBagShapes(tables, batch(count)), 'TABLE_UNEXPECTED');
});

test('as many offsets as bags, or one more, also where they are used', () => {
  for (const [count, good] of [
    [0, false],
    [1, false],
    [2, true],
    [3, true],
    [4, false],
  ] as const) {
    const own = bags(new Int32Array(count));
    const shapes = () => checkBagShapes([table()], { batchSize: 2, bags: [own] });
    const used = () => checkOffsetCount(count, own, 0, { batchSize: 2 });
    for (const run of [shapes, used])
      if (good) run();
      else refused(run, 'TENSOR_SHAPE');
  }
});

test('weights: as many as lookups, of sums alone, of tables without weights of their own', () => {
  const weighted = (count: number, own = table()) => checkBagShapes([own], batchOf(count));
  const batchOf = (count: number) => ({
    batchSize: 1,
    bags: [bags(ints(0), 3, { weights: new Float32Array(count) })],
  });
  weighted(3);
  for (const count of [0, 2, 4]) refused(() => weighted(count), 'TENSOR_SHAPE', /weights for 3 lookups/);
  for (const mode of ['mean', 'max'] as const)
    refused(() => weighted(3, table(mode)), 'TENSOR_UNEXPECTED', /mode sum/);
  refused(() => weighted(3, table('sum', true)), 'TENSOR_UNEXPECTED', /learned pooling weights/);
});

test('users begin with 0, never decrease, and end with the batch', () => {
  for (const users of [ints(0, 3), ints(0, 0, 3), ints(0, 3, 3), ints(0, 1, 2, 3)])
    assert.deepEqual(checkUsers({ users, batchSize: 3 }), users);
  for (const users of [ints(), ints(1, 3), ints(-1, 3), ints(0, 2, 1, 3), ints(0, 2), ints(0, 4), ints(0)])
    refused(() => checkUsers({ users, batchSize: 3 }), 'USERS_INVALID');
  refused(() => checkUsers({ users: ints(), batchSize: 0 }), 'USERS_INVALID', /must begin with 0/);
  assert.deepEqual(checkUsers({ users: ints(0), batchSize: 0 }), ints(0));
  const given = ints(0, 3);
  const copy = checkUsers({ users: given, batchSize: 3 });
  given[1] = 9;
  assert.deepEqual(copy, ints(0, 3));
});

test('bags per user want users, and are as many', () => {
  const own = (count: number) => [bags(new Int32Array(count), 3, { perUser: true })];
  refused(() => checkBagShapes([table()], { batchSize: 3, bags: own(2) }), 'USERS_INVALID', /names no users/);
  const users = ints(0, 3);
  for (const count of [1, 2]) checkBagShapes([table()], { batchSize: 3, users, bags: own(count) });
  for (const count of [0, 3])
    refused(() => checkBagShapes([table()], { batchSize: 3, users, bags: own(count) }), 'TENSOR_SHAPE');
});
