/** The same table mapped from a file, copied into huge pages, in host memory, or made from a seed. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { type BagBatch, type EmbeddingTable, ROW_FORMATS, rowBytes } from '../../../src/embedding/bag.ts';
import { isQuantized, weightShape } from '../../../src/embedding/row-format.ts';
import { bestIsa, ISA, type Isa } from '../../../src/ffi/thread-pool.ts';
import { type CpuPlan, plainPlan, planLabel, withTechniques } from '../../../src/plan/plan.ts';
import { readBytes } from '../../../src/stored-tensor.ts';
import type { AssembledTensor, FileTensor, SyntheticTensor } from '../../../src/tensor.ts';
import { hostWeight, mixedProblem, randomBags, randomTable } from '../../support/cases.ts';
import { assertSameBits } from '../../support/compare.ts';
import { Random } from '../../support/random.ts';
import { poolOn } from '../../support/run-operators.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-placement-'));
after(() => rmSync(folder, { recursive: true }));

const plain = plainPlan('cpu');
const hugePages = withTechniques(plain, { hugePages: {} });
const prefetching = withTechniques(plain, { prefetch: { distance: 8, level: 'L1' } });
const everything = withTechniques(prefetching, { hugePages: {}, threads: { count: 2 } });

/** Writes the tables' rows one after another, each at an odd byte. */
function stored(name: string, tables: readonly EmbeddingTable[]): EmbeddingTable[] {
  const file = join(folder, name);
  const parts: Uint8Array[] = [];
  let at = 0;
  const append = (part: Uint8Array) => {
    parts.push(part);
    at += part.length;
  };
  const result = tables.map((table) => {
    append(new Uint8Array(at % 2 === 0 ? 1 : 2).fill(0xff));
    const { dtype, shape, data } = hostWeight(table);
    const weight: FileTensor = { dtype, shape, file, byteOffset: at, byteLength: data.byteLength };
    append(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return { ...table, weight };
  });
  writeFileSync(file, Buffer.concat(parts));
  return result;
}

const isas = (Object.keys(ISA) as Isa[]).filter((isa) => ISA[isa] <= ISA[bestIsa()]);

for (const isa of isas) {
  test(`stored tables at odd bytes, mapped and in huge pages: the bits of host tables (${isa})`, async () => {
    using backend = new CpuBackend({ isa, threads: 2 });
    const { tables, batch } = mixedProblem(new Random(1), 50);
    const inFile = stored(`mixed-${isa}.bin`, tables);
    for (const { weight } of inFile) assert.equal((weight as FileTensor).byteOffset % 2, 1);
    const { pooled } = await poolOn(backend, tables, batch);
    for (const plan of [plain, hugePages, everything]) {
      assertSameBits((await poolOn(backend, tables, batch, { plan })).pooled, pooled, 'host tables');
      assertSameBits((await poolOn(backend, inFile, batch, { plan })).pooled, pooled, 'stored tables');
    }
  });
}

test('rows at the very end of a file are read without touching what lies behind', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const random = new Random(2);
  for (const dim of [1, 3, 5, 17, 33, 130]) {
    for (const rowFormat of ROW_FORMATS) {
      // The file ends with the last row, at the end of a page, where the mapping ends too.
      const row = rowBytes({ dim, rowFormat });
      const rows = Math.ceil(4096 / row);
      const table = randomTable(random, { rows, dim, rowFormat });
      const bytes = Buffer.from(hostWeight(table).data.buffer);
      const before = (4096 - (bytes.length % 4096)) % 4096;
      const file = join(folder, `end-${dim}-${rowFormat}.bin`);
      writeFileSync(file, Buffer.concat([Buffer.alloc(before), bytes]));
      const { dtype, shape } = table.weight;
      const weight = { dtype, shape, file, byteOffset: before, byteLength: bytes.length };
      const batch: BagBatch = { batchSize: 40, bags: [randomBags(random, { batch: 40, rows })] };
      const last = {
        batchSize: 1,
        bags: [randomBags(new Random(3), { batch: 1, rows: 1, lengths: [3, 3] })],
      };
      last.bags[0]?.indices.fill((BigInt(rows) - 1n) as never);
      for (const bags of [batch, last]) {
        const { pooled } = await poolOn(backend, [table], bags);
        for (const plan of [plain, prefetching]) {
          const mapped = await poolOn(backend, [{ ...table, weight }], bags, { plan });
          assertSameBits(mapped.pooled, pooled, `dim ${dim}, ${rowFormat}`);
        }
      }
    }
  }
});

