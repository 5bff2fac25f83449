/** Launches become rows of the cells that made them, or none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cell } from '../../src/characterize/cells.ts';
import { counterRows } from '../../src/characterize/counters.ts';
import { FABRIC_METRIC, METRIC_NAMES, METRICS } from '../../src/characterize/metrics.ts';
import { plainPlan } from '../../src/plan/plan.ts';

const group = (measured: string, tables: readonly number[]) => ({
  tables,
  about: {
    ...{ measured, tables: tables.length, rows: 9, dim: 8, rowFormat: 'float32', pooling: 'sum' },
    ...{ bagLength: 3, distinctShare: 0.5 },
  },
});

const cell = (pattern: string, change: Partial<Cell> = {}): Cell => ({
  ...{ pattern, plan: plainPlan('cuda'), groups: [], batches: 2 },
  ...change,
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
    [cell('random'), cell('one_item')],
    [
      ['a', 'a'],
      ['b', 'b'],
    ],
    [
      launch('a', { [METRICS.timeNs]: 1000, [METRICS.registers]: 20, [METRICS.dramPercent]: 101 }),
      launch('a', { [METRICS.timeNs]: 2000, [METRICS.registers]: 30, [METRICS.dramPercent]: 101 }),
      launch('b', { [FABRIC_METRIC]: 30 }),
      launch('b', { [FABRIC_METRIC]: 40 }),
    ],
    7,
  );
  assert.deepEqual(
    [first?.pattern, first?.timeUs, first?.registers, first?.dramShare, first?.tablesPerLaunch],
    ['random', 1.5, 30, 1, 7],
  );
  assert.deepEqual([second?.pattern, second?.timeUs, second?.dramShare], ['one_item', 0.05, 0.5]);
  assert.deepEqual([first?.fabricShare, second?.fabricShare], [undefined, 0.35]);
  assert.deepEqual([first?.launches, first?.group], [2, undefined]);
});

test('launches of a batch go to the groups of tables in their order', () => {
  const groups = [group('few', [0]), group('many', [1, 2])];
  const times = [1000, 5000, 3000, 7000];
  const rows = counterRows(
    [cell('random', { groups })],
    [['a', 'b', 'a', 'b']],
    times.map((ns, i) => launch(i % 2 === 0 ? 'a' : 'b', { [METRICS.timeNs]: ns })),
    3,
  );
  assert.deepEqual(
    rows.map((row) => [
      row.group?.measured,
      row.group?.tables,
      row.kernel,
      row.timeUs,
      row.launches,
      row.tablesPerLaunch,
    ]),
    [
      ['few', 1, 'a', 2, 2, 1],
      ['many', 2, 'b', 6, 2, 1],
    ],
  );
});

test('launches of other kernels, too few or too many: an error', () => {
  const failure = (message: RegExp) => ({ code: 'PROFILER_FAILED', message });
  const rows = (made: readonly string[], launches: readonly string[]) =>
    counterRows(
      [cell('random')],
      [[...made]],
      launches.map((kernel) => launch(kernel)),
      1,
    );
  assert.throws(() => rows(['a', 'a'], ['a']), failure(/^1 launches were profiled, .* made 2$/));
  assert.throws(() => rows(['a', 'a'], ['a', 'a', 'a']), failure(/^3 launches were profiled/));
  assert.throws(() => rows(['a'], ['a']), failure(/standard on random made 1 launches, not 2/));
  assert.throws(
    () => rows(['a', 'a'], ['a', 'b']),
    failure(/standard on random launched a, b was profiled in its place/),
  );
});
