/** Which tables race, and on what. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { PlacedBags, PlacedTables } from '../../src/backend/backend.ts';
import { MOST_RACED, racedTables, racePatterns } from '../../src/bench/race.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import type { BagBatch } from '../../src/embedding/bag.ts';
import { type Plan, plainPlan, planLabel, withTechniques } from '../../src/plan/plan.ts';
import { countParts } from '../support/counted-parts.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

describe('racedTables', () => {
  const table = { rows: 9, dim: 4, rowFormat: 'float32', mode: 'sum' } as const;

  test('of each shape the first few, in order', () => {
    const many = Array.from({ length: MOST_RACED + 5 }, () => table);
    const expected = Array.from({ length: MOST_RACED }, (_, t) => t);
    assert.deepEqual(racedTables(many), expected);
    assert.deepEqual(racedTables([...many, { ...table, mode: 'mean' }]), [...expected, many.length]);
    assert.deepEqual(racedTables([]), []);
  });

  test('rows, dim, format and mode make a shape', () => {
    const shapes = [
      table,
      { ...table, rows: 10 },
      { ...table, dim: 8 },
      { ...table, rowFormat: 'float16' as const },
      { ...table, mode: 'max' as const },
    ];
    const all = shapes.flatMap((shape) => Array.from({ length: MOST_RACED }, () => shape));
    assert.equal(racedTables(all).length, all.length);
    assert.equal(racedTables([...all, ...shapes]).length, all.length);
  });
});

describe('racePatterns', () => {
  const FASTEST = withTechniques(plainPlan('cuda'), { prefetch: { into: 'registers', distance: 6 } });

  class WatchedGpu extends ReferenceGpu {
    readonly batches: BagBatch[] = [];

    constructor() {
      super(({ tables }) => (planLabel(tables.plan) === planLabel(FASTEST) ? 1 : 2));
    }

    override placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags {
      this.batches.push(batch);
      return super.placeBags(tables, batch);
    }
  }

  test('each pattern races with its own lookups of the sample, and all is given back', async () => {
    const shape = { rows: 20, dim: 4, rowFormat: 'float32' as const };
    const many = syntheticTables({ ...shape, tables: MOST_RACED + 1 });
    const [other] = syntheticTables({ ...shape, rows: 10, tables: 1 });
    assert.ok(other !== undefined);
    const tables = [...many, { ...other, name: 'other' }];
    const architecture = syntheticModel(tables);
    const drawn = { architecture, batchSize: 2, bagLengths: '2', batches: 2, seed: 1 };
    const workloads = (['one_item', 'random'] as const).map((name) => patternWorkload(name, drawn).embedding);
    using backend = new WatchedGpu();
    const live = countParts(backend);
    const notes: string[] = [];
    const found = await racePatterns({ backend, tables, workloads, notes, progress: () => {} });
    assert.deepEqual(
      [...found].map(([pattern, { plan }]): [string, Plan] => [pattern, plan]),
      ['one_item', 'random'].map((pattern) => [pattern, FASTEST]),
    );
    const raced = racedTables(tables);
    assert.deepEqual(raced.slice(-2), [MOST_RACED - 1, MOST_RACED + 1]);
    assert.deepEqual(
      backend.batches.map(({ bags }) => bags),
      workloads.flatMap(({ batches }) => batches.map(({ bags }) => raced.map((t) => bags[t]))),
    );
    assert.deepEqual(live(), {});
  });
});
