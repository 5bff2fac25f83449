/** The embedding-bag operator: widths, row formats, modes, weights, padding, offsets, index types, batch shapes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { ROW_FORMATS } from '../../src/embedding/bag.ts';
import { referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { FLOAT_ROW_FORMATS } from '../../src/embedding/row-format.ts';
import { placeCollection } from '../../src/model/collection.ts';
import { heuristicPlan, plainPlan } from '../../src/plan/plan.ts';
import {
  bagsOf,
  DIMS,
  INTEGER_TYPES,
  integers,
  MODES,
  mixedProblem,
  type Problem,
  problemOf,
  randomBags,
  randomTable,
  rowsTensor,
  shared,
  type TableSpec,
} from '../support/cases.ts';
import { assertSameBits, assertSameValues } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { inHostMemory, poolOn, poolPlaced } from '../support/run-operators.ts';
import { assertPooled, keepsOrder, type Subject } from './subject.ts';

type WidthSpec = Omit<TableSpec, 'rows' | 'dim'> & { readonly weighted?: boolean };

/**
 * One table of every width, each with its bags, in one call. With `paddingIdx` each pads one of its own rows. `inTurn` > 1: of one
 * width in so many, so that over all problems each width still meets each row format, and each pooling, padding and weights.
 */
function everyWidth({ weighted = false, ...spec }: WidthSpec, inTurn: number): Problem {
  return shared(`every width ${JSON.stringify([spec, weighted, inTurn])}`, () => {
    const random = new Random(11);
    const batchSize = 7;
    const tables: EmbeddingTable[] = [];
    const bags: Bags[] = [];
    const turn = turnOf({ ...spec, weighted });
    for (const dim of DIMS.filter((_, i) => (i + turn) % inTurn === 0)) {
      const rows = random.integer(1, 40);
      const padding = spec.paddingIdx === undefined ? {} : { paddingIdx: rows >> 1 };
      tables.push(randomTable(random, { ...spec, ...padding, rows, dim }));
      bags.push(randomBags(random, { batch: batchSize, rows, weighted, exact: spec.exact ?? false }));
    }
    return { tables, batch: { batchSize, bags } };
  });
}

/** Of 3 in turn, each pooling meets each width in two row formats, and each row format each width in at least two of nine poolings. */
function turnOf({
  rowFormat = 'float32',
  mode = 'sum',
  paddingIdx,
  weighted,
  rowWeights,
}: WidthSpec): number {
  const pooled = MODES.indexOf(mode) + (paddingIdx === undefined ? 0 : 1) + (weighted ? 1 : 0);
  return ROW_FORMATS.indexOf(rowFormat) + pooled + (rowWeights ? 2 : 0);
}

/** Tables of every kind, with every kind of bag. */
function mixed(batchSize: number, longest = 9, weighted = true): Problem {
  const key = `mixed ${[batchSize, longest, weighted]}`;
  return shared(key, () => mixedProblem(new Random(batchSize), batchSize, longest, weighted));
}

/** Nothing in any bag, everything in one, one row for all. */
function unevenProblems(): [string, Problem][] {
  const random = new Random(33);
  const none: number[][] = Array.from({ length: 40 }, () => []);
  return MODES.flatMap((mode) =>
    [1, 16, 130].flatMap((dim): [string, Problem][] => {
      const table = randomTable(random, { rows: 1000, dim, mode });
      const everything = Array.from({ length: 3000 }, () => random.integer(0, 999));
      const allIn = (holder: number) => none.map((list, b) => (b === holder ? everything : list));
      const oneItem = none.map(() => Array.from({ length: 20 }, () => 999));
      return [
        [`${mode}, all empty`, problemOf(table, 40, bagsOf(none))],
        [`${mode}, one bag`, problemOf(table, 1, bagsOf([everything]))],
        ...[0, 17, 39].map((holder): [string, Problem] => [
          `${mode}, all in bag ${holder}`,
          problemOf(table, 40, bagsOf(allIn(holder))),
        ]),
        [`${mode}, one item`, problemOf(table, 40, bagsOf(oneItem))],
      ];
    }),
  );
}

/** The arrays of `mixed(13)` as parts of larger ones. */
function subarrayProblem(): Problem {
  const { tables, batch } = mixed(13);
  const within = <T extends Int32Array | BigInt64Array | Float32Array>(array: T): T => {
    const larger = new (array.constructor as new (length: number) => T)(array.length + 8);
    larger.set(array as never, 3);
    return larger.subarray(3, 3 + array.length) as T;
  };
  const bags = batch.bags.map(({ indices, offsets, weights }) => ({
    indices: within(indices),
    offsets: within(offsets),
    ...(weights === undefined ? {} : { weights: within(weights) }),
  }));
  return { tables, batch: { ...batch, bags } };
}

