/** Bad indices and offsets: the same findings and the same repairs on every device. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PlacedTables } from '../../src/backend/backend.ts';
import type { BagBatch, Bags, EmbeddingTable, IndexArray } from '../../src/embedding/bag.ts';
import { referenceCheckBags } from '../../src/embedding/reference.ts';
import { RequestError } from '../../src/errors.ts';
import { placeCollection } from '../../src/model/collection.ts';
import { heuristicPlan } from '../../src/plan/plan.ts';
import {
  bagsOf,
  INTEGER_TYPES,
  type IntegerType,
  integers,
  randomBags,
  randomTable,
} from '../support/cases.ts';
import { assertSameBits } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { poolPlaced } from '../support/run-operators.ts';
import { assertPooled, type Subject } from './subject.ts';

const INT32_EXTREMES = [2n ** 31n - 1n, -(2n ** 31n)];
/** Some of them are good values when cut to 32 bits. */
const INT64_EXTREMES = [2n ** 31n, 2n ** 32n, 2n ** 32n + 1n, -(2n ** 32n), 2n ** 63n - 1n, -(2n ** 63n)];

function extremes(type: IntegerType): bigint[] {
  return type === 'int32' ? INT32_EXTREMES : [...INT32_EXTREMES, ...INT64_EXTREMES];
}

const LISTS = [[1, 2, 0], [], [3], [0, 1]];
const BATCH_SIZE = LISTS.length;

function threeTables(): EmbeddingTable[] {
  const random = new Random(61);
  return [
    randomTable(random, { name: 'first', rows: 4, dim: 9, mode: 'sum' }),
    // Repairs point at row 0, which this table leaves out.
    randomTable(random, { name: 'second', rows: 5, dim: 16, mode: 'mean', paddingIdx: 0 }),
    randomTable(random, { name: 'third', rows: 4, dim: 3, mode: 'max', rowFormat: 'float16' }),
  ];
}

function goodBatch(type: IntegerType, endOffset: boolean): BagBatch {
  const bags = bagsOf(LISTS, { index: type, offset: type, endOffset });
  return { batchSize: BATCH_SIZE, bags: [bags, bags, bags] };
}

/** `array` with `value` at `position`, of the same type. */
export function withValue(array: IndexArray, position: number, value: bigint): IndexArray {
  const values = Array.from(array, BigInt);
  values[position] = value;
  return integers(values, array instanceof Int32Array ? 'int32' : 'int64');
}

/** `batch` with the bags of one table changed. */
export function withBags(batch: BagBatch, table: number, change: Partial<Bags>): BagBatch {
  return { ...batch, bags: batch.bags.map((bags, t) => (t === table ? { ...bags, ...change } : bags)) };
}

/** `count` random positions in an array of `length`. */
function positions(random: Random, length: number, count: number): number[] {
  return Array.from({ length: count }, () => random.integer(0, length - 1));
}

/** Runs a bad batch in the three modes that define what happens, and compares all of it with the reference. */
export async function assertRefusedAndRepaired(
  subject: Subject,
  placed: PlacedTables,
  batch: BagBatch,
  what: string,
): Promise<RequestError> {
  const { tables } = placed;
  const expected = referenceCheckBags(tables, batch);
  assert.ok(expected.first, `${what}: the reference finds nothing`);
  const before = structuredClone(batch);

  const thrown = await poolPlaced(subject.backend, placed, batch, 'error').then(
    () => assert.fail(`${what}: not refused`),
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof RequestError, `${what}: ${thrown}`);
  const { code, message, details } = thrown;
  assert.deepEqual(
    { code, message, details },
    { code: expected.first.code, message: expected.first.message, details: expected.first.details },
    what,
  );

  const warned = await poolPlaced(subject.backend, placed, batch, 'warn');
  assertPooled(subject, warned.pooled, { tables, batch }, `${what}, warn`, 'warn');
  assert.equal(warned.findings.badIndices, expected.badIndices, `${what}: bad indices`);
  assert.equal(warned.findings.badOffsets, expected.badOffsets, `${what}: bad offsets`);
  assert.equal(warned.findings.first?.message, expected.first.message, what);

  const ignored = await poolPlaced(subject.backend, placed, batch, 'ignore');
  assertSameBits(ignored.pooled, warned.pooled, `${what}, ignore`);
  assert.deepEqual(ignored.findings, { badIndices: 0, badOffsets: 0 }, what);

  assert.deepEqual(batch, before, `${what}: the caller's arrays changed`);
  return thrown;
}

