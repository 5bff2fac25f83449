/** Tables with pruned rows: index −1 adds nothing, counts for the mean, and is no bad index. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Bags,
  type EmbeddingTable,
  INDEX_CHECKING,
  type IndexChecking,
  type PoolingMode,
} from '../../src/embedding/bag.ts';
import { referenceCheckBags } from '../../src/embedding/reference.ts';
import { RequestError } from '../../src/errors.ts';
import { heuristicPlan, type Plan, placementKey, planLabel } from '../../src/plan/plan.ts';
import {
  bagsOf,
  INTEGER_TYPES,
  integers,
  type Problem,
  randomBags,
  randomTable,
  rowsTensor,
  shared,
  type TableSpec,
} from '../support/cases.ts';
import { assertSameBits, assertSameValues } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { poolOn, poolPlaced } from '../support/run-operators.ts';
import { assertPooled, keepsOrder, type Subject } from './subject.ts';

const BATCH_SIZE = 9;

/** A table of each pooling and row format, with and without padding and weights, where a third of the lookups are pruned. */
function mixedTables(): Problem {
  const random = new Random(101);
  const specs: readonly (Omit<TableSpec, 'rows'> & { readonly weighted?: boolean })[] = [
    { dim: 40 },
    { dim: 24, paddingIdx: 3 },
    { dim: 24, paddingIdx: 0, weighted: true },
    { dim: 33, mode: 'mean' },
    { dim: 32, mode: 'mean', paddingIdx: 0, rowFormat: 'int8' },
    { dim: 20, mode: 'max', paddingIdx: 5, rowFormat: 'float16' },
    { dim: 16, mode: 'max', rowFormat: 'int4' },
    { dim: 48, rowWeights: true, rowFormat: 'bfloat16' },
    { dim: 16, weighted: true, rowFormat: 'float8_e4m3' },
    { dim: 9, mode: 'mean', paddingIdx: 1 },
  ];
  const tables = specs.map((spec, t) =>
    randomTable(random, { ...spec, name: `t${t}`, rows: 12, pruned: true }),
  );
  const bags = specs.map(({ weighted = false }, t) =>
    randomBags(random, {
      batch: BATCH_SIZE,
      rows: 12,
      lengths: [0, 20],
      index: INTEGER_TYPES[t % 2] ?? 'int64',
      offset: INTEGER_TYPES[(t >> 1) % 2] ?? 'int64',
      endOffset: t % 3 === 0,
      weighted,
      pruned: true,
    }),
  );
  return { tables, batch: { batchSize: BATCH_SIZE, bags } };
}

/** Rows [1, −1], [2, −2], [4, −4], [8, −8]. */
function smallTable(mode: PoolingMode, more: Partial<EmbeddingTable> = {}): EmbeddingTable {
  const weight = rowsTensor(Float32Array.of(1, -1, 2, -2, 4, -4, 8, -8), 4, 2, 'float32');
  return { name: mode, weight, rows: 4, dim: 2, rowFormat: 'float32', mode, pruned: true, ...more };
}

const LISTS = [[1, -1, 2], [-1], [-1, -1, -1], [], [-1, 3], [3, -1]];

/** Tables, bags, and the first element of each bag's pooled row. */
const BY_HAND: readonly [EmbeddingTable, Bags, number[]][] = [
  [smallTable('sum'), bagsOf(LISTS), [6, 0, 0, 0, 8, 8]],
  [smallTable('sum', { paddingIdx: 3 }), bagsOf(LISTS, { index: 'int32' }), [6, 0, 0, 0, 0, 0]],
  [smallTable('mean'), bagsOf(LISTS, { index: 'int32' }), [2, 0, 0, 0, 4, 4]],
  [smallTable('mean', { paddingIdx: 1 }), bagsOf(LISTS), [2, 0, 0, 0, 4, 4]],
  [smallTable('mean', { paddingIdx: 3 }), bagsOf(LISTS), [2, 0, 0, 0, 0, 0]],
  [smallTable('max'), bagsOf(LISTS), [4, 0, 0, 0, 8, 8]],
  [smallTable('max', { paddingIdx: 2 }), bagsOf(LISTS), [2, 0, 0, 0, 8, 8]],
  [
    smallTable('sum'),
    bagsOf(LISTS, { weights: Float32Array.of(2, Number.NaN, 3, 1, 1, 1, 1, 5, 1, -1, 7) }),
    [16, 0, 0, 0, 8, -8],
  ],
  [
    smallTable('sum', { rowWeights: Float32Array.of(Number.NaN, 10, 100, 1000) }),
    bagsOf(LISTS),
    [420, 0, 0, 0, 8000, 8000],
  ],
];

function byHand(): Problem {
  const batchSize = LISTS.length;
  return {
    tables: BY_HAND.map(([table]) => table),
    batch: { batchSize, bags: BY_HAND.map(([, bags]) => bags) },
  };
}

