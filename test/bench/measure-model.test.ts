/** The whole model's benchmark over an emulated GPU: what is measured, not how fast. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import Value from 'typebox/value';
import { measureModel } from '../../src/bench/measure-model.ts';
import { benchTables } from '../../src/bench/render.ts';
import { type BenchResults, type ModelRow, resultsSchema } from '../../src/bench/results.ts';
import { heuristicPlan } from '../../src/plan/plan.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';

const skip = refuseEmulation();

describe('measureModel on a GPU', { skip }, () => {
  if (skip !== undefined) return;
  after(() => assert.deepEqual(fake.live(), {}, 'everything was given back'));

  test('inputs on the device and on the host, several in flight; rows fit the schema and the tables', async () => {
    const architecture = smallModel(new Random(1), 'dot-lower');
    const requests = [2, 3].map((seed) => smallRequest(new Random(seed), architecture, 4));
    using backend = openFakeBackend();
    const rows = await measureModel({
      backend,
      architecture,
      plan: heuristicPlan({ device: backend.device, tables: architecture.tables }),
      workloads: [{ pattern: 'random', requests, distinctShare: 0.5 }],
      rounds: 3,
      ceilings: { readBytesPerSecond: 1e9, multiplyAddsPerSecond: 1e9, hostCopyBytesPerSecond: 1e9 },
    });
    assert.deepEqual(
      rows.map(({ inputs, inFlight, precision }) => [inputs, inFlight, precision]),
      [
        ['device', 2, 'tf32'],
        ['pinned', 3, 'tf32'],
        ['host', 3, 'tf32'],
      ],
    );
    const model: ModelRow[] = rows.map((row) => ({ ...row, speedup: 1 }));
    for (const row of model) {
      const problems = [...Value.Errors(resultsSchema.properties.model.items, row)];
      assert.deepEqual(problems, []);
      assert.ok((row.batchMs as number) > 0);
    }
    assert.ok((model[1]?.inputLimitShare as number) > 0);
    const tables = benchTables({ embedding: [], model } as unknown as BenchResults);
    assert.deepEqual(
      tables.map(({ title, rows: lines }) => [/inputs in (\w+)/.exec(title)?.[1], lines.length]),
      [
        ['device', 1],
        ['pinned', 1],
        ['host', 1],
      ],
    );
  });
});
