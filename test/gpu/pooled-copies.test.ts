/** What is written in 8 bits for layers that read it so, on a real GPU: the same results as where they round it themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { ROW_FORMATS } from '../../src/embedding/bag.ts';
import { integers, MODES, randomTable } from '../support/cases.ts';
import { BESIDE, type PooledCase, pooledBatch, runPooled } from '../support/pooled-copies.ts';
import { Random } from '../support/random.ts';
import { usersProblem } from '../support/users.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu() || refuseEightBits();
/** What is measured may choose by chance among products that add in another order. */
const linearSearch = { candidates: 8, rounds: 0, runs: 0 };

function refuseEightBits(): string | false {
  using backend = new CudaBackend();
  return !backend.device.capabilities.precisions.includes('float8_e4m3') && 'this GPU has no 8-bit products';
}

test('every row format and mode, widths of whole vectors and others, users, long bags', {
  skip,
}, async () => {
  const random = new Random(41);
  const rows = 1000;
  const capacity = 2048;
  for (const dims of [
    [128, 64, 16, 32, 128, 64],
    [20, 3, 33, 100, 1000, 12],
  ]) {
    const tables = dims.map((dim, t) =>
      randomTable(random, { rows, dim, rowFormat: ROW_FORMATS[t] ?? 'float32', mode: MODES[t % 3] ?? 'sum' }),
    );
    const whole = pooledBatch(tables, capacity, 42, 40);
    const [first, ...others] = pooledBatch(tables, 3, 43).bags;
    const indices = integers(Array.from({ length: 9000 }, (_, i) => (i * 7) % rows));
    const cut = {
      batchSize: 3,
      bags: [{ ...first, indices, offsets: integers([0, 8500, 8500]) }, ...others],
    };
    const starts = Array.from({ length: 41 }, (_, user) => 50 * user);
    const users = usersProblem(random, tables, { starts, perUser: (t) => t % 2 === 1 }).batch;
    const batches = [whole, pooledBatch(tables, 300, 44, 3), users, cut, whole];
    const run = (pooledCopies: boolean) =>
      runPooled(
        (switches) => new CudaBackend({ switches, linearSearch }),
        { pooledCopies },
        {
          ...{ tables, batches, capacity },
        },
      );
    const [own, plain] = [await run(true), await run(false)];
    assert.deepEqual(own.results, plain.results, `dims ${dims}`);
    assert.deepEqual(new Set(own.rounded), new Set([BESIDE]));
    assert.ok(plain.rounded.every((columns) => columns > BESIDE));
  }
});

test('outputs that are needed in 8 bits alone, by the library and by cross products', { skip }, async () => {
  const random = new Random(45);
  const tables = [128, 128, 112].map((dim) => randomTable(random, { rows: 1000, dim }));
  for (const candidates of [8, 0])
    for (const batch of [2048, 300, 70]) {
      const own: PooledCase = {
        ...{ tables, capacity: batch, topped: true },
        batches: [46, 47, 48].map((seed) => pooledBatch(tables, batch, seed)),
      };
      const search = { ...linearSearch, candidates };
      const run = (copiesAlone: boolean) =>
        runPooled((switches) => new CudaBackend({ switches, linearSearch: search }), { copiesAlone }, own);
      assert.deepEqual(
        (await run(true)).results,
        (await run(false)).results,
        `${candidates}, batch ${batch}`,
      );
    }
});