export function embeddingBagCases(subject: Subject): void {
  const check = async ({ tables, batch }: Problem, what: string) => {
    const { pooled } = await poolOn(subject.backend, tables, batch);
    assertPooled(subject, pooled, { tables, batch }, `${what}, plain plan`);
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    const chosen = await poolOn(subject.backend, tables, batch, { plan });
    if (keepsOrder(subject, { tables, batch }))
      assertSameBits(chosen.pooled, pooled, `${what}, heuristic plan`);
    else assertPooled(subject, chosen.pooled, { tables, batch }, `${what}, heuristic plan`);
    return pooled;
  };

  const widths = (spec: WidthSpec) => everyWidth(spec, subject.widthsInTurn);

  for (const rowFormat of ROW_FORMATS) {
    for (const mode of MODES) {
      test(`every width: ${mode} of ${rowFormat} rows, with and without padding`, async () => {
        await check(widths({ rowFormat, mode }), 'no padding');
        await check(widths({ rowFormat, mode, paddingIdx: 0 }), 'padding');
      });
    }

    test(`every width: weighted sums of ${rowFormat} rows`, async () => {
      await check(widths({ rowFormat, weighted: true }), 'per-sample weights');
      await check(widths({ rowFormat, rowWeights: true }), 'row weights');
      await check(widths({ rowFormat, paddingIdx: 0, weighted: true }), 'with padding');
    });

    test(`every width: weighted sums of integers are exact in ${rowFormat}`, async () => {
      for (const problem of [
        widths({ rowFormat, exact: true, weighted: true }),
        widths({ rowFormat, exact: true, rowWeights: true }),
      ]) {
        const pooled = await check(problem, 'integers');
        // No tolerance: products and sums of these integers are exact in float32, in any order.
        const reference = referenceEmbeddingBags(problem.tables, problem.batch);
        assertSameValues(pooled, reference.pooled, 'integers');
      }
    });
  }

  test('scales and biases that are subnormal in float16', async () => {
    for (const rowFormat of ['int8', 'int4'] as const) {
      for (const mode of MODES) {
        // int8: scales of 1, 22 and 264 units of 2^-24; int4 scales of 1 to 450.
        for (const size of rowFormat === 'int8' ? [2e-6, 1.6e-4, 2e-3] : [2e-7, 2e-6, 2e-4])
          await check(widths({ rowFormat, mode, size }), `${mode} of ${rowFormat}, ±${size}`);
      }
    }
  });

  test('tables of different dims, row formats and modes in one call', async () => {
    for (const batchSize of [1, 2, 13, 64]) {
      await check(mixed(batchSize), `batch ${batchSize}`);
    }
  });

  test('features on one table give the bits of features on copies of it', async () => {
    const random = new Random(23);
    for (const rowFormat of ['float32', 'int8'] as const) {
      const table = randomTable(random, { rows: 60, dim: 24, rowFormat });
      const features: EmbeddingTable[] = [
        { ...table, name: 'sum', paddingIdx: 7 },
        { ...table, name: 'mean', mode: 'mean', paddingIdx: 0 },
        { ...table, name: 'learned', rowWeights: random.reals(60) },
        { ...table, name: 'learned otherwise', rowWeights: random.reals(60) },
      ];
      const bags = features.map(() => randomBags(random, { batch: 9, rows: 60 }));
      const batch = { batchSize: 9, bags };
      const copies = features.map((feature) => ({ ...feature, weight: structuredClone(feature.weight) }));
      const pooled = await check({ tables: features, batch }, 'one table');
      assertSameBits(await check({ tables: copies, batch }, 'copies'), pooled, `${rowFormat} rows`);
    }
  });

  test('int32 and int64 indices and offsets, B and B + 1 offsets, in every mix', async () => {
    const random = new Random(21);
    const table = randomTable(random, { rows: 100, dim: 24, mode: 'mean' });
    const lists = Array.from({ length: 9 }, () =>
      Array.from({ length: random.integer(0, 6) }, () => random.integer(0, 99)),
    );
    let first: Float32Array | undefined;
    for (const index of INTEGER_TYPES) {
      for (const offset of INTEGER_TYPES) {
        for (const endOffset of [false, true]) {
          const what = `${index} indices, ${offset} offsets${endOffset ? ' with an end' : ''}`;
          const pooled = await check(problemOf(table, 9, bagsOf(lists, { index, offset, endOffset })), what);
          first ??= pooled;
          assertSameBits(pooled, first, what);
        }
      }
    }
  });

  test('lookups after the end offset belong to no bag', async () => {
    const table = randomTable(new Random(22), { rows: 9, dim: 5 });
    const bags: Bags = { indices: integers([1, 2, 3, 4, 5]), offsets: integers([0, 2, 3]) };
    const pooled = await check(problemOf(table, 2, bags), 'end offset before the last lookup');
    const short = await check(problemOf(table, 2, bagsOf([[1, 2], [3]])), 'those bags alone');
    assertSameBits(pooled, short, 'lookups after the end offset');
  });

  test('subarrays of larger arrays', async () => {
    await check(shared('subarrays', subarrayProblem), 'subarrays');
  });

  test('arrays in host memory of the backend, all or some of them', async () => {
    const { backend } = subject;
    const { tables, batch } = mixed(64);
    const plain = await poolOn(backend, tables, batch);
    for (const some of [false, true]) {
      using moved = inHostMemory(backend, batch, (array) => !some || array.length % 2 === 0);
      using placed = await placeCollection(backend, tables, plainPlan(backend.device.kind));
      for (let run = 0; run < 2; run++) {
        const { pooled } = await poolPlaced(backend, placed, moved.batch);
        assertSameBits(pooled, plain.pooled, some ? 'some arrays' : 'all arrays');
      }
    }
    using small = backend.allocateHost(64);
    assert.equal(small.int32(3).length, 3);
    assert.throws(() => small.int64(7), { code: 'OUT_OF_MEMORY' });
    assert.equal(small.float32(12).length, 12);
    small[Symbol.dispose]();
    assert.throws(() => small.int32(0), { code: 'DISPOSED' });
  });

  test('empty bags give zeros, in every mode', async () => {
    for (const mode of MODES) {
      for (const lists of [
        [[], [1], []],
        [[], [], []],
        [[3], [], [3]],
        [[3], [3, 3], [3]],
      ]) {
        // Row 3 is padding: bags of nothing else are empty too.
        const table = randomTable(new Random(31), { rows: 4, dim: 37, mode, paddingIdx: 3 });
        const pooled = await check(problemOf(table, 3, bagsOf(lists)), `${mode} of ${JSON.stringify(lists)}`);
        lists.forEach((list, b) => {
          if (list.some((row) => row !== 3)) return;
          const row = pooled.subarray(b * 37, (b + 1) * 37);
          assert.ok(
            row.every((x) => Object.is(x, 0)),
            `${mode}: bag ${b} of ${JSON.stringify(lists)}`,
          );
        });
      }
    }
  });

  test('a batch of no samples, with and without lookups', async () => {
    const table = randomTable(new Random(32), { rows: 4, dim: 8 });
    for (const offsets of [[], [0]]) {
      for (const indices of [[], [1, 2, 3]]) {
        const bags: Bags = { indices: integers(indices), offsets: integers(offsets) };
        const { pooled } = await poolOn(subject.backend, [table], { batchSize: 0, bags: [bags] });
        assert.equal(pooled.length, 0);
      }
    }
  });

  test('all bags empty, one bag with everything, one item for all', async () => {
    for (const [what, problem] of shared('uneven problems', unevenProblems)) await check(problem, what);
  });

  test('NaN, infinities, zeros with a sign and subnormals pass through', async () => {
    const special = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      -0,
      0,
      2 ** -24,
      -(2 ** -20),
      1,
    ];
    for (const rowFormat of FLOAT_ROW_FORMATS) {
      for (const mode of MODES) {
        for (const dim of [1, 5, 40]) {
          const values = Float32Array.from({ length: special.length * dim }, (_, i) =>
            i % dim === 0 || dim === 40 ? (special[Math.floor(i / dim)] as number) : i,
          );
          const table: EmbeddingTable = {
            name: 'special',
            weight: rowsTensor(values, special.length, dim, rowFormat),
            rows: special.length,
            dim,
            rowFormat,
            mode,
          };
          // Every pair in both orders (max of NaN depends on it), and every value alone.
          const lists = special.flatMap((_, i) => [[i], ...special.map((_, j) => [i, j]), [7, i, 7, 5]]);
          await check(problemOf(table, lists.length, bagsOf(lists)), `special values, dim ${dim}`);
        }
      }
    }
  });

  test('float32 subnormals and values near the largest are not flushed or clipped', async () => {
    const values = new Float32Array([2 ** -149, -(2 ** -149), 2 ** -126, 3.4e38, -3.4e38, 1e-45]);
    const table: EmbeddingTable = {
      name: 'extreme',
      weight: rowsTensor(values, 6, 1, 'float32'),
      rows: 6,
      dim: 1,
      rowFormat: 'float32',
      mode: 'sum',
    };
    const lists = [[0], [0, 0, 0], [0, 1], [2, 1], [3, 4], [3, 3], [4, 4], [5, 2]];
    await check(problemOf(table, lists.length, bagsOf(lists)), 'extreme values');
  });

  test('the caller’s arrays stay as they were', async () => {
    const problem = mixed(13);
    const before = structuredClone(problem);
    await check(problem, 'mixed');
    assert.deepEqual(problem, before);
  });

  test('a large batch: the work is shared by all threads', async () => {
    await check(mixed(500, 20, false), 'large batch');
  });
}
