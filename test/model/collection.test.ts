/** The embedding collection as its users call it, on a CPU and on an emulated GPU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { float16ToNumber } from '../../src/tensor.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';
import { randomBags, randomTable } from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { Random } from '../support/random.ts';

const BACKENDS: readonly [string, () => Backend, string | undefined][] = [
  ['a CPU', () => new CpuBackend({ threads: 2 }), undefined],
  ['an emulated GPU', () => openFakeBackend(), refuseEmulation()],
];

for (const [name, open, skip] of BACKENDS) {
  test(`forward on ${name}: ever other bags, timed and not, float32 and float16`, { skip }, async () => {
    using backend = open();
    const random = new Random(4);
    const tables = [8, 16].map((dim) => randomTable(random, { rows: 30, dim, exact: true }));
    await using collection = await EmbeddingCollection.create(backend, tables);
    for (let call = 0; call < 8; call++) {
      const batchSize = 3;
      const bags = tables.map(({ rows }) => randomBags(random, { batch: batchSize, rows, lengths: [0, 9] }));
      const expected = referenceEmbeddingBags(tables, { batchSize, bags }).pooled;
      const timed = call % 3 === 2;
      const { pooled, embeddingMs } = await collection.forward({ batchSize, bags }, { timed });
      assertSameValues(pooled, expected, `call ${call}`);
      assert.equal(embeddingMs !== undefined, timed);
      const half = await collection.forward({ batchSize, bags }, { output: 'float16' });
      // Sums of these small integers are exact in float16 too.
      assertSameValues(Float32Array.from(half.pooled, float16ToNumber), expected, `call ${call}, float16`);
    }
  });

  test(`hundreds of tables on ${name}, several calls at once`, { skip }, async () => {
    using backend = open();
    const random = new Random(5);
    const tables = Array.from({ length: 250 }, () => randomTable(random, { rows: 20, dim: 8, exact: true }));
    await using collection = await EmbeddingCollection.create(backend, tables);
    const batches = Array.from({ length: 3 }, () => ({
      batchSize: 32,
      bags: tables.map(({ rows }) => randomBags(random, { batch: 32, rows, lengths: [10, 20] })),
    }));
    const results = await Promise.all(batches.map((batch) => collection.forward(batch)));
    results.forEach(({ pooled }, i) => {
      const { pooled: expected } = referenceEmbeddingBags(tables, batches[i] as (typeof batches)[number]);
      assertSameValues(pooled, expected, `batch ${i}`);
    });
  });
}
