/** Callers who change or transfer their arrays during a call get an error or other numbers, and the process goes on. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { matrix } from '../../../src/backend/backend.ts';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { GuardedBackend } from '../../../src/backend/guarded/backend.ts';
import { type BagBatch, type Bags, type EmbeddingTable, INDEX_CHECKING } from '../../../src/embedding/bag.ts';
import { RequestError } from '../../../src/errors.ts';
import { garbageCollector } from '../../../src/garbage-collector.ts';
import { EmbeddingCollection } from '../../../src/model/collection.ts';
import { plainPlan, withTechniques } from '../../../src/plan/plan.ts';
import { randomTable } from '../../support/cases.ts';
import { Random } from '../../support/random.ts';

/** Arrays of so many bytes are mappings of their own, which are unmapped when they are freed. */
const MAPPED_BYTES = 64 << 20;
/** Calls of each mode while their arrays are overwritten: HOTROW_CHANGING_CALLS=50000 for a long run. */
const CALLS = Number(process.env.HOTROW_CHANGING_CALLS ?? 200);

const collectGarbage = garbageCollector();

/** Transfers an array's memory to nobody, who frees it. */
function free(array: ArrayBufferView): void {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  collectGarbage();
}

const table = randomTable(new Random(1), { rows: 50, dim: 16, mode: 'sum' });

describe('arrays that are freed between being placed and being read', () => {
  const narrow = randomTable(new Random(2), { rows: 50, dim: 1, mode: 'sum' });
  const words = MAPPED_BYTES / Int32Array.BYTES_PER_ELEMENT;
  const ofMany = (bagLookups: number, lookups: number, batchSize: number) => ({
    batchSize,
    indices: new Int32Array(lookups),
    offsets: Int32Array.from({ length: batchSize }, (_, b) => bagLookups * b),
  });
  const cases = {
    indices: () => ofMany(4096, words, words / 4096),
    offsets: () => ({ batchSize: words, indices: new Int32Array(1), offsets: new Int32Array(words) }),
    weights: () => ({ ...ofMany(4096, words, words / 4096), weights: new Float32Array(words) }),
  };

  for (const part of ['indices', 'offsets', 'weights'] as const) {
    for (const checking of INDEX_CHECKING) {
      test(`${part}, ${checking}`, async () => {
        using backend = new CpuBackend({ threads: 2 });
        using placed = await backend.placeTables([narrow], plainPlan('cpu'));
        // Bags that fit into a piece: memory for a longer one could come to lie where theirs was.
        const { batchSize, ...arrays } = cases[part]();
        using bags = backend.placeBags(placed, { batchSize, bags: [arrays] });
        using buffer = backend.allocate(batchSize);
        const output = matrix(buffer, batchSize, 1);
        free((arrays as Required<Bags>)[part]);
        const pool = { op: 'embeddingBags', tables: placed, bags, output, checking } as const;
        await assert.rejects(backend.run([pool]), { name: 'RequestError', code: 'ARRAYS_CHANGED' });
      });
    }
  }

  test('a source that is uploaded, and a target that is downloaded to', async () => {
    using backend = new GuardedBackend(new CpuBackend({ threads: 1 }));
    const length = MAPPED_BYTES / Float32Array.BYTES_PER_ELEMENT;
    const buffer = backend.allocate(length);
    const whole = matrix(buffer, 1, length);
    const source = new Float32Array(length);
    // Large programs run in the background.
    const uploaded = backend.run([{ op: 'upload', source, output: whole }]);
    free(source);
    const code = await uploaded.then(
      () => undefined,
      (error: RequestError) => error.code,
    );
    assert.ok(code === undefined || code === 'ARRAYS_CHANGED', code);

    const target = new Float32Array(length);
    const downloaded = backend.run([{ op: 'download', input: whole, target }]);
    free(target);
    await assert.rejects(downloaded, { code: 'ARRAYS_CHANGED' });
    buffer[Symbol.dispose]();
  });
});

/** Overwrites all of some shared memory with random words and with good indices in turn, until the first is set. */
const OVERWRITING = `
  const { workerData } = require('node:worker_threads');
  const { stop, words } = workerData;
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) | 0);
  while (Atomics.load(stop, 0) === 0) {
    for (let i = 0; i < words.length; i++) words[i] = random();
    for (let i = 0; i < words.length; i++) words[i] = Math.abs(random()) % 50;
  }
`;

describe('arrays that another thread overwrites', () => {
  const shared = (bytes: number) => new Int32Array(new SharedArrayBuffer(bytes));

  for (const checking of INDEX_CHECKING) {
    test(checking, async () => {
      const batchSize = 300;
      const words = shared(8 * 4000);
      const view = (from: number, length: number) => new Int32Array(words.buffer, 4 * from, length);
      const wide = (from: number, length: number) => new BigInt64Array(words.buffer, 8 * from, length);
      const pruned: EmbeddingTable = { ...table, name: 'pruned', pruned: true, mode: 'mean' };
      const fixed = Int32Array.from({ length: batchSize }, (_, b) => 10 * b);
      const batch: BagBatch = {
        batchSize,
        bags: [
          { indices: view(0, 3000), offsets: fixed },
          { indices: wide(0, 3000), offsets: view(100, batchSize + 1) },
          { indices: view(3, 3000), offsets: wide(200, batchSize), weights: new Float32Array(3000) },
        ],
      };
      using backend = new CpuBackend({ threads: 2 });
      const plan = withTechniques(plainPlan('cpu'), {
        threads: { count: 2 },
        prefetch: { distance: 4, level: 'L1' },
      });
      await using collection = await EmbeddingCollection.create(backend, [table, pruned, table], {
        plan,
        indexChecking: checking,
      });
      const stop = shared(4);
      const worker = new Worker(OVERWRITING, { eval: true, workerData: { stop, words } });
      await new Promise((resolve) => worker.once('online', resolve));
      const largest = 2 * Math.max(...(table.weight as { data: Float32Array }).data.map(Math.abs)) * 3000;
      const codes = new Set<string>();
      for (let call = 0; call < CALLS; call++) {
        try {
          const { pooled } = await collection.forward(batch);
          assert.ok(
            pooled.every((x) => Math.abs(x) <= largest),
            'a number that no rows add up to',
          );
          codes.add('pooled');
        } catch (error) {
          if (!(error instanceof RequestError)) throw error;
          codes.add(error.code);
        }
      }
      Atomics.store(stop, 0, 1);
      await worker.terminate();
      const allowed = [
        'pooled',
        ...(checking === 'error' ? ['INDEX_OUT_OF_RANGE', 'OFFSETS_INVALID', 'ARRAYS_CHANGED'] : []),
      ];
      for (const code of codes) assert.ok(allowed.includes(code), code);
    });
  }
});
