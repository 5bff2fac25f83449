/** Rows change between runs, whole or not at all, and nothing else changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../src/at.ts';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { quantizeRows } from '../../src/embedding/quantize.ts';
import { isQuantized, ROW_FORMATS, rowBytes } from '../../src/embedding/row-format.ts';
import type { RowValues } from '../../src/embedding/row-values.ts';
import { EmbeddingCollection, placeCollection } from '../../src/model/collection.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { toFloat32 } from '../../src/tensor.ts';
import { bagsOf, hostWeight, integers, randomTable, rowsTensor } from '../support/cases.ts';
import { assertSameBits } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { poolOn, poolPlaced } from '../support/run-operators.ts';
import type { Subject } from './subject.ts';

const ROWS = 37;

/** Two lookups a bag, of every row. */
function allRows(table: Pick<EmbeddingTable, 'rows'>): Bags {
  return bagsOf(Array.from({ length: table.rows }, (_, row) => [row, (row * 7 + 3) % table.rows]));
}

/** The table with other rows in its weight. */
function withRows(table: EmbeddingTable, numbers: readonly number[], stored: RowValues): EmbeddingTable {
  const { data, ...weight } = hostWeight(table);
  const copy = data.slice() as Uint8Array;
  const width = copy.length / table.rows;
  for (const [i, row] of numbers.entries())
    copy.set((stored as Uint8Array).subarray(i * width, (i + 1) * width), row * width);
  return { ...table, weight: { ...weight, data: copy } as EmbeddingTable['weight'] };
}

/** What float32 values are in the table's format. */
function storedAs({ dim, rowFormat }: EmbeddingTable, values: Float32Array): RowValues {
  if (isQuantized(rowFormat)) return quantizeRows(values, dim, rowFormat).data;
  return rowsTensor(values, values.length / dim, dim, rowFormat).data as RowValues;
}

/** Rows of several tables, in plain arrays: small integers, whose sums are exact in every format. */
class PlainTables {
  constructor(
    readonly tables: readonly EmbeddingTable[],
    readonly rows = tables.map((table) => toFloat32(hostWeight(table)).slice()),
  ) {}

  copy(): PlainTables {
    return new PlainTables(
      this.tables,
      this.rows.map((rows) => rows.slice()),
    );
  }

  update(t: number, numbers: Int32Array, values: Float32Array): void {
    const { dim } = at(this.tables, t);
    for (const [i, row] of numbers.entries())
      at(this.rows, t).set(values.subarray(i * dim, (i + 1) * dim), row * dim);
  }

  /** Sums of bags, [4, Σ dim]. */
  pool(lists: readonly (readonly (readonly number[])[])[]): Float32Array {
    const width = this.tables.reduce((sum, { dim }) => sum + dim, 0);
    const pooled = new Float32Array(4 * width);
    let column = 0;
    for (const [t, { dim }] of this.tables.entries()) {
      for (const [bag, list] of at(lists, t).entries())
        for (const row of list)
          for (let d = 0; d < dim; d++)
            pooled[bag * width + column + d] =
              at(pooled, bag * width + column + d) + at(at(this.rows, t), row * dim + d);
      column += dim;
    }
    return pooled;
  }
}

