/** The embedding stage, timed: which batches a run looks up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend, EmbeddingBagsOperation, PlacedBags } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { EmbeddingTimer } from '../../src/tuner/embedding-timer.ts';
import { syntheticBags } from '../../src/workload/synthetic.ts';

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
