/** Arguments of the CPU library's operators: each one out of its range is refused, before anything runs. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { OPERATOR, OPERATOR_WORDS } from '../../../src/ffi/cpu-operators.ts';
import { addressOf, NativeMemory } from '../../../src/ffi/host-memory.ts';
import { readRows, updateRows } from '../../../src/ffi/move-rows.ts';
import { library } from '../../../src/ffi/native-library.ts';
import { createPool, destroyPool } from '../../../src/ffi/thread-pool.ts';
import { PAGE_BYTES } from '../../support/resources.ts';

const pool = createPool(1, 'portable');
after(() => {
  destroyPool(pool);
  assert.ok(held.every(({ length }) => length > 0));
});

const DONE = 0;
const BAD_ARGUMENT = -1;

/** A struct of the library's header by its fields, in their order. */
type Struct = Readonly<Record<string, bigint>>;

const words = (struct: Struct, count = Object.keys(struct).length): BigInt64Array => {
  const all = new BigInt64Array(count);
  all.set(Object.values(struct));
  return all;
};

const BATCH = 2n;
const DIM = 4n;
const LOOKUPS = 3n;
/** What any pointer points to. */
const memory = new Float32Array(1 << 12);
const indices = Int32Array.of(0, 1, 2);
const offsets = Int32Array.of(0, 1, 3);
const starts = Int32Array.of(0, 1, 2);
const spans = BigInt64Array.of(0n, 0n, 4n);
/** Addresses keep nothing from the collector. */
const held = [memory, indices, offsets, starts, spans];
const at: bigint = addressOf(memory);
const [atIndices, atOffsets]: [bigint, bigint] = [addressOf(indices), addressOf(offsets)];
const packed = new NativeMemory(1 << 16);

const TABLE = {
  rows: at,
  rowCount: 8n,
  dim: DIM,
  rowFormat: 0n,
  rowStrideBytes: 16n,
  pooling: 0n,
  paddingIndex: -1n,
  rowWeights: 0n,
  pruned: 0n,
  file: 0n,
};
const BAGS = {
  indices: atIndices,
  offsets: atOffsets,
  indexBytes: 4n,
  offsetBytes: 4n,
  lookups: LOOKUPS,
  offsetCount: BATCH + 1n,
  weights: 0n,
  outputColumn: 0n,
  perUser: 0n,
};
const CHECK = {
  kind: BigInt(OPERATOR.checkBags),
  threads: 0n,
  tables: 1n,
  bags: 1n,
  tableCount: 1n,
  batch: BATCH,
  users: 0n,
  report: at,
};
const EMBEDDING = {
  kind: BigInt(OPERATOR.embeddingBags),
  threads: 0n,
  tables: 1n,
  bags: 1n,
  tableCount: 1n,
  batch: BATCH,
  output: at,
  outputStride: 4n,
  prefetchDistance: 0n,
  prefetchLevel: 0n,
  stopReport: 0n,
  users: 0n,
  userOutput: 0n,
  userOutputStride: 0n,
};
const LINEAR = {
  kind: BigInt(OPERATOR.linear),
  threads: 0n,
  input: at,
  inputStride: 3n,
  packedWeight: packed.address as bigint,
  bias: 0n,
  output: at + 4096n,
  outputStride: 5n,
  batch: BATCH,
  inputs: 3n,
  outputs: 5n,
  activation: 0n,
  crossX0: 0n,
  crossX0Stride: 0n,
  crossX: 0n,
  crossXStride: 0n,
};
const CROSS = { ...LINEAR, crossX0: at + 8192n, crossX0Stride: 5n, crossX: at + 8192n, crossXStride: 5n };
const DOT = {
  kind: BigInt(OPERATOR.dotInteraction),
  threads: 0n,
  input: at,
  inputStride: 12n,
  output: at + 4096n,
  outputStride: 3n,
  batch: BATCH,
  features: 3n,
  dim: 4n,
  diagonal: 0n,
  order: 0n,
};
const ROW_FUNCTION = {
  kind: BigInt(OPERATOR.rowFunction),
  threads: 0n,
  function: 0n,
  input: at,
  inputStride: 6n,
  output: at + 4096n,
  outputStride: 1n,
  batch: BATCH,
  columns: 6n,
  width: 1n,
};
const COPY = {
  kind: BigInt(OPERATOR.copy),
  threads: 0n,
  input: at,
  inputStride: 6n,
  output: at + 4096n,
  outputStride: 6n,
  rows: BATCH,
  cols: 6n,
  elementBytes: 4n,
  narrowTo: 0n,
};
const SPREAD = {
  kind: BigInt(OPERATOR.spreadRows),
  threads: 0n,
  input: at,
  inputStride: 4n,
  output: at + 4096n,
  outputStride: 4n,
  starts: addressOf(starts) as bigint,
  count: BATCH,
  spans: addressOf(spans) as bigint,
  spanCount: 1n,
};