export function indexCheckingCases(subject: Subject): void {
  const place = () => {
    const tables = threeTables();
    return placeCollection(
      subject.backend,
      tables,
      heuristicPlan({ device: subject.backend.device, tables }),
    );
  };

  for (const type of INTEGER_TYPES) {
    test(`a bad ${type} index in every position of every table`, async () => {
      using placed = await place();
      const good = goodBatch(type, true);
      for (const [t, { rows }] of placed.tables.entries()) {
        const { indices } = good.bags[t] as Bags;
        for (let position = 0; position < indices.length; position++) {
          for (const value of [-1n, BigInt(rows), BigInt(rows) + 1n, ...extremes(type)]) {
            const batch = withBags(good, t, { indices: withValue(indices, position, value) });
            const what = `table ${t}, indices[${position}] = ${value}`;
            const error = await assertRefusedAndRepaired(subject, placed, batch, what);
            assert.equal(error.code, 'INDEX_OUT_OF_RANGE', what);
            const { table, position: at, value: named } = error.details;
            assert.deepEqual({ table, at, named }, { table: t, at: position, named: value }, what);
            assert.match(error.message, new RegExp(`table ${t} \\(${placed.tables[t]?.name}\\)`));
          }
        }
      }
    });

    for (const endOffset of [false, true]) {
      test(`a bad ${type} offset in every position, ${endOffset ? 'B + 1' : 'B'} offsets`, async () => {
        using placed = await place();
        const good = goodBatch(type, endOffset);
        for (const t of placed.tables.keys()) {
          const { indices, offsets } = good.bags[t] as Bags;
          for (let position = 0; position < offsets.length; position++) {
            const past = BigInt(indices.length) + 1n;
            for (const value of [-1n, past, ...extremes(type), ...(position === 0 ? [1n] : [])]) {
              const batch = withBags(good, t, { offsets: withValue(offsets, position, value) });
              const what = `table ${t}, offsets[${position}] = ${value}`;
              const error = await assertRefusedAndRepaired(subject, placed, batch, what);
              assert.equal(error.code, 'OFFSETS_INVALID', what);
              const { table, position: at, value: named } = error.details;
              assert.deepEqual({ table, at, named }, { table: t, at: position, named: value }, what);
            }
          }
        }
      });
    }
  }

  test('offsets that decrease by one are found where they do', async () => {
    using placed = await place();
    const good = goodBatch('int64', true);
    const batch = withBags(good, 1, { offsets: integers([0, 3, 2, 4, 6]) });
    const error = await assertRefusedAndRepaired(subject, placed, batch, 'decreasing');
    assert.match(error.message, /offsets\[2\] = 2 is less than offsets\[1\] = 3/);
  });

  test('of several faults the lowest table, then offsets, then the lowest position is named', async () => {
    using placed = await place();
    const good = goodBatch('int64', false);
    const { indices, offsets } = good.bags[0] as Bags;
    const badIndices = withValue(withValue(indices, 4, 77n), 2, -5n);
    const badOffsets = withValue(offsets, 3, 99n);
    const inLast = withBags(good, 2, { indices: badIndices, offsets: badOffsets });
    const expectations: [BagBatch, RegExp][] = [
      [inLast, /table 2 \(third\): offsets\[3\] = 99/],
      [withBags(inLast, 1, { indices: badIndices }), /table 1 \(second\): indices\[2\] = -5/],
      [
        withBags(withBags(inLast, 1, { indices: badIndices }), 0, { offsets: withValue(offsets, 0, 1n) }),
        /table 0 \(first\): offsets\[0\] = 1/,
      ],
    ];
    for (const [batch, message] of expectations) {
      const error = await assertRefusedAndRepaired(subject, placed, batch, String(message));
      assert.match(error.message, message);
    }
  });

  test('everything is wrong at once', async () => {
    using placed = await place();
    for (const type of INTEGER_TYPES) {
      const values = extremes(type);
      const indices = integers(
        Array.from({ length: 6 }, (_, i) => values[i % values.length] as bigint),
        type,
      );
      for (const count of [BATCH_SIZE, BATCH_SIZE + 1]) {
        for (let turn = 0; turn < values.length; turn++) {
          const offsets = integers(
            Array.from({ length: count }, (_, i) => values[(i + turn) % values.length] as bigint),
            type,
          );
          const bags = { indices, offsets };
          const batch = { batchSize: BATCH_SIZE, bags: [bags, bags, bags] };
          await assertRefusedAndRepaired(subject, placed, batch, `${type}, ${count} offsets, turn ${turn}`);
        }
      }
    }
  });

  test('faults without lookups or samples', async () => {
    using placed = await place();
    const empty: Bags = { indices: integers([]), offsets: integers([0, 0]) };
    const onlyOffset = { ...empty, offsets: integers([0, 1]) };
    await assertRefusedAndRepaired(
      subject,
      placed,
      { batchSize: 1, bags: [empty, onlyOffset, empty] },
      'an offset past no lookups',
    );
    const unused: Bags = { indices: integers([9]), offsets: integers([]) };
    const none = { ...unused, indices: integers([]) };
    await assertRefusedAndRepaired(
      subject,
      placed,
      { batchSize: 0, bags: [none, unused, none] },
      'a bad index that no bag holds',
    );
    const notZero = { ...none, offsets: integers([3]) };
    await assertRefusedAndRepaired(
      subject,
      placed,
      { batchSize: 0, bags: [none, none, notZero] },
      'an end offset that is not 0, of no samples',
    );
  });

  test('a repaired index that points at the padding row is left out', async () => {
    using placed = await place();
    // Table 1 leaves row 0 out; row 9 does not exist and becomes row 0: the mean of row 2 alone remains.
    const two = bagsOf([[2, 9]]);
    const one = bagsOf([[2]]);
    const zero = bagsOf([[0]]);
    const repaired = await poolPlaced(
      subject.backend,
      placed,
      { batchSize: 1, bags: [zero, two, zero] },
      'ignore',
    );
    const alone = await poolPlaced(subject.backend, placed, { batchSize: 1, bags: [zero, one, zero] });
    assertSameBits(repaired.pooled, alone.pooled, 'repaired to padding');
  });

  test('good input gives the same bits in all four modes', async () => {
    using placed = await place();
    for (const type of INTEGER_TYPES) {
      const batch = goodBatch(type, false);
      const { pooled } = await poolPlaced(subject.backend, placed, batch, 'error');
      for (const checking of ['warn', 'ignore', 'none'] as const) {
        const other = await poolPlaced(subject.backend, placed, batch, checking);
        assertSameBits(other.pooled, pooled, checking);
        assert.deepEqual(other.findings, { badIndices: 0, badOffsets: 0 }, checking);
      }
    }
  });

  test('in error mode nothing runs after bad bags', async () => {
    const { backend } = subject;
    using placed = await place();
    const good = goodBatch('int32', false);
    using goodBags = backend.placeBags(placed, good);
    using badBags = backend.placeBags(placed, withBags(good, 2, { indices: integers([0, 0, 0, 0, 0, 4]) }));
    const width = placed.tables.reduce((sum, { dim }) => sum + dim, 0);
    using buffer = backend.allocate(BATCH_SIZE * width);
    const output = { buffer, offset: 0, rows: BATCH_SIZE, cols: width, stride: width };
    const target = new Float32Array(BATCH_SIZE * width).fill(7);
    await assert.rejects(
      backend.run([
        { op: 'embeddingBags', tables: placed, bags: goodBags, output, checking: 'error' },
        { op: 'embeddingBags', tables: placed, bags: badBags, output, checking: 'error' },
        { op: 'download', input: output, target },
      ]),
      { code: 'INDEX_OUT_OF_RANGE' },
    );
    assert.ok(target.every((x) => x === 7));
  });

  for (const type of INTEGER_TYPES) {
    for (const endOffset of [false, true]) {
      const kind = `${type}, ${endOffset ? 'B + 1' : 'B'} offsets`;
      test(`one fault anywhere in four tables of many bags, ${kind}`, async () => {
        const random = new Random(63);
        const batchSize = 400;
        const tables = [64, 8, 600, 33].map((dim) =>
          randomTable(random, { name: `dim${dim}`, rows: 90, dim }),
        );
        using placed = await placeCollection(
          subject.backend,
          tables,
          heuristicPlan({ device: subject.backend.device, tables }),
        );
        const bags = randomBags(random, { batch: batchSize, rows: 90, index: type, offset: type, endOffset });
        // Indices that no bag holds, where the offsets say so: they are checked too.
        const unheld = endOffset ? 20 : 0;
        const indices = integers([...Array.from(bags.indices, BigInt), ...Array(unheld).fill(0n)], type);
        const { offsets } = bags;
        const good: BagBatch = { batchSize, bags: tables.map(() => ({ indices, offsets })) };
        await poolPlaced(subject.backend, placed, good, 'error');
        const refuses = async (t: number, change: Partial<Bags>, what: string) => {
          const batch = withBags(good, t, change);
          const { first } = referenceCheckBags(tables, batch);
          assert.ok(first, what);
          const { code, message, details } = first;
          await assert.rejects(
            poolPlaced(subject.backend, placed, batch, 'error'),
            { code, message, details },
            what,
          );
        };
        const sampled = (count: number) => [0, count - 1, ...positions(random, count, subject.faultPlaces)];
        for (const t of [0, 2, 3]) {
          for (const position of sampled(indices.length)) {
            const values = [-1n, 90n, ...extremes(type)];
            const value = values[random.integer(0, values.length - 1)] as bigint;
            const what = `table ${t}, indices[${position}] = ${value}`;
            await refuses(t, { indices: withValue(indices, position, value) }, what);
          }
          for (const position of sampled(offsets.length)) {
            const before = position === 0 ? 0n : BigInt(offsets[position - 1] as bigint | number);
            const values = [before - 1n, BigInt(indices.length) + 1n, ...extremes(type)];
            const value = values[random.integer(0, values.length - 1)] as bigint;
            const what = `table ${t}, offsets[${position}] = ${value}`;
            await refuses(t, { offsets: withValue(offsets, position, value) }, what);
          }
        }
      });
    }
  }

  test('one bad value among 200,000 is found, whichever thread meets it', async () => {
    const random = new Random(62);
    const count = 100_000;
    const tables = [1, 2].map((dim) => randomTable(random, { name: `dim${dim}`, rows: 50, dim }));
    using placed = await placeCollection(
      subject.backend,
      tables,
      heuristicPlan({ device: subject.backend.device, tables }),
    );
    for (const type of INTEGER_TYPES) {
      const each = integers(
        Array.from({ length: count }, (_, i) => i % 50),
        type,
      );
      const offsets = integers(
        Array.from({ length: count }, (_, i) => i),
        type,
      );
      const good: BagBatch = {
        batchSize: count,
        bags: [
          { indices: each, offsets },
          { indices: each, offsets },
        ],
      };
      const refused = (batch: BagBatch, message: RegExp) =>
        assert.rejects(poolPlaced(subject.backend, placed, batch), { message });
      for (const position of [0, 32_767, 32_768, 65_536, count - 1]) {
        const indices = each.slice();
        const wrong = offsets.slice();
        for (let i = position; i < count; i += 1000) {
          indices[i] = (type === 'int64' ? 50n : 50) as never;
          wrong[i] = (type === 'int64' ? 2n ** 40n : 2 ** 30) as never;
        }
        await refused(withBags(good, 1, { indices }), new RegExp(`dim2\\): indices\\[${position}\\] = 50 `));
        const first = position === 0 ? 'must be 0' : `is past the end of ${count}`;
        await refused(
          withBags(good, 1, { offsets: wrong }),
          new RegExp(`dim2\\): offsets\\[${position}\\] = \\d+.* ${first}|offsets\\[0\\] = \\d+, ${first}`),
        );
      }
    }
  });
}
