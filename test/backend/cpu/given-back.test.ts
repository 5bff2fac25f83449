/** What the CPU backend takes from the system, and that all of it goes: with what was placed, and where placing fails. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import type { EmbeddingTable } from '../../../src/embedding/bag.ts';
import { packLinear } from '../../../src/ffi/cpu-operators.ts';
import { nativeCounts } from '../../../src/ffi/owned-handles.ts';
import { createPool, destroyPool } from '../../../src/ffi/thread-pool.ts';
import { type CpuPlan, plainPlan, planLabel, withTechniques } from '../../../src/plan/plan.ts';
import type { AssembledTensor, FileTensor, SyntheticTensor, Tensor } from '../../../src/tensor.ts';
import { bagsOf, mixedProblem } from '../../support/cases.ts';
import { Random } from '../../support/random.ts';
import { leavesNothing, mapped, refuseCounting } from '../../support/resources.ts';
import { linearOn, poolPlaced } from '../../support/run-operators.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-given-back-'));
after(() => rmSync(folder, { recursive: true }));

const ROWS = 100;
const DIM = 8;
const BYTES = ROWS * DIM * 4;
const shape = [ROWS, DIM];
const plain = plainPlan('cpu');
const hugePages = withTechniques(plain, { hugePages: {} });
const table = (weight: Tensor, more: Partial<EmbeddingTable> = {}): EmbeddingTable => ({
  name: 't',
  weight,
  rows: ROWS,
  dim: DIM,
  rowFormat: 'float32',
  mode: 'sum',
  ...more,
});

const file = join(folder, 'rows.bin');
writeFileSync(file, new Uint8Array(2 * BYTES));
const inFile = (byteOffset = 0, path = file): FileTensor => ({
  ...{ dtype: 'float32', shape, file: path, byteOffset, byteLength: BYTES },
});
const synthetic: SyntheticTensor = { dtype: 'float32', shape, seed: 1 };
const assembled = (read: AssembledTensor['read'] = async () => {}): AssembledTensor => ({
  ...{ dtype: 'float32', shape, files: [], byteLength: BYTES, read },
});
const host = (): Tensor => ({ dtype: 'float32', shape, data: new Float32Array(ROWS * DIM) });

describe('the CPU backend', { skip: refuseCounting }, () => {
  for (const plan of [plain, hugePages] as readonly CpuPlan[])
    test(`tables of every origin go when they are disposed: ${planLabel(plan)}`, async () => {
      using backend = new CpuBackend({ threads: 1 });
      const tables = [inFile(), inFile(BYTES), synthetic, assembled(), host()].map((weight) =>
        table(weight, { rowWeights: new Float32Array(ROWS) }),
      );
      await leavesNothing(async () => {
        const placed = await backend.placeTables(tables, plan);
        // A view's end is not the end of the rows.
        placed.withPlan(withTechniques(plan, { prefetch: { distance: 4, level: 'L1' } }))[Symbol.dispose]();
        await poolPlaced(backend, placed, { batchSize: 1, bags: tables.map(() => bagsOf([[1, 99]])) });
        placed[Symbol.dispose]();
        placed[Symbol.dispose]();
      }, [file]);
    });

  test('a file is mapped once, row weights are placed once', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const rowWeights = new Float32Array(ROWS);
    const tables = [inFile(), inFile(BYTES), inFile(0)].map((weight) => table(weight, { rowWeights }));
    const before = nativeCounts().allocations;
    using placed = await backend.placeTables(tables, plain);
    assert.equal(mapped(file), 1);
    assert.equal(placed.allocatedBytes, rowWeights.byteLength);
    assert.equal(nativeCounts().allocations - before, 1);
  });

  test('where a table cannot be placed, those before it go', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const short = join(folder, 'short.bin');
    writeFileSync(short, new Uint8Array(BYTES - 1));
    const unreadable = assembled(async () => {
      throw new Error('cannot be read');
    });
    const before = [inFile(), synthetic, host()].map((weight) => table(weight));
    for (const [plan, bad, expected] of [
      [plain, inFile(0, short), { code: 'FILE_TRUNCATED' }],
      [hugePages, inFile(0, short), { code: 'FILE_TRUNCATED' }],
      [plain, inFile(0, join(folder, 'none')), { code: 'FILE_NOT_FOUND' }],
      [plain, inFile(BYTES + 1), { code: 'FILE_TRUNCATED' }],
      [plain, unreadable, /cannot be read/],
    ] as const)
      await leavesNothing(async () => {
        await assert.rejects(backend.placeTables([...before, table(bad)], plan), expected);
      }, [file, short]);
  });

  test('threads end with the backend, also where it is closed during a run', async () => {
    const { tables, batch } = mixedProblem(new Random(2), 400, 30);
    const before = nativeCounts().poolThreads;
    await leavesNothing(async () => {
      const backend = new CpuBackend({ threads: 3 });
      const placed = await backend.placeTables(tables, plain);
      const running = poolPlaced(backend, placed, batch);
      backend[Symbol.dispose]();
      await running;
      placed[Symbol.dispose]();
      assert.throws(() => backend.allocate(1), { code: 'DISPOSED' });
    });
    const idle = new CpuBackend({ threads: 4 });
    const open = nativeCounts().poolThreads;
    idle[Symbol.dispose]();
    assert.equal(open - nativeCounts().poolThreads, 3);
    assert.equal(nativeCounts().poolThreads, before);
  });

  test('layers go with their memory, of which there may be too little', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const problem = { batch: 1, inputs: 40, outputs: 30, activation: 'none' as const };
    const arrays = {
      input: new Float32Array(40),
      weight: new Float32Array(1200),
      bias: new Float32Array(30),
    };
    await leavesNothing(() => linearOn(backend, { ...problem, ...arrays }));
    const pool = createPool(1, 'portable');
    assert.throws(() => packLinear(pool, new Float32Array(1), 2 ** 62, 1), { code: 'OUT_OF_MEMORY' });
    destroyPool(pool);
  });

  test('what ceilings are measured over goes', async () => {
    using backend = new CpuBackend({ threads: 2 });
    const before = nativeCounts().allocations;
    for (let i = 0; i < 2; i++) assert.ok((await backend.measureCeilings()).readBytesPerSecond > 0);
    assert.equal(nativeCounts().allocations, before);
  });
});
