/** What rows of results compare with, and how. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compared, launchPerTable, launchSpeedup } from '../../src/bench/comparison.ts';
import type { EmbeddingRow } from '../../src/bench/results.ts';
import { plainPlan, withKernel } from '../../src/plan/plan.ts';

const launch = (medianUs: number) => ({ medianUs, p10Us: medianUs / 2, p90Us: 2 * medianUs, samples: 9 });
const row = (given: Partial<EmbeddingRow>) => ({ tables: 4, ...given }) as EmbeddingRow;

const standard = row({ launch: launch(20), plan: plainPlan('cuda') });
const fused = row({ launch: launch(40), plan: withKernel(plainPlan('cuda'), 'fused') });
const peer = row({ launch: launch(30), tablesPerLaunch: 2 });

test("a launch is divided among the tables that it serves: one's own, all, or as many as a peer says", () => {
  assert.deepEqual(launchPerTable(standard), launch(20));
  assert.deepEqual(launchPerTable(fused), launch(10));
  assert.deepEqual(launchPerTable(peer), launch(15));
  assert.equal(launchPerTable(row({})), undefined);
});

test("a launch's speedup is the baseline's time over its own", () => {
  assert.equal(launchSpeedup(fused, standard), 2);
  assert.equal(launchSpeedup(standard, fused), 0.5);
  assert.equal(launchSpeedup(standard, undefined), undefined);
  assert.equal(launchSpeedup(row({}), standard), undefined);
  assert.equal(launchSpeedup(row({ launch: launch(0) }), standard), undefined, 'what took no time has none');
});

test('rows of sweeps are not of the comparison', () => {
  const swept = row({ sweep: 'prefetch' });
  assert.deepEqual(compared({ embedding: [standard, swept, peer] }), [standard, peer]);
});