function run(operator: Struct, table: Struct = TABLE, bags: Struct = BAGS): number {
  const [tableWords, bagWords] = [words(table), words(bags)];
  const placed = { ...operator };
  if ('tables' in placed && placed.tables === 1n) placed.tables = addressOf(tableWords);
  if ('bags' in placed && placed.bags === 1n) placed.bags = addressOf(bagWords);
  const status = Number(library().run(pool, words(placed, OPERATOR_WORDS), 1, null));
  assert.ok(tableWords.length > 0 && bagWords.length > 0);
  return status;
}

const TOO_MANY = 2n ** 56n + 1n;
/** Values of a field that are none. */
type Refused<S extends Struct> = { readonly [K in keyof S]?: readonly bigint[] };

const TABLES: Refused<typeof TABLE> = {
  rows: [0n],
  rowCount: [-1n, TOO_MANY],
  dim: [0n, -1n, TOO_MANY],
  rowFormat: [-1n, 6n],
  rowStrideBytes: [-1n, TOO_MANY],
  pooling: [-1n, 3n],
  pruned: [-1n, 2n],
};
const ALL_BAGS: Refused<typeof BAGS> = {
  indices: [0n],
  offsets: [0n],
  indexBytes: [0n, 3n, 16n],
  offsetBytes: [0n, 5n],
  lookups: [-1n, TOO_MANY],
  offsetCount: [0n, BATCH - 1n, BATCH + 2n],
  outputColumn: [-1n, TOO_MANY],
  perUser: [-1n, 2n],
};
const COUNTS = [-1n, TOO_MANY];

/** Of each operator, fields out of their ranges by themselves, and several that do not go together. */
function refusals<S extends Struct>(
  name: string,
  good: S,
  fields: Refused<S>,
  together: readonly Partial<S>[] = [],
) {
  test(name, () => {
    assert.equal(run(good), DONE, 'the operator of this test is good');
    const single = Object.entries(fields).flatMap(([field, values]) =>
      (values as readonly bigint[]).map((value) => ({ [field]: value })),
    );
    for (const change of [{ threads: -1n }, ...single, ...together])
      assert.equal(run({ ...good, ...change } as Struct), BAD_ARGUMENT, show(change));
  });
}

const show = (change: object) =>
  Object.entries(change)
    .map(([field, value]) => `${field} ${value}`)
    .join(', ');