/** Bags so long that devices cut them; small integers, whose sums are exact in any order. */
function longBags(): Problem {
  const random = new Random(102);
  const tables = (['sum', 'mean', 'max'] as const).map((mode, t) =>
    randomTable(random, {
      rows: 50,
      dim: [16, 40, 130][t] as number,
      mode,
      paddingIdx: 7,
      pruned: true,
      exact: true,
    }),
  );
  const lists = () =>
    [3, 1700, 0, 900].map((length, bag) =>
      Array.from({ length }, () => (bag === 3 || random.integer(0, 1) === 0 ? -1 : random.integer(0, 49))),
    );
  return { tables, batch: { batchSize: 4, bags: tables.map(() => bagsOf(lists())) } };
}

/** `mixedTables` with some indices that are bad in each table. */
function brokenBags(): Problem {
  const { tables, batch } = mixedTables();
  const bags = batch.bags.map((own): Bags => {
    const wide = own.indices instanceof BigInt64Array;
    const bad = wide
      ? [-2n, 12n, 2n ** 32n - 1n, -(2n ** 63n), 2n ** 40n]
      : [-2n, 12n, 2n ** 31n - 1n, -(2n ** 31n)];
    const indices = Array.from(own.indices, BigInt).map((index, p) =>
      p % 4 === 1 ? (bad[p % bad.length] as bigint) : index,
    );
    return { ...own, indices: integers(indices, wide ? 'int64' : 'int32') };
  });
  return { tables, batch: { ...batch, bags } };
}

export function prunedRowCases(subject: Subject): void {
  /** Pools a problem under every plan, and compares each with the reference and with the first. */
  const checkEveryPlan = async (problem: Problem, what: string, checking: IndexChecking = 'error') => {
    const { backend } = subject;
    const { tables, batch } = problem;
    const plans = subject.plansOf({ device: backend.device, tables });
    let first: Float32Array | undefined;
    for (const key of new Set(plans.map(placementKey))) {
      const alike = plans.filter((plan) => placementKey(plan) === key);
      using placed = await backend.placeTables(tables, alike[0] as Plan);
      for (const plan of alike) {
        const { pooled } = await poolPlaced(backend, placed.withPlan(plan), batch, checking);
        const label = `${what}, ${planLabel(plan)}`;
        assertPooled(subject, pooled, problem, label, checking);
        first ??= pooled;
        if (keepsOrder(subject, problem)) assertSameBits(pooled, first, label);
      }
    }
  };

  test('every pooling, by hand: a pruned row adds nothing and counts for the mean alone', async () => {
    const { tables, batch } = byHand();
    const { pooled } = await poolOn(subject.backend, tables, batch);
    BY_HAND.forEach(([table, , expected], t) => {
      const own = expected.map((_, b) => pooled[(b * tables.length + t) * table.dim] as number);
      assertSameValues(Float32Array.from(own), Float64Array.from(expected), `table ${t}, ${table.name}`);
    });
  });

  test('every row format, padding and weights, under every plan', () =>
    checkEveryPlan(shared('pruned tables', mixedTables), 'pruned tables'));

  test('long bags', () => checkEveryPlan(shared('long pruned bags', longBags), 'long bags'));

  test('every checking mode gives the same bits, and finds nothing', async () => {
    const { tables, batch } = shared('pruned tables', mixedTables);
    const { backend } = subject;
    for (const plan of [undefined, heuristicPlan({ device: backend.device, tables })]) {
      const options = plan === undefined ? {} : { plan };
      const { pooled } = await poolOn(backend, tables, batch, options);
      for (const checking of INDEX_CHECKING) {
        const other = await poolOn(backend, tables, batch, { ...options, checking });
        assertSameBits(other.pooled, pooled, checking);
        assert.deepEqual(other.findings, { badIndices: 0, badOffsets: 0 }, checking);
      }
    }
  });

  test('bad indices beside pruned rows are found and repaired as in the reference', async () => {
    const problem = shared('broken pruned tables', brokenBags);
    const { tables, batch } = problem;
    const { badIndices, first } = referenceCheckBags(tables, batch);
    for (const checking of ['warn', 'ignore'] as const) await checkEveryPlan(problem, checking, checking);
    const { findings } = await poolOn(subject.backend, tables, batch, { checking: 'warn' });
    assert.deepEqual([findings.badIndices, findings.first?.message], [badIndices, first?.message]);
    await assert.rejects(poolOn(subject.backend, tables, batch), { message: first?.message });
  });

  test('where a table has no pruned rows, −1 is a bad index, whose hint tells of them', async () => {
    const pruned = smallTable('sum');
    const { pruned: _, ...other } = smallTable('mean');
    for (const plain of [other, { ...other, pruned: false }]) {
      const bags = bagsOf(LISTS);
      const batch = { batchSize: LISTS.length, bags: [bags, bags] };
      const refused = await poolOn(subject.backend, [pruned, plain], batch).then(
        () => assert.fail('not refused'),
        (error: unknown) => error,
      );
      assert.ok(refused instanceof RequestError, String(refused));
      assert.equal(refused.message, 'table 1 (mean): indices[1] = -1 is not a row of [0, 4)');
      assert.match(
        refused.hint,
        /pruned row.*"pruned": true.*EmbeddingTable\.pruned.*else correct the index/,
      );
      const { findings } = await poolOn(subject.backend, [pruned, plain], batch, { checking: 'warn' });
      assert.equal(findings.badIndices, 7);
    }
  });
}
