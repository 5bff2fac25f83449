/** Which layers write copies in 8 bits, which read them, and in what memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  columns,
  type DeviceBuffer,
  type LinearOperation,
  type Matrix,
  matrix,
  type Operation,
  type PlacedLinear,
} from '../../../../src/backend/backend.ts';
import { eightBitCopies } from '../../../../src/backend/cuda/dense/eight-bit-copies.ts';
import type { DeviceDescription } from '../../../../src/device.ts';

const ROWS = 4;

function whole(cols: number, stride = cols): Matrix {
  const length = ROWS * stride;
  const buffer: DeviceBuffer = { length, device: {} as DeviceDescription, [Symbol.dispose]() {} };
  return { ...matrix(buffer, ROWS, cols, 0, stride), format: 'float16' };
}

/** What of a layer decides about copies. */
interface LayerFacts {
  readonly writes: boolean;
  readonly inputScale: number | undefined;
}

/** `facts` stand for the layer: `scale` of its inputs, none in 16 bits; `writes`: default true. */
function linear(
  input: Matrix,
  output: Matrix,
  scale?: number,
  more: { writes?: boolean; cross?: LinearOperation['cross'] } = {},
): LinearOperation {
  const facts: LayerFacts = { writes: more.writes ?? true, inputScale: scale };
  const { cross } = more;
  const layer = facts as unknown as PlacedLinear;
  return { op: 'linear', layer, input, output, activation: 'none', ...(cross && { cross }) };
}

const copy = (input: Matrix, output: Matrix): Operation => ({ op: 'copy', input, output });

/** [place, scale] of what is written, and of what is read. */
function found(program: readonly Operation[]) {
  const { written, read, bytes } = copiesOf(program);
  const listed = (places: typeof read) => [...places].map(([place, { scale }]) => [place, scale]);
  return { written: listed(written), read: listed(read), bytes: bytes.shared };
}

const factsOf = ({ layer }: LinearOperation) => layer as unknown as LayerFacts;
const copiesOf = (program: readonly Operation[], lookupsWrite = true) =>
  eightBitCopies(program, {
    writes: (operation) => (operation.op === 'linear' ? factsOf(operation).writes : lookupsWrite),
    inputScale: (operation) => factsOf(operation).inputScale,
  });

const lookups = (output: Matrix) =>
  ({ op: 'embeddingBags', tables: {}, bags: 'bags', output, checking: 'error' }) as unknown as Operation;

test('a layer reads what an earlier one wrote; several read one copy', () => {
  const [a, b, c, d, e] = [whole(20), whole(40), whole(32), whole(16), whole(16)];
  const program = [linear(a, b, 1), linear(b, c, 2), linear(b, d, 2), linear(b, e, 3), linear(c, d)];
  // The first has no writer, the last multiplies in 16 bits, another scale has a pass of its own.
  assert.deepEqual(found(program), {
    ...{
      written: [[0, 2]],
      read: [
        [1, 2],
        [2, 2],
      ],
    },
    // 40 columns in rows of 48.
    bytes: 256,
  });
  const { written, read } = copiesOf(program);
  assert.deepEqual(written.get(0), {
    memory: 'shared',
    offset: 0,
    stride: 48,
    cols: 48,
    scale: 2,
    alone: false,
  });
  assert.equal(read.get(2), read.get(1));
});

