/** The embedding stage, timed: which batches a run looks up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend, EmbeddingBagsOperation, PlacedBags } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { EmbeddingTimer } from '../../src/tuner/embedding-timer.ts';
import { syntheticBags } from '../../src/workload/synthetic.ts';
import { countParts } from '../support/counted-parts.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

test('launches are those of the timed batch; what was placed goes with the next workload, and at the end', async () => {
  using backend = new ReferenceGpu();
  const live = countParts(backend);
  const tables = syntheticTables({ tables: 3, rows: 50, dim: 8, rowFormat: 'float32' });
  const timer = new EmbeddingTimer(backend, tables);
  const shape = { tables, batchSize: 4, pattern: 'random', bagLengths: '3', seed: 1, batches: 4 } as const;
  for (const ahead of [0, 2]) {
    await timer.load(syntheticBags(shape));
    const { launches } = await timer.run(plainPlan('cuda'), 0, { timeLaunches: true, ahead });
    assert.equal(launches.length, tables.length);
    assert.deepEqual(live(), { placeTables: 1, placeBags: 4, allocate: 1 });
  }
  timer[Symbol.dispose]();
  assert.deepEqual(live(), {});
});

test('batches that run ahead are those before in the rotation, and the last is what is timed', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const placed: PlacedBags[] = [];
  const programs: number[][] = [];
  const watched = new Proxy<Backend>(backend, {
    get(target, name) {
      if (name === 'placeBags') {
        return (...given: Parameters<Backend['placeBags']>) => {
          const bags = target.placeBags(...given);
          placed.push(bags);
          return bags;
        };
      }
      if (name === 'run') {
        return async (...given: Parameters<Backend['run']>) => {
          programs.push(
            given[0].map((operation) =>
              placed.indexOf((operation as EmbeddingBagsOperation<PlacedBags>).bags),
            ),
          );
          return { ...(await target.run(...given)), seconds: Float64Array.from(given[0], (_, i) => i + 1) };
        };
      }
      const member = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
  const tables = syntheticTables({ tables: 2, rows: 50, dim: 8, rowFormat: 'float32' });
  using timer = new EmbeddingTimer(watched, tables);
  const shape = { tables, batchSize: 4, pattern: 'random', bagLengths: '3', seed: 1, batches: 4 } as const;
  await timer.load(syntheticBags(shape));
  assert.equal((await timer.run(plainPlan('cpu'), 1)).batchMs, 1000);
  assert.equal((await timer.run(plainPlan('cpu'), 1, { ahead: 3 })).batchMs, 4000);
  assert.equal((await timer.run(plainPlan('cpu'), 7, { ahead: 1 })).batchMs, 2000);
  assert.deepEqual(programs, [[1], [2, 3, 0, 1], [2, 3]]);
});
