/** Launches become rows of the cells that made them, or none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counterRows } from '../../src/characterize/counters.ts';
import { FABRIC_METRIC, METRIC_NAMES, METRICS } from '../../src/characterize/metrics.ts';
import { plainPlan } from '../../src/embedding/plan.ts';

const cell = (pattern: string, kernel: string) => ({
  ...{ pattern, kernel, plan: plainPlan('cuda'), launches: 2, tablesPerLaunch: 1 },
});

const launch = (kernel: string, change: Readonly<Record<string, number>> = {}) => ({
  kernel,
  metrics: new Map([
    ...METRIC_NAMES.map((name) => [name, change[name] ?? 50] as const),
    ...Object.entries(change),
  ]),
});

test('means of the launches, the most registers, shares of at most 1', () => {
  const [first, second] = counterRows(
    [cell('random', 'a'), cell('one_item', 'b')],
    [
      launch('a', { [METRICS.timeNs]: 1000, [METRICS.registers]: 20, [METRICS.dramPercent]: 101 }),
      launch('a', { [METRICS.timeNs]: 2000, [METRICS.registers]: 30, [METRICS.dramPercent]: 101 }),
      launch('b', { [FABRIC_METRIC]: 30 }),
      launch('b', { [FABRIC_METRIC]: 40 }),
    ],
  );
  assert.deepEqual(
    [first?.pattern, first?.timeUs, first?.registers, first?.dramShare],
    ['random', 1.5, 30, 1],
  );
  assert.deepEqual([second?.pattern, second?.timeUs, second?.dramShare], ['one_item', 0.05, 0.5]);
  assert.deepEqual([first?.fabricShare, second?.fabricShare], [undefined, 0.35]);
  assert.equal(first?.launches, 2);
});

test('launches of other kernels, too few or too many: an error', () => {
  const cells = [cell('random', 'a')];
  const failure = (message: RegExp) => ({ code: 'PROFILER_FAILED', message });
  assert.throws(() => counterRows(cells, [launch('a')]), failure(/^1 launches were profiled, .* made 2$/));
  assert.throws(
    () => counterRows(cells, [launch('a'), launch('a'), launch('a')]),
    failure(/^3 launches were profiled/),
  );
  assert.throws(
    () => counterRows(cells, [launch('b'), launch('a')]),
    failure(/standard on random launched a, b was profiled in its place/),
  );
});
