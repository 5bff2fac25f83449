/** New values for rows: how many, of which rows, and which of equal ones counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkRowUpdate, rowNumbers, updatePiece } from '../../src/embedding/row-values.ts';

const table = (rows: number) => ({ name: 't', rows, dim: 2, rowFormat: 'float32' as const });

test('two values for each row, no more and no fewer', () => {
  const update = (count: number) => checkRowUpdate(table(9), Int32Array.of(1, 2), new Float32Array(count));
  assert.equal(update(4).count, 2);
  for (const count of [0, 2, 3, 5, 6]) assert.throws(() => update(count), { code: 'TENSOR_SHAPE' });
});

test('numbers of rows at the ends of tables of every size', () => {
  const last = [1, 2, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 47];
  for (const rows of last) {
    const own = table(rows);
    const good = BigInt64Array.of(0n, BigInt(rows - 1));
    assert.deepEqual(rowNumbers(own, good, 0, 2), good);
    for (const bad of [BigInt(rows), BigInt(rows) + 2n ** 32n, -1n, -(2n ** 63n), 2n ** 63n - 1n])
      for (const first of [0, 1])
        assert.throws(
          () => rowNumbers(own, BigInt64Array.of(0n, 0n, bad), first, 3 - first),
          (error: { code: string; details: { position: number; value: bigint } }) =>
            error.code === 'INDEX_OUT_OF_RANGE' &&
            error.details.position === 2 &&
            error.details.value === bad,
          `${bad} of ${rows}`,
        );
  }
});

test('int32 numbers are widened with their sign', () => {
  assert.deepEqual(
    rowNumbers(table(2 ** 31), Int32Array.of(0, 5, 2 ** 31 - 1), 0, 3),
    BigInt64Array.of(0n, 5n, 2n ** 31n - 1n),
  );
  for (const bad of [-1, -(2 ** 31)])
    assert.throws(() => rowNumbers(table(2 ** 40), Int32Array.of(bad), 0, 1), { code: 'INDEX_OUT_OF_RANGE' });
});

test('of equal numbers the last one counts, side by side or apart', () => {
  for (const [numbers, kept] of [
    [
      [3, 3],
      [-1, 3],
    ],
    [
      [1, 3, 3, 4],
      [1, -1, 3, 4],
    ],
    [
      [3, 1, 3],
      [-1, 1, 3],
    ],
    [
      [1, 2, 3],
      [1, 2, 3],
    ],
    [
      [5, 5, 5],
      [-1, -1, 5],
    ],
    [
      [2 ** 32 + 3, 3, 2 ** 32 + 3],
      [-1, 3, 2 ** 32 + 3],
    ],
  ] as const) {
    const rows = BigInt64Array.from(numbers, BigInt);
    const update = checkRowUpdate(table(2 ** 40), rows, new Float32Array(2 * numbers.length));
    assert.deepEqual(updatePiece(update, 0, numbers.length).numbers, BigInt64Array.from(kept, BigInt));
  }
});

test('numbers that went away meanwhile', () => {
  for (const [first, count] of [
    [0, 3],
    [1, 2],
    [2, 1],
    [3, 1],
  ] as const)
    assert.throws(() => rowNumbers(table(9), Int32Array.of(1, 2), first, count), { code: 'ARRAYS_CHANGED' });
});