describe('files that cannot be', () => {
  const table = randomTable(new Random(4), { name: 'users', rows: 100, dim: 8 });
  const batch: BagBatch = { batchSize: 1, bags: [randomBags(new Random(5), { batch: 1, rows: 100 })] };

  for (const [what, plan] of [
    ['mapped', plain],
    ['huge pages', hugePages],
  ] as const) {
    test(`${what}: a truncated file is refused`, async () => {
      using backend = new CpuBackend({ threads: 1 });
      const [inFile] = stored(`short-${what}.bin`, [table]) as [EmbeddingTable];
      truncateSync((inFile.weight as FileTensor).file, 3000);
      await assert.rejects(poolOn(backend, [inFile], batch, { plan }), { code: 'FILE_TRUNCATED' });
    });

    test(`${what}: a missing file is refused`, async () => {
      using backend = new CpuBackend({ threads: 1 });
      const weight: FileTensor = {
        dtype: 'float32',
        shape: [100, 8],
        file: join(folder, 'missing.bin'),
        byteOffset: 0,
        byteLength: 3200,
      };
      await assert.rejects(poolOn(backend, [{ ...table, weight }], batch, { plan }), {
        name: 'UsageError',
        message: /missing\.bin/,
      });
    });
  }
});

describe('synthetic tables', () => {
  const random = new Random(6);
  const tables = ROW_FORMATS.map((rowFormat, t): EmbeddingTable => {
    const { weight: _, ...table } = randomTable(random, { rows: 3001, dim: 33, rowFormat });
    const weight: SyntheticTensor = { ...weightShape({ rows: 3001, dim: 33, rowFormat }), seed: 7 + t };
    return { ...table, weight };
  });
  const batch: BagBatch = {
    batchSize: 60,
    bags: tables.map(() => randomBags(random, { batch: 60, rows: 3001 })),
  };

  test('a seed gives the same rows under every plan, instruction set and thread count', async () => {
    let first: Float32Array | undefined;
    for (const isa of isas) {
      for (const threads of [2, 5]) {
        using backend = new CpuBackend({ isa, threads });
        for (const plan of [plain, hugePages, everything]) {
          const { pooled } = await poolOn(backend, tables, batch, { plan });
          first ??= pooled;
          assertSameBits(pooled, first, `${isa}, ${threads} threads`);
        }
      }
    }
  });

  test('values are in [−1, 1), spread evenly, and differ with the seed', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const rows = Array.from({ length: 3001 }, (_, r) => r);
    const each = {
      indices: Int32Array.from(rows),
      offsets: Int32Array.from(rows),
    };
    const all = async (seed: number, rowFormat: EmbeddingTable['rowFormat']) => {
      const [base] = tables as [EmbeddingTable];
      const weight: SyntheticTensor = { ...weightShape({ rows: 3001, dim: 33, rowFormat }), seed };
      const { pooled } = await poolOn(backend, [{ ...base, rowFormat, weight }], {
        batchSize: 3001,
        bags: [each],
      });
      return pooled;
    };
    for (const rowFormat of ROW_FORMATS) {
      const values = await all(1, rowFormat);
      if (isQuantized(rowFormat)) {
        const most = rowFormat === 'float8_e4m3' ? 2 : 1.001;
        assert.ok(values.every((x) => Math.abs(x) <= most));
        assert.ok(new Set(values).size >= 16, rowFormat);
        continue;
      }
      assert.ok(values.every((x) => x >= -1 && x < 1));
      const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
      const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
      // 99,033 uniform values: the mean's standard deviation is 0.0018, the variance's 0.0009; five of each.
      // bfloat16 steps by 2^-8, which moves the mean by half of that.
      assert.ok(Math.abs(mean) < 0.0092 + 2 ** -9, `${rowFormat}: mean ${mean}`);
      assert.ok(Math.abs(variance - 1 / 3) < 0.006, `${rowFormat}: variance ${variance}`);
      const others = await all(2, rowFormat);
      const equal = values.filter((x, i) => x === others[i]).length;
      assert.ok(equal < values.length / 100, `${rowFormat}: ${equal} values are the same`);
    }
  });
});