function isSame(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

export function rowUpdateCases(subject: Subject): void {
  const plan = () => plainPlan(subject.backend.device.kind);

  test('lookups read updated rows, of every format and width; the last of equal numbers counts', async () => {
    const { backend } = subject;
    const random = new Random(811);
    const numbers = [5, 0, ROWS - 1, 5, 12, 5, 0];
    for (const rowFormat of ROW_FORMATS) {
      for (const dim of [1, 3, 16, 33]) {
        const what = `${rowFormat}, dim ${dim}`;
        const table = randomTable(random, { rows: ROWS, dim, rowFormat });
        const values = random.reals(numbers.length * dim);
        const stored = storedAs(table, values);
        const expected = withRows(table, numbers, stored);
        const batch = { batchSize: ROWS, bags: [allRows(table)] };
        const { pooled } = await poolOn(backend, [expected], batch);
        for (const [given, type] of [
          [values, 'int32'],
          [stored, 'int64'],
        ] as const) {
          using placed = await placeCollection(backend, [table], plan());
          await placed.updateRows(0, integers(numbers, type), given);
          assertSameBits((await poolPlaced(backend, placed, batch)).pooled, pooled, `${what}, ${type}`);
          const read = await placed.readRows(0, integers([12, 1, 5], type));
          const width = stored.length / numbers.length;
          const rowOf = (of: RowValues, row: number) => of.slice(row * width, (row + 1) * width);
          assert.deepEqual(rowOf(read, 0), rowOf(stored, 4), `${what}: row 12`);
          const before = hostWeight(table).data as RowValues;
          assert.deepEqual(rowOf(read, 1), rowOf(before, 1), `${what}: row 1`);
          assert.deepEqual(rowOf(read, 2), rowOf(stored, 5), `${what}: row 5`);
        }
      }
    }
  });

  test('features on one table get its new rows, other tables and the arrays given stay as they are', async () => {
    const { backend } = subject;
    const random = new Random(812);
    const table = randomTable(random, { name: 'first', rows: ROWS, dim: 8 });
    const other = randomTable(random, { name: 'other', rows: ROWS, dim: 8 });
    const tables = [table, other, { ...table, name: 'second', mode: 'mean' as const }];
    const before = hostWeight(table).data.slice();
    const values = random.reals(8);
    await using collection = await EmbeddingCollection.create(backend, tables);
    const batch = { batchSize: ROWS, bags: tables.map(allRows) };
    await collection.updateRows('second', Int32Array.of(9), values);
    const changed = withRows(table, [9], values);
    const expected = [changed, other, { ...changed, name: 'second', mode: 'mean' as const }];
    const { pooled } = await poolOn(backend, expected, batch);
    assertSameBits((await collection.forward(batch)).pooled, pooled, 'pooled');
    assert.deepEqual(hostWeight(table).data, before);
    assert.deepEqual(await collection.readRows(0, Int32Array.of(9)), values);
  });

  test('updates and runs in any order give what a reference gives', async () => {
    const { backend } = subject;
    const random = new Random(813);
    const tables = ROW_FORMATS.filter((format) => !isQuantized(format)).map((rowFormat, t) =>
      randomTable(random, { name: `${rowFormat}`, rows: ROWS, dim: 5 + 8 * t, rowFormat, exact: true }),
    );
    await using collection = await EmbeddingCollection.create(backend, tables);
    const model = new PlainTables(tables);
    // What each call of `forward` may give: rows as they were at its start, or as an update under way leaves them.
    let possible = [model.copy()];
    const calls: Promise<unknown>[] = [];
    for (let call = 0; call < subject.rowUpdateCalls; call++) {
      const isUpdate = random.integer(0, 3) === 0;
      if (isUpdate) {
        const t = random.integer(0, tables.length - 1);
        const { dim } = at(tables, t);
        const numbers = Int32Array.from({ length: random.integer(1, 9) }, () => random.integer(0, ROWS - 1));
        const values = random.integers(numbers.length * dim, 8);
        calls.push(collection.updateRows(t, numbers, values));
        model.update(t, numbers, values);
        possible.push(model.copy());
      } else {
        const lists = tables.map(() =>
          Array.from({ length: 4 }, () =>
            Array.from({ length: random.integer(0, 4) }, () => random.integer(0, ROWS - 1)),
          ),
        );
        const now = possible;
        const run = collection.forward({ batchSize: 4, bags: lists.map((list) => bagsOf(list)) });
        calls.push(
          run.then(({ pooled }) => {
            // Updates that were asked for later may be through by now.
            const matches = possible.concat(now).some((state) => isSame(pooled, state.pool(lists)));
            assert.ok(matches, `call ${call}: rows of no moment`);
          }),
        );
      }
      if (random.integer(0, 4) > 0) continue;
      await Promise.all(calls.splice(0));
      possible = [model.copy()];
    }
    await Promise.all(calls);
    const every = Int32Array.from({ length: ROWS }, (_, row) => row);
    for (const [t, table] of tables.entries()) {
      const read = await collection.readRows(t, every);
      const expected = storedAs(table, at(model.rows, t));
      assert.deepEqual(read, expected, table.name);
    }
  });

  test('an update of nothing, and of many rows in several pieces', async () => {
    const { backend } = subject;
    const [rows, dim] = [3000, 1024];
    const table = randomTable(new Random(815), { rows, dim });
    using placed = await placeCollection(backend, [table], plan());
    await placed.updateRows(0, new Int32Array(), new Float32Array());
    const count = 2 * rows;
    // Every row twice, in pieces of their own: the second counts.
    const numbers = Int32Array.from({ length: count }, (_, i) => (i * 7) % rows);
    const values = Float32Array.from({ length: count * dim }, (_, i) => Math.floor(i / dim));
    await placed.updateRows(0, numbers, values);
    const read = await placed.readRows(
      0,
      Int32Array.from({ length: rows }, (_, row) => row),
    );
    const last = new Map(Array.from(numbers, (row, i) => [row, i]));
    for (const [row, i] of last) {
      assert.equal(read[row * dim], i, `row ${row}`);
      assert.equal(read[(row + 1) * dim - 1], i, `row ${row}, its end`);
    }
  });

  test('what is refused changes nothing', async () => {
    const { backend } = subject;
    const dim = 16;
    const random = new Random(816);
    const table = randomTable(random, { name: 'rows', rows: ROWS, dim });
    const bytes = randomTable(random, { name: 'bytes', rows: ROWS, dim, rowFormat: 'int8' });
    await using collection = await EmbeddingCollection.create(backend, [table, bytes]);
    const values = new Float32Array(2 * dim).fill(7);
    const unfit = new Float32Array(2 * dim).fill(7);
    unfit[dim + 3] = Number.NaN;
    const refusals: readonly [Promise<void>, string, RegExp][] = [
      [collection.updateRows('rows', Int32Array.of(1, ROWS), values), 'INDEX_OUT_OF_RANGE', /rows\[1\] = 37/],
      [collection.updateRows('rows', Int32Array.of(1, -1), values), 'INDEX_OUT_OF_RANGE', /rows\[1\] = -1/],
      [
        collection.updateRows('rows', BigInt64Array.of(1n, 2n ** 32n + 1n), values),
        'INDEX_OUT_OF_RANGE',
        /4294967297/,
      ],
      [collection.updateRows('rows', Int32Array.of(1), values), 'TENSOR_SHAPE', /32 values for 1 rows of 16/],
      [
        collection.updateRows('rows', Int32Array.of(1, 2), new Uint8Array(128) as never),
        'TENSOR_DTYPE',
        /Float32Array/,
      ],
      [collection.updateRows('rows', [1, 2] as never, values), 'TENSOR_DTYPE', /row numbers/],
      [
        collection.updateRows('none', Int32Array.of(1, 2), values),
        'TABLE_UNEXPECTED',
        /none of the 2 tables/,
      ],
      [collection.updateRows(2, Int32Array.of(1, 2), values), 'TABLE_UNEXPECTED', /none of the 2 tables/],
      [collection.updateRows('bytes', Int32Array.of(1, 2), unfit), 'VALUE_NOT_FINITE', /row 1 has NaN/],
      [
        collection.updateRows('bytes', Int32Array.of(1, 2), new Uint8Array(rowBytes(bytes))),
        'TENSOR_SHAPE',
        /rows of 32 each/,
      ],
    ];
    for (const [call, code, message] of refusals) await assert.rejects(call, { code, message });
    await assert.rejects(collection.readRows('rows', Int32Array.of(ROWS)), { code: 'INDEX_OUT_OF_RANGE' });
    const every = Int32Array.from({ length: ROWS }, (_, row) => row);
    assert.deepEqual(await collection.readRows('rows', every), hostWeight(table).data);
    assert.deepEqual(await collection.readRows('bytes', every), hostWeight(bytes).data);
    await collection.close();
    await assert.rejects(collection.updateRows('rows', Int32Array.of(1, 2), values), { code: 'DISPOSED' });
  });
}
