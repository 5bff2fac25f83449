/** The embedding collection as its users call it, on a CPU and on an emulated GPU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import type { EmbeddingTable } from '../../src/embedding/bag.ts';
import { referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { float16ToNumber } from '../../src/tensor.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';
import { randomBags, randomTable } from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { smallModel, smallRequest } from '../support/models.ts';
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

test('what a caller changes of tables that were given, at once or later, changes nothing', async () => {
  const seeded = () => ({
    name: 's',
    weight: { dtype: 'float32' as const, shape: [40, 8], seed: 3 },
    ...{ rows: 40, dim: 8, rowFormat: 'float32' as const, mode: 'sum' as 'sum' | 'mean', paddingIdx: 0 },
  });
  const host = () => {
    const { weight, ...others } = randomTable(new Random(8), { rows: 30, dim: 8, exact: true });
    return { ...others, mode: others.mode as EmbeddingTable['mode'], weight: { ...weight, shape: [30, 8] } };
  };
  const change = (tables: ReturnType<typeof host | typeof seeded>[]) => {
    for (const table of tables) {
      Object.assign(table, {
        name: 'other',
        rows: 2,
        dim: 1,
        mode: 'mean',
        paddingIdx: 1,
        rowFormat: 'int4',
      });
      table.weight.shape.reverse();
      Object.assign(table.weight, { dtype: 'float16', seed: 4, data: new Float32Array(1) });
    }
    tables.length = 0;
  };
  using backend = new CpuBackend({ threads: 1 });
  const random = new Random(9);
  const bags = [40, 30].map((rows) => randomBags(random, { batch: 3, rows, lengths: [1, 9] }));
  const batch = { batchSize: 3, bags };
  await using untouched = await EmbeddingCollection.create(backend, [seeded(), host()]);
  const { pooled } = await untouched.forward(batch);
  const architecture = smallModel(new Random(1), 'dot-lower');
  const request = smallRequest(new Random(2), architecture, 3);
  await using right = await DlrmModel.create(backend, architecture);
  const { probabilities } = await right.predict(request);
  for (const atOnce of [true, false]) {
    const given = [seeded(), host()];
    const creating = EmbeddingCollection.create(backend, given);
    if (atOnce) change(given);
    await using collection = await creating;
    if (!atOnce) change(given);
    assertSameValues((await collection.forward(batch)).pooled, pooled, `a collection, ${atOnce}`);
    assert.deepEqual(collection.tables, untouched.tables);

    const own = smallModel(new Random(1), 'dot-lower');
    const tables = own.tables.map((table) => ({
      ...table,
      weight: { ...table.weight, shape: [...table.weight.shape] },
    }));
    const making = DlrmModel.create(backend, { ...own, tables });
    const changed = tables as unknown as Parameters<typeof change>[0];
    if (atOnce) change(changed);
    await using model = await making;
    if (!atOnce) change(changed);
    assertSameValues((await model.predict(request)).probabilities, probabilities, `a model, ${atOnce}`);
    assert.deepEqual(model.architecture.tables, right.architecture.tables);
  }
});
