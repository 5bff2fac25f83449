/** Checking bags, counting rows and pinning rows, on the host. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  BAGS_REPORT_WORDS,
  decodeBagsReport,
  encodeCheckBags,
  encodeCheckedBags,
  encodeCountRows,
  encodePinRows,
} from '../../src/backend/cuda/kernel-params.ts';
import { UTILITY_KERNELS, utilitySource } from '../../src/backend/cuda/kernel-source.ts';
import { type BagBatch, type Bags, bagFaultError, type EmbeddingTable } from '../../src/embedding/bag.ts';
import { referenceCheckBags } from '../../src/embedding/reference.ts';
import {
  bagsOf,
  INTEGER_TYPES,
  type IntegerType,
  integers,
  randomBags,
  randomTable,
} from '../support/cases.ts';
import { Random } from '../support/random.ts';
import { addressOf, type Emulator, emulate, refuseEmulation } from './emulator.ts';

const skip = refuseEmulation();
let emulator: Emulator;

before(async () => {
  if (skip === undefined) emulator = await emulate(UTILITY_KERNELS.map(utilitySource));
});

/** Checks a batch on the device, in one launch shape. */
function checkOnDevice(
  tables: readonly EmbeddingTable[],
  { bags }: BagBatch,
  grid: number,
  backwards: boolean,
) {
  const descriptors = encodeCheckedBags(
    bags.map(({ indices, offsets }, t) => ({
      indices: addressOf(indices),
      offsets: addressOf(offsets),
      indexBytes: indices.BYTES_PER_ELEMENT,
      offsetBytes: offsets.BYTES_PER_ELEMENT,
      lookups: indices.length,
      offsetCount: offsets.length,
      rowCount: (tables[t] as EmbeddingTable).rows,
    })),
  );
  const reports = new BigInt64Array(bags.length * BAGS_REPORT_WORDS);
  const total = new BigInt64Array(1);
  const launch = {
    params: encodeCheckBags({
      tables: addressOf(descriptors),
      reports: addressOf(reports),
      total: addressOf(total),
      tableCount: bags.length,
    }),
    reads: [descriptors, ...bags.flatMap(({ indices, offsets }) => [indices, offsets])],
    writes: [reports, total],
    backwards,
  };
  emulator.launch('hotrow_check_bags', { ...launch, grid: [grid, bags.length], block: [64] });
  emulator.launch('hotrow_describe_bags', { ...launch, grid: [1], block: [2] });
  return { reports: bags.map((_, t) => decodeBagsReport(reports, t)), total: Number(total[0]) };
}

function assertSameFindings(tables: readonly EmbeddingTable[], batch: BagBatch, what: string): void {
  const expected = referenceCheckBags(tables, batch);
  for (const grid of [1, 3]) {
    for (const backwards of [false, true]) {
      const { reports, total } = checkOnDevice(tables, batch, grid, backwards);
      const first = reports.find((report) => report.first !== undefined)?.first;
      const error = first && bagFaultError(first, (tables[first.table] as EmbeddingTable).name);
      assert.equal(error?.message, expected.first?.message, what);
      assert.deepEqual(error?.details, expected.first?.details, what);
      const sum = (count: 'badIndices' | 'badOffsets') => reports.reduce((n, report) => n + report[count], 0);
      assert.equal(sum('badIndices'), expected.badIndices, what);
      assert.equal(sum('badOffsets'), expected.badOffsets, what);
      assert.equal(total, expected.badIndices + expected.badOffsets, what);
    }
  }
}

function withValue(
  type: IntegerType,
  array: Bags['indices'],
  position: number,
  value: bigint,
): Bags['indices'] {
  const values = Array.from(array, BigInt);
  values[position] = value;
  return integers(values, type);
}

test('good bags, and none', { skip }, () => {
  const random = new Random(1);
  const tables = [randomTable(random, { rows: 9, dim: 1 }), randomTable(random, { rows: 1000, dim: 1 })];
  const good = tables.map(({ rows }, t) => {
    return randomBags(random, {
      batch: 90,
      rows,
      index: INTEGER_TYPES[t] as IntegerType,
      endOffset: t === 0,
    });
  });
  assertSameFindings(tables, { batchSize: 90, bags: good }, 'good');
  assertSameFindings(
    tables,
    { batchSize: 0, bags: [bagsOf([]), bagsOf([], { endOffset: true })] },
    'no bags',
  );
});

