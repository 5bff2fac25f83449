import assert from 'node:assert/strict';
import { test } from 'node:test';
import { benchFacts } from '../../src/bench/facts.ts';
import type { BenchResults } from '../../src/bench/results.ts';
import { recordedBench } from '../report/results.ts';

const shape = { rows: 1 << 20, dim: 16, rowFormat: 'float32', mode: 'sum' } as const;
const recorded = recordedBench('cpu-zen5-quick.json');

function tablesOf(collection: BenchResults['collection']): string | undefined {
  return new Map(benchFacts({ ...recorded, collection })).get('tables');
}

test('the bytes of features on one table are counted once', () => {
  const features = [0, 1, 0].map((table, t) => ({ ...shape, name: `f${t}`, table }));
  assert.equal(tablesOf(features), '2 × 1,048,576 × 16 float32 of 3 features, 128.0 MiB');
  const apart = features.map(({ table: _, ...feature }) => feature);
  assert.equal(tablesOf(apart), '3 × 1,048,576 × 16 float32, 192.0 MiB');
});