test('huge pages: the memory they take and the note about them', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const weight: SyntheticTensor = { dtype: 'float32', shape: [100_000, 32], seed: 1 };
  const table = { ...randomTable(new Random(8), { rows: 1, dim: 32 }), rows: 100_000, weight };
  using placed = await backend.placeTables([table], hugePages);
  assert.equal(placed.allocatedBytes, 100_000 * 32 * 4);
  assert.equal(placed.notes.length, 1);
  assert.match(placed.notes[0] as string, /^huge pages (back \d+ % of the tables|asked for)/);
  using host = await backend.placeTables([randomTable(new Random(9), { rows: 5, dim: 3 })], plain);
  assert.equal(host.allocatedBytes, 5 * 3 * 4);
  assert.deepEqual(host.notes, []);
});

for (const plan of [plain, hugePages]) {
  test(`a table put together from pieces is the same bits: ${planLabel(plan)}`, async () => {
    using backend = new CpuBackend({ threads: 1 });
    const { tables, batch } = mixedProblem(new Random(6), 50);
    const assembled = stored(`assembled-${planLabel(plan)}.bin`, tables).map((table): EmbeddingTable => {
      const { file, ...whole } = table.weight as FileTensor;
      const weight: AssembledTensor = {
        dtype: whole.dtype,
        shape: whole.shape,
        byteLength: whole.byteLength,
        files: [file],
        read: (into, at) => readBytes({ ...whole, file }, into, at),
      };
      return { ...table, weight };
    });
    const { pooled } = await poolOn(backend, tables, batch);
    assertSameBits((await poolOn(backend, assembled, batch, { plan })).pooled, pooled, 'assembled tables');
  });
}

test('a table of several features is mapped, copied, assembled or made once', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const table = randomTable(new Random(11), { rows: 2000, dim: 20 });
  const bytes = 2000 * 20 * 4;
  const [inFile] = stored('features.bin', [table]) as [EmbeddingTable];
  const { file, ...whole } = inFile.weight as FileTensor;
  const { dtype, shape, byteLength } = whole;
  const read: AssembledTensor['read'] = (into, at) => readBytes({ ...whole, file }, into, at);
  const synthetic: SyntheticTensor = { dtype: 'float32', shape: [2000, 20], seed: 4 };
  const weights = {
    host: table.weight,
    mapped: inFile.weight,
    assembled: { dtype, shape, byteLength, files: [file], read },
    synthetic,
  };
  const allocated = async (plan: CpuPlan, ...features: EmbeddingTable[]) => {
    using placed = await backend.placeTables(features, plan);
    return placed.allocatedBytes;
  };
  for (const [what, weight] of Object.entries(weights)) {
    const feature = { ...table, weight };
    const features: EmbeddingTable[] = [feature, { ...feature, mode: 'max' }, { ...feature, paddingIdx: 1 }];
    assert.equal(await allocated(hugePages, ...features), bytes, what);
    assert.equal(await allocated(plain, ...features), what === 'mapped' ? 0 : bytes, what);
    const copy = { ...feature, weight: { ...weight } };
    assert.equal(await allocated(hugePages, feature, copy), 2 * bytes, `${what}, two of them`);
  }
});
