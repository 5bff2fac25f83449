/** Functions of rows on the host, against the reference: every width of a row, alignment, number of blocks. */
import { before, test } from 'node:test';
import { RowFunctionParams } from '../../src/backend/cuda/dense/dense-params.ts';
import { directLaunch, rowFunctionSource } from '../../src/backend/cuda/dense/dense-source.ts';
import { REFERENCE_ROW_FUNCTIONS } from '../../src/dense/reference.ts';
import { ELEMENT_FORMATS, type ElementFormat } from '../../src/device.ts';
import { assertFactorizationMachine, ROW_COLUMNS } from '../conformance/dense.ts';
import { assertSameValues, FLOAT32_ROUNDING } from '../support/compare.ts';
import { roundedTo } from '../support/elements.ts';
import { Random } from '../support/random.ts';
import { type Emulator, emulate, refuseEmulation } from './emulator.ts';
import { framed, launch } from './host-matrix.ts';

const skip = refuseEmulation();
const sourceOf = (format: ElementFormat) => rowFunctionSource('factorizationMachine', format);
let emulator: Emulator;

before(async () => {
  if (skip === undefined) emulator = await emulate(ELEMENT_FORMATS.map(sourceOf));
});

function onDevice(
  batch: number,
  columns: number,
  input: Float32Array,
  backwards: boolean,
  format: ElementFormat = 'float32',
): Float32Array {
  const rows = framed(1, batch, columns, input, format);
  const output = framed(1, batch, 1, undefined, format);
  const params = RowFunctionParams.encode({
    input: rows.address,
    inputStride: rows.stride,
    columns,
    output: output.address,
    outputStride: output.stride,
    batch,
  });
  launch(
    emulator,
    sourceOf(format).kernel,
    directLaunch(batch),
    params,
    [rows.array],
    [output.array],
    backwards,
  );
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

test('factorization machine: rows of 16 bits, rounded once', { skip }, () => {
  const random = new Random(3);
  for (const format of ['float16', 'bfloat16'] as const) {
    for (const [batch, columns] of [
      [1, 7],
      [9, 108],
    ] as const) {
      const input = random.integers(batch * columns, 3);
      const exact = REFERENCE_ROW_FUNCTIONS.factorizationMachine({ batch, columns, input });
      const out = onDevice(batch, columns, input, false, format);
      assertSameValues(
        out,
        exact.map((x) => roundedTo(format, x)),
        `${format}, ${batch} rows of ${columns}`,
      );
    }
  }
});

test('factorization machine: reals', { skip }, () => {
  const [batch, columns] = [9, 108];
  const input = new Random(2).reals(batch * columns);
  const out = onDevice(batch, columns, input, false);
  assertFactorizationMachine(out, { batch, columns, input }, FLOAT32_ROUNDING, 'reals');
});
