/** Functions of rows on the host, against the reference: every width of a row, alignment, number of blocks. */
import { before, test } from 'node:test';
import { RowFunctionParams } from '../../src/backend/cuda/dense/dense-params.ts';
import { directLaunch, rowFunctionSource } from '../../src/backend/cuda/dense/dense-source.ts';
import { assertFactorizationMachine, ROW_COLUMNS } from '../conformance/dense.ts';
import { FLOAT32_ROUNDING } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { type Emulator, emulate, refuseEmulation } from './emulator.ts';
import { framed, launch } from './host-matrix.ts';

const skip = refuseEmulation();
const source = rowFunctionSource('factorizationMachine');
let emulator: Emulator;

before(async () => {
  if (skip === undefined) emulator = await emulate([source]);
});

function onDevice(batch: number, columns: number, input: Float32Array, backwards: boolean): Float32Array {
  const rows = framed(1, batch, columns, input);
  const output = framed(1, batch, 1);
  const params = RowFunctionParams.encode({
    input: rows.address,
    inputStride: rows.stride,
    columns,
    output: output.address,
    outputStride: output.stride,
    batch,
  });
  launch(emulator, source.kernel, directLaunch(batch), params, [rows.array], [output.array], backwards);
  return output.values();
}

test('factorization machine: exact on integers, every width', { skip }, () => {
  const random = new Random(1);
  for (const [c, columns] of ROW_COLUMNS.entries()) {
    const batch = [1, 2, 8, 19][c % 4] as number;
    const input = random.integers(batch * columns, columns > 100 ? 3 : 8);
    const out = onDevice(batch, columns, input, c % 2 === 0);
    assertFactorizationMachine(out, { batch, columns, input }, 0, `${batch} rows of ${columns}`);
  }
});

test('factorization machine: reals', { skip }, () => {
  const [batch, columns] = [9, 108];
  const input = new Random(2).reals(batch * columns);
  const out = onDevice(batch, columns, input, false);
  assertFactorizationMachine(out, { batch, columns, input }, FLOAT32_ROUNDING, 'reals');
});
