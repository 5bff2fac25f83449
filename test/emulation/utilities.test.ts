/** Checking bags, counting rows and pinning rows, on the host. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { CeilingsParams } from '../../src/backend/cuda/ceilings.ts';
import {
  BagsReport,
  CheckBagsParams,
  CheckedBags,
  foundInBags,
} from '../../src/backend/cuda/embedding/check-bags-params.ts';
import { UTILITY_KERNELS, utilitySource } from '../../src/backend/cuda/kernels/utilities.ts';
import { CopyWordsParams } from '../../src/backend/cuda/program/copies.ts';
import { FillQuantizedParams, FillUniformParams } from '../../src/backend/cuda/rows/fill-uniform-params.ts';
import {
  CountRowsParams,
  HOT_ROWS_BINS,
  HotRowsParams,
  ROW_CHOICE_WORDS,
} from '../../src/backend/cuda/rows/hot-rows-params.ts';
import { PinRowsParams } from '../../src/backend/cuda/rows/pin-rows-params.ts';
import { deviceRowBytes, deviceTableBytes } from '../../src/backend/cuda/rows/row-layout.ts';
import { SplitRowsParams } from '../../src/backend/cuda/rows/split-rows-params.ts';
import { type BagBatch, type Bags, bagFaultError, type EmbeddingTable } from '../../src/embedding/bag.ts';
import { referenceCheckBags } from '../../src/embedding/reference.ts';
import { QUANTIZED_ROW_FORMATS, rowBytes, rowLayout } from '../../src/embedding/row-format.ts';
import { fillQuantized, fillUniform } from '../../src/ffi/cpu-operators.ts';
import { NativeMemory } from '../../src/ffi/host-memory.ts';
import { createPool, destroyPool } from '../../src/ffi/thread-pool.ts';
import {
  bagsOf,
  INTEGER_TYPES,
  type IntegerType,
  integers,
  randomBags,
  randomTable,
} from '../support/cases.ts';
import { deviceRowsOf } from '../support/cuda-bags.ts';
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
  const descriptors = CheckedBags.encodeAll(
    bags.map(({ indices, offsets }, t) => ({
      indices: addressOf(indices),
      offsets: addressOf(offsets),
      indexBytes: indices.BYTES_PER_ELEMENT,
      offsetBytes: offsets.BYTES_PER_ELEMENT,
      lookups: indices.length,
      offsetCount: offsets.length,
      rowCount: (tables[t] as EmbeddingTable).rows,
      firstIndex: (tables[t] as EmbeddingTable).pruned ? -1 : 0,
    })),
  );
  const reports = new BigInt64Array(bags.length * BagsReport.words);
  const total = new BigInt64Array(1);
  const launch = {
    params: CheckBagsParams.encode({
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
  return { reports: bags.map((_, t) => foundInBags(reports, t)), total: Number(total[0]) };
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
    const tables = [4, 5].map((rows) => randomTable(random, { rows, dim: 1, pruned: rows === 5 }));
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
    const params = CountRowsParams.encode({
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

test('the hottest rows are chosen, as many as fit', { skip }, () => {
  const random = new Random(6);
  const rowCount = 700;
  const counts = Uint32Array.from({ length: rowCount }, () =>
    random.integer(0, 3) === 0 ? random.integer(0, 3000) : random.integer(0, 4),
  );
  const looked = counts.filter((count) => count > 0).length;
  for (const capacity of [1, 10, 90, 300, looked, looked + 50]) {
    const bins = new Uint32Array(HOT_ROWS_BINS);
    const choice = new Uint32Array(ROW_CHOICE_WORDS);
    const rowNumbers = new BigInt64Array(capacity).fill(-1n);
    const rangeRows = 33;
    const ranges = new Uint32Array(Math.ceil(rowCount / rangeRows));
    const params = HotRowsParams.encode({
      counts: addressOf(counts),
      rowCount,
      capacity,
      bins: addressOf(bins),
      choice: addressOf(choice),
      rowNumbers: addressOf(rowNumbers),
      rangeRows,
      ranges: addressOf(ranges),
    });
    const launch = { params, reads: [counts], writes: [bins, choice, rowNumbers, ranges] };
    for (const kernel of ['bin_counts', 'choose_count', 'collect_rows', 'count_ranges']) {
      emulator.launch(`hotrow_${kernel}`, { grid: [3], block: [64], ...launch });
    }
    const chosen = Array.from(rowNumbers, Number).filter((row) => row >= 0);
    assert.equal(chosen.length, Math.min(capacity, looked), `capacity ${capacity}`);
    assert.equal(new Set(chosen).size, chosen.length, 'no row twice');
    // Counts past the last bin are alike to the choice.
    const seen = (count: number) => Math.min(count, HOT_ROWS_BINS - 1);
    const coldest = Math.min(...chosen.map((row) => seen(counts[row] as number)));
    const left = counts.filter((_, row) => !chosen.includes(row));
    assert.ok(coldest > 0 && Math.max(...left.map(seen)) <= coldest, 'nothing hotter was left out');
    ranges.forEach((sum, i) => {
      const expected = counts.subarray(i * rangeRows, (i + 1) * rangeRows).reduce((a, b) => a + b, 0);
      assert.equal(sum, expected, `range ${i}`);
    });
  }
});

test('synthetic rows have the values of the CPU', { skip }, async () => {
  const pool = createPool(1, 'portable');
  try {
    for (const [rowFormat, make] of [
      ['float32', (count: number) => new Float32Array(count)],
      ['float16', (count: number) => new Uint16Array(count)],
      ['bfloat16', (count: number) => new Uint16Array(count)],
    ] as const) {
      for (const count of [1, 2, 1001]) {
        const target = make(count);
        const params = FillUniformParams.encode({
          target: addressOf(target),
          rowFormat: rowLayout(rowFormat).number,
          count,
          seed: 12345,
        });
        emulator.launch('hotrow_fill_uniform', {
          grid: [2],
          block: [64],
          params,
          reads: [],
          writes: [target],
        });
        using memory = new NativeMemory(target.byteLength);
        await fillUniform(pool, memory, rowLayout(rowFormat).number, count, 12345);
        const bytes = new Uint8Array(target.buffer);
        assert.deepEqual(bytes, memory.view(0, target.byteLength), `${count} of ${rowFormat}`);
      }
    }
  } finally {
    destroyPool(pool);
  }
});

test('synthetic quantised rows have the values of the CPU, their headers behind them', { skip }, async () => {
  const pool = createPool(1, 'portable');
  try {
    for (const rowFormat of QUANTIZED_ROW_FORMATS) {
      for (const dim of [1, 3, 12, 13, 24, 25, 64, 130]) {
        const shape = { rows: 37, dim, rowFormat };
        const target = new BigInt64Array(new ArrayBuffer(Math.ceil(deviceTableBytes(shape) / 8) * 8));
        const fileStrideBytes = rowBytes(shape);
        emulator.launch('hotrow_fill_quantized', {
          grid: [2],
          block: [64],
          params: FillQuantizedParams.encode({
            ...shape,
            rowFormat: rowLayout(rowFormat).number,
            target: addressOf(target),
            rowStrideBytes: deviceRowBytes(shape),
            fileStrideBytes,
            seed: 12345,
          }),
          reads: [],
          writes: [target],
        });
        using memory = new NativeMemory(shape.rows * fileStrideBytes);
        await fillQuantized(
          pool,
          memory,
          rowLayout(rowFormat).number,
          { ...shape, rowBytes: fileStrideBytes },
          12345,
        );
        const file = new Uint8Array(new ArrayBuffer(memory.bytes));
        file.set(memory.view(0, memory.bytes));
        const placed = new Uint8Array(target.buffer, 0, deviceTableBytes(shape));
        assert.deepEqual(placed, deviceRowsOf(file, shape), `${rowFormat}, dim ${dim}`);
      }
    }
  } finally {
    destroyPool(pool);
  }
});

test('scaled rows of files are taken apart', { skip }, () => {
  const random = new Random(3);
  for (const rowFormat of ['int8', 'int4'] as const) {
    for (const dim of [1, 12, 13, 24, 25, 128]) {
      const shape = { rows: 37, dim, rowFormat };
      const file = Uint8Array.from({ length: shape.rows * rowBytes(shape) }, () => random.integer(0, 255));
      const source = new Uint32Array(file.buffer);
      const stride = deviceRowBytes(shape);
      const target = new Uint32Array(new ArrayBuffer(deviceTableBytes(shape)));
      emulator.launch('hotrow_split_rows', {
        grid: [2],
        block: [64],
        params: SplitRowsParams.encode({
          source: addressOf(source),
          elements: addressOf(target),
          headers: addressOf(target) + BigInt(shape.rows * stride),
          rows: shape.rows,
          sourceStride: rowBytes(shape) / 4,
          stride: stride / 4,
        }),
        reads: [source],
        writes: [target],
      });
      assert.deepEqual(new Uint8Array(target.buffer), deviceRowsOf(file, shape), `${rowFormat}, dim ${dim}`);
    }
  }
});

test('words are copied, and cleared where that is asked for', { skip }, () => {
  for (const words of [1, 3, 64, 1000]) {
    for (const clears of [0, 1] as const) {
      const source = Uint32Array.from({ length: words }, (_, i) => 0x7fa0_0000 + i);
      const target = new Uint32Array(words);
      const expected = source.slice();
      emulator.launch('hotrow_copy_words', {
        grid: [3],
        block: [64],
        params: CopyWordsParams.encode({
          source: addressOf(source),
          target: addressOf(target),
          words,
          clears,
        }),
        reads: clears === 1 ? [] : [source],
        writes: clears === 1 ? [source, target] : [target],
      });
      assert.deepEqual(target, expected);
      assert.deepEqual(source, clears === 1 ? new Uint32Array(words) : expected);
    }
  }
});

test('the ceilings touch what they are given, and nothing else', { skip }, () => {
  const memory = new Float32Array(4 * 1000);
  const sink = new Uint32Array(1);
  const params = CeilingsParams.encode({
    memory: addressOf(memory),
    bytes: memory.byteLength,
    rounds: 2,
    sink: addressOf(sink),
  });
  const launch = { grid: [2], block: [32], params, reads: [memory], writes: [sink] } as const;
  const { reads } = emulator.launch('hotrow_read_bytes', launch);
  assert.equal(reads, 2000, 'every 16 bytes, each round');
  assert.equal(emulator.launch('hotrow_multiply_add', launch).reads, 0);
});

test('every sector of every pinned row is asked for once, and nothing beside them', { skip }, () => {
  for (const kernel of ['hotrow_pin_rows', 'hotrow_unpin_rows']) {
    for (const stepBytes of [32, 64, 128] as const) {
      for (const dim of [1, 33, 128]) {
        const rows = new Float32Array(12 * dim);
        const rowNumbers = BigInt64Array.of(0n, 11n, 5n, 12n, -1n, 3n);
        const rowBytes = dim * 4;
        const params = PinRowsParams.encode({
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