test('no copy of what is written in between, or is not all that is read', () => {
  const none = { written: [], read: [], bytes: 0 };
  const [a, b, c, wide] = [whole(32), whole(32), whole(32), whole(64)];
  const left = columns(wide, 0, 32);
  for (const [what, program] of Object.entries({
    'another operation writes it last': [linear(a, b), copy(c, b), linear(b, a, 1)],
    'a part of it': [linear(a, b), copy(columns(c, 0, 1), columns(b, 31, 1)), linear(b, a, 1)],
    'lookups leave zeros behind the last column to layers': [
      ...[lookups(columns(wide, 0, 24)), linear(columns(wide, 0, 24), c, 1)],
    ],
    'it reads more': [linear(a, left), linear(wide, c, 1)],
    'it reads less': [linear(a, wide), linear(left, c, 1)],
    'in other rows': [linear(a, b), linear({ ...b, rows: ROWS - 1 }, c, 1)],
    'rows further apart': [linear(a, b), linear({ ...b, stride: 40 }, c, 1)],
    'in another format': [linear(a, b), linear({ ...b, format: 'bfloat16' }, c, 1)],
    'the writer is later': [linear(b, c, 1), linear(a, b)],
    'its kernels write none': [linear(a, b, undefined, { writes: false }), linear(b, c, 1)],
    'no layer writes it': [copy(a, b), linear(b, c, 1)],
    'nothing at all': [],
  } satisfies Record<string, Operation[]>))
    assert.deepEqual(found(program), none, what);
  // Beside it something may be written, and it may be read.
  const beside = [
    linear(a, left),
    copy(c, columns(wide, 32, 32)),
    { op: 'download', input: left, target: 'slot' } as const,
    linear(left, b, 1),
  ];
  assert.deepEqual(found(beside).read, [[3, 1]]);
  // What is written anew is another copy.
  const anew = [linear(a, b), linear(b, c, 1), linear(a, b), linear(b, c, 1)];
  assert.deepEqual(found(anew).written, [
    [0, 1],
    [2, 1],
  ]);
});

test('a cross network: copies that live at once lie apart, others share memory', () => {
  const x = [whole(64), whole(64), whole(64)];
  const low = [whole(16), whole(16)];
  const [x0, x1, x2] = x as [Matrix, Matrix, Matrix];
  const [h0, h1] = low as [Matrix, Matrix];
  const program = [
    linear(x0, h0, 1),
    linear(h0, x1, 2, { cross: { x0, x: x0 } }),
    linear(x1, h1, 3),
    linear(h1, x2, 4, { cross: { x0, x: x1 } }),
    linear(x2, whole(8), 5),
  ];
  const {
    written,
    read,
    bytes: { shared: bytes },
  } = copiesOf(program);
  assert.deepEqual([...written.keys()], [0, 1, 2, 3]);
  assert.deepEqual([...read.keys()], [1, 2, 3, 4]);
  const spans = [...written].map(([writer, { offset, stride }]) => ({
    ...{ writer, reader: writer + 1, start: offset, end: offset + ROWS * stride },
  }));
  for (const one of spans)
    for (const other of spans) {
      if (one === other || one.reader < other.writer || other.reader < one.writer) continue;
      assert.ok(one.end <= other.start || other.end <= one.start, `${one.writer} and ${other.writer}`);
    }
  // Two at once: one of 64 columns, one of 16.
  assert.equal(bytes, 512);
});

test('memory is used again behind the last reader only', () => {
  const [a, b, c, d, e] = [whole(64), whole(64), whole(64), whole(64), whole(64)];
  const program = [linear(a, b), linear(b, c, 1), linear(c, d, 1), linear(d, e, 1), linear(b, e, 1)];
  const {
    written,
    bytes: { shared: bytes },
  } = copiesOf(program);
  const offsets = new Map([...written].map(([place, { offset }]) => [place, offset]));
  assert.deepEqual(
    offsets,
    new Map([
      [0, 0],
      [1, 256],
      [2, 512],
    ]),
  );
  assert.equal(bytes, 768);
});

test('lookups and layers write a copy side by side, in memory that no other program has', () => {
  const [a, b, c, out] = [whole(32), whole(96), whole(40), whole(16)];
  const program = [
    lookups(columns(b, 52, 44)),
    lookups(columns(b, 32, 20)),
    linear(a, columns(b, 0, 32)),
    linear(b, c, 3),
    linear(c, out, 2),
    linear(b, out, 3),
  ];
  const { written, read, bytes } = copiesOf(program);
  const whole96 = { memory: 'own', offset: 0, stride: 96, cols: 96, scale: 3, alone: false };
  assert.deepEqual(
    written,
    new Map([
      [2, { ...whole96, cols: 32 }],
      [1, { ...whole96, offset: 32, cols: 20 }],
      [0, { ...whole96, offset: 52, cols: 44 }],
      [3, { memory: 'shared', offset: 0, stride: 48, cols: 48, scale: 2, alone: false }],
    ]),
  );
  assert.deepEqual([read.get(3), read.get(5)], [whole96, whole96]);
  assert.deepEqual(bytes, { own: 512, shared: 256 });
});