describe('arguments of operators', () => {
  const lists = { tables: [0n], bags: [0n], tableCount: COUNTS, batch: COUNTS, users: COUNTS };
  refusals('check of bags', CHECK, { ...lists, report: [0n] });
  refusals(
    'pooled rows',
    EMBEDDING,
    { ...lists, output: [0n], outputStride: [3n, -1n, TOO_MANY], prefetchDistance: COUNTS },
    [0n, 5n].map((prefetchLevel) => ({ prefetchDistance: 1n, prefetchLevel })),
  );
  const linear = { input: [0n], packedWeight: [0n], output: [0n], inputStride: [2n], outputStride: [4n] };
  const sizes = { batch: COUNTS, inputs: COUNTS, outputs: COUNTS };
  refusals('a linear layer', LINEAR, { ...linear, ...sizes, activation: [-1n, 3n] }, [
    { crossX0: at, crossX0Stride: 5n },
    { crossX: at, crossXStride: 5n },
  ]);
  refusals('a cross layer', CROSS, {
    ...linear,
    crossX0Stride: [4n],
    crossXStride: [4n],
    activation: [1n, 2n],
  });
  refusals(
    'a dot interaction',
    DOT,
    {
      ...{ input: [0n], output: [0n], inputStride: [11n], outputStride: [2n], batch: COUNTS, dim: COUNTS },
      ...{ features: [-1n, 2n ** 20n + 1n], diagonal: [-1n, 2n], order: [-1n, 2n] },
    },
    // Also where there is nothing to do: sizes that cannot be multiplied.
    [
      { batch: 0n, dim: 2n ** 56n },
      { batch: 0n, features: 2n ** 20n + 1n },
    ],
  );
  refusals('a function of rows', ROW_FUNCTION, {
    ...{ function: [-1n, 1n, 99n], input: [0n], output: [0n], inputStride: [5n], outputStride: [0n] },
    ...{ batch: COUNTS, columns: COUNTS, width: COUNTS },
  });
  refusals(
    'a copy',
    COPY,
    {
      ...{
        input: [0n],
        output: [0n],
        inputStride: [-1n, TOO_MANY],
        outputStride: [5n],
        rows: COUNTS,
        cols: COUNTS,
      },
      ...{ elementBytes: [0n, 1n, 3n, 8n], narrowTo: [-1n, 3n] },
    },
    [{ elementBytes: 2n, narrowTo: 1n }],
  );
  refusals('spread rows', SPREAD, {
    ...{ input: [0n], output: [0n], starts: [0n], count: COUNTS, spanCount: COUNTS, inputStride: [3n, -1n] },
  });
  test('spans of columns', () => {
    for (const [from, to, columns] of [
      [1n, 0n, 4n],
      [-1n, 0n, 4n],
      [0n, -1n, 4n],
      [0n, 0n, -1n],
    ] as const) {
      const own = BigInt64Array.of(from, to, columns);
      const status = run({ ...SPREAD, spans: addressOf(own) });
      assert.equal(status, BAD_ARGUMENT, `${own}`);
    }
  });

  for (const [name, operator] of [
    ['check of bags', CHECK],
    ['pooled rows', EMBEDDING],
  ] as const)
    test(`tables and bags: ${name}`, () => {
      const weights = { weights: at };
      const refused: (readonly [table: object, bags: object])[] = [
        ...Object.entries(TABLES).flatMap(([field, values]) =>
          values.map((value): [object, object] => [{ [field]: value }, {}]),
        ),
        ...Object.entries(ALL_BAGS).flatMap(([field, values]) =>
          values.map((value): [object, object] => [{}, { [field]: value }]),
        ),
        // Weights of rows and of lookups go with sums alone.
        ...[1n, 2n].flatMap((pooling): [object, object][] => [
          [{ pooling, rowWeights: at }, {}],
          [{ pooling }, weights],
        ]),
      ];
      for (const [table, bags] of refused)
        assert.equal(
          run(operator, { ...TABLE, ...table }, { ...BAGS, ...bags }),
          BAD_ARGUMENT,
          show({ ...table, ...bags }),
        );
      assert.equal(run(operator, TABLE, { ...BAGS, ...weights }), DONE);
      assert.equal(run(operator, TABLE, { ...BAGS, offsetCount: BATCH }), DONE);
    });

  test('bags per user without users, or without a place for their rows', () => {
    const bags = { ...BAGS, perUser: 1n, offsetCount: 2n };
    const placed = { users: 1n, userOutput: at, userOutputStride: 4n };
    assert.equal(run({ ...EMBEDDING, ...placed }, TABLE, bags), DONE);
    assert.equal(run({ ...EMBEDDING, ...placed, userOutput: 0n }, TABLE, bags), BAD_ARGUMENT);
    const two = { users: 2n, userOutputStride: 3n };
    assert.equal(run({ ...EMBEDDING, ...placed, ...two }, TABLE, { ...bags, offsetCount: 3n }), BAD_ARGUMENT);
    for (const perUser of [2n, -1n])
      for (const operator of [
        { ...EMBEDDING, ...placed },
        { ...CHECK, users: 1n },
      ])
        assert.equal(run(operator, TABLE, { ...bags, perUser }), BAD_ARGUMENT);
    const none = { users: 0n };
    for (const offsetCount of [0n, 1n])
      assert.equal(run({ ...EMBEDDING, ...placed, ...none }, TABLE, { ...bags, offsetCount }), BAD_ARGUMENT);
  });

  test('one row may have any stride, two may not', () => {
    assert.equal(run({ ...COPY, rows: 1n, outputStride: 0n }), DONE);
    assert.equal(run({ ...COPY, rows: 2n, outputStride: 5n }), BAD_ARGUMENT);
  });

  test('an operator of no kind is refused, and with it all of its list', () => {
    for (const kind of [0n, -1n, 8n]) assert.equal(run({ ...COPY, kind }), BAD_ARGUMENT);
    const [from, to] = [Float32Array.of(1, 2), new Float32Array(2)];
    const good = { ...COPY, input: addressOf(from), output: addressOf(to), rows: 1n, cols: 2n };
    const list = new BigInt64Array(2 * OPERATOR_WORDS);
    list.set(words(good, OPERATOR_WORDS));
    list.set(words({ ...COPY, rows: -1n }, OPERATOR_WORDS), OPERATOR_WORDS);
    assert.equal(Number(library().run(pool, list, 2, null)), BAD_ARGUMENT);
    assert.deepEqual([...to], [0, 0], 'nothing ran');
    assert.equal(Number(library().run(pool, list, 1, null)), DONE);
    assert.deepEqual([...to], [...from]);
  });
});