for (const type of INTEGER_TYPES) {
  test(`bad ${type} values in every position`, { skip }, () => {
    const random = new Random(2);
    const tables = [4, 5].map((rows) => randomTable(random, { rows, dim: 1 }));
    const good = bagsOf([[1, 2, 0], [], [3], [0, 1]], { index: type, offset: type, endOffset: true });
    const extremes = [-1n, 4n, 5n, 2n ** 31n - 1n, -(2n ** 31n)];
    if (type === 'int64') extremes.push(2n ** 32n, 2n ** 32n + 1n, 2n ** 63n - 1n, -(2n ** 63n));
    for (const table of [0, 1]) {
      for (const value of extremes) {
        for (const name of ['indices', 'offsets'] as const) {
          good[name].forEach((_: unknown, position: number) => {
            const changed = { ...good, [name]: withValue(type, good[name], position, value) };
            const bags = [0, 1].map((t) => (t === table ? changed : good));
            assertSameFindings(tables, { batchSize: 4, bags }, `${name}.${table}[${position}] = ${value}`);
          });
        }
      }
    }
  });
}

test('many findings: the first is the lowest position, offsets before indices', { skip }, () => {
  const random = new Random(3);
  const tables = [0, 1, 2].map(() => randomTable(random, { rows: 10, dim: 1 }));
  for (let round = 0; round < 10; round++) {
    const bags = tables.map(() => ({
      indices: integers(Array.from({ length: 300 }, () => random.integer(round < 5 ? -2 : 0, 11))),
      offsets: integers(
        Array.from({ length: 150 }, (_, i) => (i === 0 ? 0 : random.integer(i, i + (round % 2) * 3))),
      ),
    }));
    assertSameFindings(tables, { batchSize: 150, bags }, `round ${round}`);
  }
});

test('rows are counted; bad indices and padding are not', { skip }, () => {
  const random = new Random(4);
  for (const type of INTEGER_TYPES) {
    const list = Array.from({ length: 1000 }, () => random.integer(-3, 22));
    const indices = integers(list, type);
    const counts = new Uint32Array(20);
    const params = encodeCountRows({
      indices: addressOf(indices),
      indexBytes: indices.BYTES_PER_ELEMENT,
      lookups: indices.length,
      rowCount: 20,
      paddingIndex: 7,
      counts: addressOf(counts),
    });
    emulator.launch('hotrow_count_rows', {
      grid: [2],
      block: [96],
      params,
      reads: [indices],
      writes: [counts],
    });
    const expected = counts.map((_, row) => (row === 7 ? 0 : list.filter((index) => index === row).length));
    assert.deepEqual(counts, expected);
  }
});

test('every sector of every pinned row is asked for once, and nothing beside them', { skip }, () => {
  for (const kernel of ['hotrow_pin_rows', 'hotrow_unpin_rows']) {
    for (const stepBytes of [32, 64, 128] as const) {
      for (const dim of [1, 33, 128]) {
        const rows = new Float32Array(12 * dim);
        const rowNumbers = BigInt64Array.of(0n, 11n, 5n, 12n, -1n, 3n);
        const rowBytes = dim * 4;
        const params = encodePinRows({
          rows: addressOf(rows),
          rowStrideBytes: rowBytes,
          rowBytes,
          rowCount: 12,
          rowNumbers: addressOf(rowNumbers),
          count: rowNumbers.length,
          stepBytes,
        });
        const steps = [0, 11, 5, 3].map((row) => {
          const first = addressOf(rows) + BigInt(row * rowBytes);
          const step = BigInt(stepBytes);
          return Number((first + BigInt(rowBytes) - 1n) / step - first / step) + 1;
        });
        for (const [grid, block] of [
          [1, [8, 2]],
          [3, [32, 1]],
        ] as const) {
          const { prefetches } = emulator.launch(kernel, {
            grid: [grid],
            block,
            params,
            reads: [rows, rowNumbers],
            writes: [],
          });
          assert.equal(
            prefetches,
            steps.reduce((sum, count) => sum + count, 0),
          );
        }
      }
    }
  }
});
