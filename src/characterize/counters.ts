/** The embedding kernels of every variant and pattern, launched for a profiler, and what the profiler says of them. */
import type { Backend } from '../backend/backend.ts';
import {
  combinedPlans,
  familyPlans,
  type PatternWorkload,
  singleTechniquePlans,
} from '../bench/embedding-bench.ts';
import { multiprocessorLimits } from '../cuda/occupancy.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { type Plan, planLabel } from '../embedding/plan.ts';
import type { PlanContext } from '../embedding/techniques/technique.ts';
import { DeviceError } from '../errors.ts';
import { EmbeddingTimer } from '../tuner/embedding-timer.ts';
import { limiterOf } from './limiter.ts';
import type { Metric, ProfiledKernel } from './nsight-compute.ts';
import type { CounterRow } from './results.ts';

/** Names of the kernels that pool bags. */
export const BAG_KERNELS = '^hotrow_(standard_bag|fused_bags)_';

/** The launches of one batch under one plan, in the order in which they ran. */
export interface BatchLaunches {
  readonly pattern: string;
  readonly plan: Plan;
  readonly kernel: string;
  readonly theoreticalWarps: number;
  /** µs of each by events. */
  readonly launchUs: readonly number[];
  /** Whether this batch only warmed up. */
  readonly warmUp: boolean;
}

/** Batches that every variant runs on every pattern, the first to warm up. */
const BATCHES = 2;

/** The paper's comparison: the plain kernel, OptMT, with register prefetch, with pinning too; and the heuristic plan. */
export function characterizedPlans(context: PlanContext): Plan[] {
  const wanted = ['', 'occupancy', 'occupancy prefetch', 'occupancy pinning prefetch'];
  const all = [...singleTechniquePlans(context), ...combinedPlans(context)];
  const paper = wanted.flatMap((names) => {
    const found = all.find((plan) => Object.keys(plan.techniques).sort().join(' ') === names);
    return found === undefined ? [] : [found];
  });
  return [...new Map([...paper, ...familyPlans(context)].map((plan) => [planLabel(plan), plan])).values()];
}

/** Runs every variant on every pattern. */
export async function runLaunches(
  backend: Backend,
  tables: readonly EmbeddingTable[],
  workloads: readonly PatternWorkload[],
): Promise<BatchLaunches[]> {
  using timer = new EmbeddingTimer(backend, tables);
  const plans = characterizedPlans(timer.context);
  const ran: BatchLaunches[] = [];
  for (const { pattern, batches } of workloads) {
    await timer.load(batches);
    for (const plan of plans) {
      for (let turn = 0; turn < BATCHES; turn++) {
        const { launches, kernel } = await timer.run(plan, turn, true);
        if (kernel === undefined) throw new TypeError('a run of lookups has no kernel');
        ran.push({
          ...{ pattern, plan, kernel: kernel.id, theoreticalWarps: kernel.warps, warmUp: turn === 0 },
          launchUs: launches.filter(({ kind }) => kind === 'bags').map(({ seconds }) => seconds * 1e6),
        });
      }
    }
  }
  return ran;
}

/**
 * Counters of every variant on every pattern: the mean of the launches of its timed batches.
 * @throws DeviceError KERNEL_FAILED when the profiler saw other launches than ran.
 */
export function counterRows(
  ran: readonly BatchLaunches[],
  profiled: readonly ProfiledKernel[],
  { tables, computeCapability }: { tables: number; computeCapability: readonly [number, number] },
): CounterRow[] {
  const launches = ran.reduce((sum, { launchUs }) => sum + launchUs.length, 0);
  if (launches !== profiled.length) {
    throw new DeviceError('KERNEL_FAILED', `${launches} kernels ran and ncu counted ${profiled.length}`);
  }
  const mostWarps = multiprocessorLimits(computeCapability).warps;
  let next = 0;
  return ran.flatMap((batch) => {
    const own = profiled.slice(next, next + batch.launchUs.length);
    next += own.length;
    return batch.warmUp || own.length === 0 ? [] : [rowOf(batch, own, tables, mostWarps)];
  });
}

function rowOf(
  { pattern, plan, kernel, theoreticalWarps }: BatchLaunches,
  own: readonly ProfiledKernel[],
  tables: number,
  mostWarps: number,
): CounterRow {
  const mean = (of: (one: ProfiledKernel) => number) =>
    own.reduce((sum, one) => sum + of(one), 0) / own.length;
  const value = (metric: Metric) => mean(({ values }) => values[metric]);
  // Counters of several units may come to a little more than all.
  const share = (metric: Metric) => Math.min(1, value(metric) / 100);
  const stalls = Object.keys(own[0]?.stalls ?? {})
    .map((reason) => ({
      reason: reason.replaceAll('_', ' '),
      perIssue: mean((one) => one.stalls[reason] as number),
    }))
    .sort((a, b) => b.perIssue - a.perIssue);
  const figures = {
    achievedWarps: value('achievedWarps'),
    issueSlotUse: Math.min(1, value('issueSlotUse')),
    longScoreboardPerIssue: mean((one) => one.stalls.long_scoreboard as number),
    dramShare: share('dramPercent'),
    l2Share: share('l2Percent'),
    l1Share: share('l1Percent'),
    smShare: share('smPercent'),
  };
  const stallsPerIssue = stalls.reduce((sum, { perIssue }) => sum + perIssue, 0);
  return {
    pattern,
    variant: planLabel(plan),
    plan,
    kernel,
    launches: own.length,
    timeUs: value('timeNs') / 1e3,
    tablesPerLaunch: Math.max(1, Math.round(tables / own.length)),
    registers: Math.round(value('registers')),
    theoreticalWarps,
    stalls,
    l1HitRate: share('l1HitPercent'),
    l2HitRate: share('l2HitPercent'),
    dramBytes: value('dramBytes'),
    ...figures,
    ...limiterOf({ ...figures, mostWarps, stallsPerIssue }),
  };
}