describe('memory that is gone', () => {
  // A block ends in a page that cannot be touched.
  const block = new NativeMemory(1);
  after(() => block[Symbol.dispose]());
  const gone: bigint = block.address + BigInt(PAGE_BYTES);
  const ARRAYS_GONE = 2;

  test('what is read there ends the work, and is told', () => {
    assert.equal(run({ ...COPY, input: gone }), ARRAYS_GONE);
    for (const bags of [{ indices: gone }, { offsets: gone }, { weights: gone }])
      assert.equal(run(EMBEDDING, TABLE, { ...BAGS, ...bags }), ARRAYS_GONE, show(bags));
    for (const bags of [{ indices: gone }, { offsets: gone }])
      assert.equal(run(CHECK, TABLE, { ...BAGS, ...bags }), ARRAYS_GONE, show(bags));
    const copy = BigUint64Array.of(at, gone, 1n, 64n, 0n, 0n);
    assert.equal(Number(library().copyAll(pool, copy, 1)), ARRAYS_GONE);
    assert.equal(run(COPY), DONE, 'and the next goes well');
  });
});

describe('other arguments', () => {
  test('weights of no size, or of one that memory cannot have', () => {
    for (const [outputs, inputs] of [
      [-1n, 1n],
      [1n, -1n],
      [2n ** 62n, 1n],
      [1n, 2n ** 62n],
    ] as const) {
      assert.equal(Number(library().packedLinearBytes(pool, outputs, inputs)), -1, `[${outputs}, ${inputs}]`);
      const status = library().packLinear(pool, memory, outputs, inputs, packed.address);
      assert.equal(Number(status), BAD_ARGUMENT);
    }
  });

  test('seeded quantised rows: formats, sizes and strides', () => {
    const fill = (format: number, rows: number, dim: number, stride: number) =>
      Number(library().fillQuantized(pool, packed.address, format, rows, dim, stride, 1));
    assert.equal(fill(4, 3, 5, 8), DONE);
    for (const row of [0, 1, 2]) {
      const [last = 0, padding = 1] = packed.view(8 * row + 6, 2);
      assert.ok(last <= 15 && padding === 0, 'half a byte, and then zeros');
    }
    const wrongs: readonly Parameters<typeof fill>[] = [
      [2, 3, 5, 16],
      [6, 3, 5, 16],
      [3, -1, 5, 16],
      [3, 3, 0, 16],
      [3, 3, 5, 8],
      [3, 3, 5, 20],
    ];
    for (const wrong of wrongs) assert.equal(fill(...wrong), BAD_ARGUMENT, `${wrong}`);
  });

  test('rows by their numbers: those that are none are left out', async () => {
    // Rows 0 and 1, between two that are not the table's.
    const all = Float32Array.of(-1, 10, 11, -2);
    const rows = (addressOf(all) + 4n) as ReturnType<typeof addressOf>;
    const numbers = BigInt64Array.of(0n, -1n, 2n, 1n);
    const shape = { rows, rowCount: 2, rowBytes: 4, numbers };
    const read = Float32Array.of(7, 7, 7, 7);
    await readRows({ ...shape, values: new Uint8Array(read.buffer) });
    assert.deepEqual([...read], [10, 7, 7, 11]);
    await updateRows({ ...shape, values: new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer) });
    assert.deepEqual([...all], [-1, 1, 4, -2]);
  });

  test('operators of a list take their own times, one after the other', () => {
    const count = 200;
    const list = new BigInt64Array(count * OPERATOR_WORDS);
    for (let i = 0; i < count; i++) list.set(words(COPY, OPERATOR_WORDS), i * OPERATOR_WORDS);
    const seconds = new Float64Array(count).fill(Number.NaN);
    const began = performance.now();
    assert.equal(Number(library().run(pool, list, count, seconds)), DONE);
    const elapsed = (performance.now() - began) / 1e3;
    const sum = seconds.reduce((total, own) => total + own, 0);
    assert.ok(sum >= 0 && sum <= elapsed, `${sum} s of ${elapsed} s`);
  });
});
