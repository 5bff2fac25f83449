/** Counters of single launches → what they say of each cell. Pure. */

import { DeviceError } from '../errors.ts';
import { planLabel } from '../plan/plan.ts';
import { mean } from '../tuner/quantile.ts';
import { type Cell, type CellRun, launchesPerBatch } from './cells.ts';
import { limitOf } from './limiter.ts';
import { FABRIC_METRIC, METRICS, type Metric, STALL_REASONS, stallMetric } from './metrics.ts';
import type { ProfiledLaunch } from './ncu-csv.ts';
import type { CounterRow } from './results.ts';
import type { TableGroup } from './table-groups.ts';

/**
 * A row for every cell and group of its tables; the launches are the cells', in their order. `kernels`: what each cell
 * launched; `tables`: of the collection.
 * @throws DeviceError PROFILER_FAILED when the launches are not those that the program made, or not those of the cells.
 */
export function counterRows(
  cells: readonly Cell[],
  kernels: CellRun['cells'],
  launches: readonly ProfiledLaunch[],
  tables: number,
): CounterRow[] {
  const expected = kernels.reduce((sum, ofCell) => sum + ofCell.length, 0);
  if (launches.length !== expected) {
    throw new DeviceError(
      'PROFILER_FAILED',
      `${launches.length} launches were profiled, the program made ${expected}`,
    );
  }
  let begin = 0;
  return cells.flatMap((cell, c) => {
    const made = kernels[c] ?? [];
    const own = launches.slice(begin, begin + made.length);
    begin += made.length;
    checkLaunches(cell, made, own);
    const perBatch = launchesPerBatch(cell);
    return Array.from({ length: perBatch }, (_, place) =>
      counterRow(
        cell,
        cell.groups.length === 0 ? tables : 1,
        cell.groups[place],
        own.filter((_, i) => i % perBatch === place),
      ),
    );
  });
}

function checkLaunches(cell: Cell, made: readonly string[], own: readonly ProfiledLaunch[]): void {
  const what = `${planLabel(cell.plan)} on ${cell.pattern}`;
  const planned = cell.batches * launchesPerBatch(cell);
  if (made.length !== planned)
    throw new DeviceError('PROFILER_FAILED', `${what} made ${made.length} launches, not ${planned}`);
  for (const [i, { kernel }] of own.entries()) {
    if (kernel === made[i]) continue;
    throw new DeviceError(
      'PROFILER_FAILED',
      `${what} launched ${made[i]}, ${kernel} was profiled in its place`,
    );
  }
}

function counterRow(
  { pattern, plan }: Cell,
  tablesPerLaunch: number,
  group: TableGroup | undefined,
  own: readonly ProfiledLaunch[],
): CounterRow {
  const average = (name: string) => mean(own.map(({ metrics }) => metrics.get(name) ?? Number.NaN));
  const value = (metric: Metric) => average(METRICS[metric]);
  // Units that are counted one after the other can come to a little more than their peak.
  const share = (metric: Metric) => Math.min(1, value(metric) / 100);
  const stalls = STALL_REASONS.map((reason) => ({
    reason: reason.replaceAll('_', ' '),
    perIssue: average(stallMetric(reason)),
  })).toSorted((a, b) => b.perIssue - a.perIssue);
  const fabric = own.flatMap(({ metrics }) => metrics.get(FABRIC_METRIC) ?? []);
  const figures = {
    timeUs: value('timeNs') / 1e3,
    theoreticalWarps: value('theoreticalWarps'),
    achievedWarps: value('achievedWarps'),
    occupancy: share('occupancyPercent'),
    activeShare: Math.min(1, value('activeCycles') / value('elapsedCycles')),
    longScoreboardPerIssue: average(stallMetric('long_scoreboard')),
    stalls,
    dramShare: share('dramPercent'),
    l1Share: share('l1Percent'),
    l2Share: share('l2Percent'),
    ...(fabric.length === 0 ? {} : { fabricShare: Math.min(1, mean(fabric) / 100) }),
    smShare: share('smPercent'),
  };
  return {
    pattern,
    variant: planLabel(plan),
    plan,
    kernel: own[0]?.kernel ?? '',
    ...(group === undefined ? {} : { group: group.about }),
    launches: own.length,
    tablesPerLaunch,
    registers: Math.max(...own.map(({ metrics }) => metrics.get(METRICS.registers) ?? Number.NaN)),
    issueSlotUse: share('issuePercent'),
    l1HitRate: share('l1HitPercent'),
    l2HitRate: share('l2HitPercent'),
    dramBytes: value('dramReadBytes') + value('dramWriteBytes'),
    ...figures,
    ...limitOf(figures),
  };
}
