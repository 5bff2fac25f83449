/** Rows by their numbers on the device: those that are none are left out. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { utilitySource } from '../../src/backend/cuda/kernels/utilities.ts';
import { MoveRowsParams } from '../../src/backend/cuda/rows/move-rows-params.ts';
import { addressOf, type Emulator, emulate, refuseEmulation } from './emulator.ts';

const skip = refuseEmulation();
let emulator: Emulator;
before(async () => {
  if (skip === undefined)
    emulator = await emulate([utilitySource('update_rows'), utilitySource('read_rows')]);
});

test('numbers at both ends of a table, and past them', { skip }, () => {
  const rowCount = 3;
  // A row more than the table has, which must stay.
  const rows = Int32Array.from({ length: 2 * (rowCount + 1) }, (_, i) => i);
  const numbers = BigInt64Array.of(2n, 3n, -1n, 0n, 2n ** 40n);
  const values = Int32Array.from({ length: 2 * numbers.length }, (_, i) => 100 + i);
  const params = () =>
    MoveRowsParams.encode({
      rows: addressOf(rows),
      rowCount,
      rowStrideBytes: 8,
      headerBytes: 0,
      elementBytes: 8,
      wordBytes: 4,
      numbers: addressOf(numbers),
      count: numbers.length,
      values: addressOf(values),
      valueStrideBytes: 8,
    });
  const shape = { grid: [2], block: [64] } as const;
  emulator.launch('hotrow_update_rows', {
    ...shape,
    params: params(),
    reads: [numbers, values],
    writes: [rows],
  });
  assert.deepEqual([...rows], [106, 107, 2, 3, 100, 101, 6, 7]);
  values.fill(-1);
  emulator.launch('hotrow_read_rows', {
    ...shape,
    params: params(),
    reads: [numbers, rows],
    writes: [values],
  });
  assert.deepEqual([...values], [100, 101, -1, -1, -1, -1, 106, 107, -1, -1]);
});
