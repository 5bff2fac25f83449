/** Counters of single launches → what they say of each cell. Pure. */
import { type Plan, planLabel } from '../embedding/plan.ts';
import { DeviceError } from '../errors.ts';
import { mean } from '../tuner/quantile.ts';
import type { Cell } from './cells.ts';
import { limitOf } from './limiter.ts';
import { FABRIC_METRIC, METRICS, type Metric, STALL_REASONS, stallMetric } from './metrics.ts';
import type { ProfiledLaunch } from './ncu-csv.ts';
import type { CounterRow } from './results.ts';

/**
 * A row for every cell; the launches are the cells', in their order.
 * @throws DeviceError PROFILER_FAILED when the launches are not those that the cells say.
 */
export function counterRows(cells: readonly Cell[], launches: readonly ProfiledLaunch[]): CounterRow[] {
  const expected = cells.reduce((sum, cell) => sum + cell.launches, 0);
  if (launches.length !== expected) {
    throw new DeviceError(
      'PROFILER_FAILED',
      `${launches.length} launches were profiled, the program made ${expected}`,
    );
  }
  let begin = 0;
  return cells.map((cell) => {
    const own = launches.slice(begin, begin + cell.launches);
    begin += cell.launches;
    return counterRow(cell, own);
  });
}

function counterRow(
  { pattern, plan, kernel, tablesPerLaunch }: Cell,
  own: readonly ProfiledLaunch[],
): CounterRow {
  const variant = planLabel(plan as Plan);
  const [first] = own;
  if (first?.kernel !== kernel) {
    throw new DeviceError(
      'PROFILER_FAILED',
      `${variant} on ${pattern} launched ${kernel}, ${first?.kernel} was profiled in its place`,
    );
  }
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
    variant,
    plan,
    kernel,
    launches: own.length,
    tablesPerLaunch,
    // Tables of several shapes have kernels of their own: the most that one takes.
    registers: Math.max(...own.map(({ metrics }) => metrics.get(METRICS.registers) ?? Number.NaN)),
    issueSlotUse: share('issuePercent'),
    l1HitRate: share('l1HitPercent'),
    l2HitRate: share('l2HitPercent'),
    dramBytes: value('dramReadBytes') + value('dramWriteBytes'),
    ...figures,
    ...limitOf(figures),
  };
}
