/** Tables of callers: each number of them at its bounds and past them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTable, checkTables, MOST_DIM, MOST_ROWS } from '../../src/embedding/check-tables.ts';
import type { ErrorCode } from '../../src/errors.ts';

const seeded = (rows: number, dim: number) => ({ dtype: 'float32' as const, shape: [rows, dim], seed: 1 });
const good = (more: object = {}) => ({
  name: 't',
  weight: seeded(4, 3),
  rows: 4,
  dim: 3,
  rowFormat: 'float32',
  mode: 'sum',
  ...more,
});
const refused = (value: object, code: ErrorCode, message = /./) =>
  assert.throws(() => checkTable(value), { code, message });

test('rows and dims', () => {
  for (const [rows, dim] of [
    [1, 1],
    [2 ** 47, 1],
    [1, 2 ** 31 - 1],
  ] as const)
    assert.equal(checkTable(good({ rows, dim, weight: seeded(rows, dim) })).rows, rows);
  assert.deepEqual([MOST_ROWS, MOST_DIM], [2 ** 47, 2 ** 31 - 1]);
  for (const rows of [0, -1, 1.5, 2 ** 47 + 1, '4'])
    refused(good({ rows, weight: seeded(Number(rows), 3) }), 'TENSOR_SHAPE', /at least one row/);
  for (const dim of [0, -1, 2 ** 31, null]) refused(good({ dim }), 'TENSOR_SHAPE', /a dim of at least 1/);
});

test('weights are of the rows, the dim and the format', () => {
  for (const [rows, dim] of [
    [3, 3],
    [5, 3],
    [4, 2],
    [4, 4],
  ] as const)
    refused(good({ weight: seeded(rows, dim) }), 'TENSOR_SHAPE', /weight has shape/);
  refused(good({ weight: { ...seeded(4, 3), dtype: 'float16' } }), 'TENSOR_DTYPE', /takes float32/);
});

test('padding is a row', () => {
  for (const paddingIdx of [0, 1, 3]) assert.equal(checkTable(good({ paddingIdx })).paddingIdx, paddingIdx);
  for (const paddingIdx of [-1, 4, 1.5, '0']) refused(good({ paddingIdx }), 'TENSOR_SHAPE', /padding index/);
});

test('learned weights: one per row, of sums alone', () => {
  const weights = (count: number) => ({ rowWeights: new Float32Array(count) });
  checkTable(good(weights(4)));
  for (const count of [0, 3, 5]) refused(good(weights(count)), 'TENSOR_SHAPE', /for 4 rows/);
  for (const mode of ['mean', 'max']) refused(good({ ...weights(4), mode }), 'TENSOR_SHAPE', /mode sum/);
});

test('features on one weight read it alike', () => {
  const weight = seeded(4, 3);
  const [one, other] = checkTables([good({ weight }), good({ weight, name: 'u' })]);
  assert.equal(one?.weight, other?.weight);
  const halves = { dtype: 'uint8' as const, shape: [4, 16], seed: 1 };
  const formats = ['int8', 'int4'].map((rowFormat, i) => ({
    ...good({ weight: halves, rowFormat, name: `${i}` }),
    dim: rowFormat === 'int8' ? 8 : 16,
  }));
  for (const table of formats) checkTable(table);
  assert.throws(() => checkTables(formats), { code: 'TENSOR_SHAPE', message: /reads it as/ });
  assert.throws(() => checkTables([]), { code: 'TABLE_MISSING' });
});