test('layers write a copy side by side where each has whole units', () => {
  const [a, b, c] = [whole(32), whole(96), whole(16)];
  const halves = (at: number) => [linear(a, columns(b, at, 96 - at)), linear(a, columns(b, 0, at))];
  const { written, bytes } = copiesOf([...halves(48), linear(b, c, 3)]);
  const part = { memory: 'shared', stride: 96, cols: 48, scale: 3, alone: false };
  assert.deepEqual(
    written,
    new Map([
      [1, { ...part, offset: 0 }],
      [0, { ...part, offset: 48 }],
    ]),
  );
  assert.deepEqual(bytes, { own: 0, shared: 512 });
  const none = { own: 0, shared: 0 };
  const narrow = columns(whole(96), 0, 88);
  for (const [what, program] of Object.entries({
    'a unit of both': [...halves(40), linear(b, c, 3)],
    'zeros behind both': [
      ...[linear(a, columns(narrow, 0, 48)), linear(a, columns(narrow, 48, 40)), linear(narrow, c, 3)],
    ],
    'one of them twice': [...halves(48), linear(a, columns(b, 32, 16)), linear(b, c, 3)],
    'a layer between lookups, in no units': [
      ...[lookups(columns(b, 0, 20)), linear(a, columns(b, 20, 48)), lookups(columns(b, 68, 28))],
      linear(b, c, 3),
    ],
    'not all of it': [linear(a, columns(b, 48, 48)), linear(b, c, 3)],
    'columns in front of it': [linear(a, columns(b, 0, 48)), linear(columns(b, 16, 80), c, 3)],
    'columns behind it': [linear(a, columns(b, 16, 80)), linear(columns(b, 0, 48), c, 3)],
  }))
    assert.deepEqual(copiesOf(program).bytes, none, what);
  const [pooled, low] = [whole(32), whole(16)];
  assert.deepEqual(copiesOf([lookups(pooled), linear(pooled, low, 1)]).bytes, { own: 256, shared: 0 });
  assert.deepEqual(copiesOf([lookups(pooled), linear(pooled, low, 1)], false).bytes, none);
  // Who has written one copy writes no other.
  const [whole1, part1] = [linear(b, c, 3), linear(columns(b, 0, 48), c, 3)];
  assert.deepEqual([...copiesOf([...halves(48), whole1, part1]).read.keys()], [2]);
  assert.deepEqual([...copiesOf([...halves(48), part1, whole1]).read.keys()], [2]);
});

test('a copy is alone where its matrix is of one program, and nobody else in it reads that', () => {
  const passing = (cols: number): Matrix => ({ ...whole(cols), transient: true });
  const [a, b, c, d] = [passing(32), passing(32), passing(32), passing(32)];
  const isAlone = (...program: Operation[]) => copiesOf(program).written.get(0)?.alone;
  assert.equal(isAlone(linear(a, b), linear(b, c, 1), linear(b, d, 1)), true);
  const kept = whole(32);
  const cross = (x0: Matrix, x: Matrix) => ({ cross: { x0, x } });
  const read = (input: Matrix): Operation => ({ op: 'download', input, target: 'slot' });
  for (const [what, ...program] of [
    ['no matrix of one program', linear(a, kept), linear(kept, c, 1)],
    ['downloaded', linear(a, b), linear(b, c, 1), read(b)],
    ['a part of it', linear(a, b), linear(b, c, 1), read(columns(b, 31, 1))],
    ['downloaded before it is read', linear(a, b), read(b), linear(b, c, 1)],
    ['copied', linear(a, b), linear(b, c, 1), copy(b, d)],
    ['by another scale', linear(a, b), linear(b, c, 1), linear(b, d, 2)],
    ['in 16 bits', linear(a, b), linear(b, c, 1), linear(b, d)],
    ['as x0', linear(a, b), linear(b, c, 1), linear(c, d, undefined, cross(b, c))],
    ['as x of its reader', linear(a, b), linear(b, c, 1, cross(c, b))],
  ] as const)
    assert.equal(isAlone(...program), false, what);
  assert.equal(isAlone(linear(a, b), linear(b, c, 1), read(c)), true, 'what is made of it is needed');
  const before = copiesOf([read(b), linear(a, b), linear(b, c, 1)]).written.get(1);
  assert.equal(before?.alone, true, 'what was there before');
});
