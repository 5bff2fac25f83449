import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  columns,
  type DeviceBuffer,
  type Matrix,
  matrix,
  type Operation,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
} from '../../../../src/backend/backend.ts';
import { type Lane, SHORT_COPY_BYTES, schedule } from '../../../../src/backend/cuda/program/schedule.ts';
import type { DeviceDescription } from '../../../../src/device.ts';

/** Schedules look at matrices only. */
const nothing = {} as PlacedBags & PlacedLinear & PlacedTables;

function buffer(length: number): DeviceBuffer {
  return { length, device: {} as DeviceDescription, [Symbol.dispose]() {} };
}

const upload = (output: Matrix): Operation => ({ op: 'upload', source: new Float32Array(), output });
const download = (input: Matrix): Operation => ({ op: 'download', input, target: new Float32Array() });
const bags = (output: Matrix): Operation => ({
  op: 'embeddingBags',
  tables: nothing,
  bags: nothing,
  output,
  checking: 'error',
});
const linear = (input: Matrix, output: Matrix): Operation => ({
  op: 'linear',
  layer: nothing,
  input,
  output,
  activation: 'none',
});

const whole = (rows: number, cols: number) => matrix(buffer(rows * cols), rows, cols);
/** Too long for an upload to go with what reads it. */
const long = () => whole(SHORT_COPY_BYTES / 4 + 1, 1);

function steps(program: Operation[]): [Lane, number[]][] {
  return schedule(program).steps.map(({ lane, after }) => [lane, [...after]]);
}

describe('schedule', () => {
  test('the bottom MLP runs beside the lookups, the interaction after both', () => {
    const dense = long();
    const z = whole(4, 24);
    const out = whole(4, 1);
    const program = [
      upload(dense),
      linear(dense, columns(z, 0, 8)),
      bags(columns(z, 8, 16)),
      linear(z, out),
      download(out),
    ];
    assert.deepEqual(steps(program), [
      ['copies', []],
      ['dense', [0]],
      ['lookups', []],
      ['dense', [2]],
      ['dense', []],
    ]);
    const { end, joins, awaited } = schedule(program);
    assert.equal(end, 'dense');
    assert.deepEqual(joins, []);
    assert.deepEqual([...awaited].sort(), [0, 2]);
  });

  test('lookups wait for what reads or writes the columns that they write', () => {
    const z = whole(4, 24);
    const x = whole(4, 8);
    assert.deepEqual(steps([linear(x, columns(z, 4, 8)), bags(columns(z, 8, 16))]), [
      ['dense', []],
      ['lookups', [0]],
    ]);
    assert.deepEqual(steps([linear(columns(z, 0, 9), x), bags(columns(z, 8, 16))])[1], ['lookups', [0]]);
    assert.deepEqual(steps([linear(columns(z, 0, 8), x), bags(columns(z, 8, 16))])[1], ['lookups', []]);
  });

  test('matrices of other strides over the same elements share memory', () => {
    const shared = buffer(96);
    const z = matrix(shared, 4, 24);
    const flat = matrix(shared, 1, 24, 72);
    const program = [bags(z), download(flat)];
    assert.deepEqual(steps(program)[1], ['dense', [0]]);
    const apart = matrix(shared, 1, 24, 72);
    assert.deepEqual(steps([bags(matrix(shared, 3, 24)), download(apart)])[1], ['dense', []]);
  });

  test('columns that wrap into the next row share memory with its first ones', () => {
    const shared = buffer(96);
    const wrapped = matrix(shared, 2, 8, 20, 24);
    assert.deepEqual(steps([bags(wrapped), download(matrix(shared, 2, 4, 24, 24))])[1], ['dense', [0]]);
    assert.deepEqual(steps([bags(wrapped), download(matrix(shared, 2, 4, 32, 24))])[1], ['dense', []]);
  });

  test('uploads after other work keep their place', () => {
    const [x, y] = [long(), whole(2, 2)];
    const program = [upload(x), linear(x, y), upload(x), download(x)];
    assert.deepEqual(
      steps(program).map(([lane]) => lane),
      ['copies', 'dense', 'dense', 'dense'],
    );
  });

  test('an upload leads behind lookups that write elsewhere, and not behind those that write there too', () => {
    const [x, y, z] = [long(), whole(2, 2), whole(2, 2)];
    const lanesOf = (...program: Operation[]) => schedule(program).steps.map(({ lane }) => lane);
    assert.deepEqual(lanesOf(bags(y), upload(x), linear(x, z)), ['lookups', 'copies', 'dense']);
    assert.deepEqual(lanesOf(bags(x), upload(x)), ['lookups', 'dense']);
    assert.deepEqual(lanesOf(linear(x, y), upload(z)), ['dense', 'dense']);
    assert.equal(schedule([bags(y), upload(x)]).firstStaged, 1);
  });

  test('a transfer waits for lookups that made what it reads, and lookups for one that reads what they overwrite', () => {
    const [x, y] = [whole(2, 2), whole(2, 2)];
    const transfer: Operation = { op: 'transfer', input: x, output: y };
    assert.deepEqual(steps([bags(x), transfer, bags(x), bags(whole(2, 2))]), [
      ['lookups', []],
      ['dense', [0]],
      ['lookups', [1]],
      ['lookups', []],
    ]);
    // It may come from host memory, which is staged.
    assert.equal(schedule([bags(x), transfer]).firstStaged, 1);
  });

  test('a short upload goes with what reads it', () => {
    const [x, y] = [whole(SHORT_COPY_BYTES / 4, 1), whole(2, 2)];
    assert.deepEqual(steps([bags(y), upload(x), linear(x, y)]), [
      ['lookups', []],
      ['dense', []],
      ['dense', [0]],
    ]);
  });

  test('what nothing waited for is joined at the end', () => {
    const [x, y, z] = [long(), whole(2, 2), whole(2, 2)];
    const { joins, end } = schedule([upload(x), bags(y), download(z)]);
    assert.equal(end, 'dense');
    assert.deepEqual(joins, [0, 1]);
    assert.deepEqual(schedule([bags(y)]), {
      steps: [{ lane: 'lookups', after: [] }],
      end: 'lookups',
      joins: [],
      awaited: new Set(),
      firstStaged: 1,
    });
    assert.equal(schedule([]).end, 'dense');
  });
});
