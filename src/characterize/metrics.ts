/** What is asked of Nsight Compute. Every metric costs its share of passes, so only what is used is here. */

/** By what the metrics are to a CounterRow. All are of one launch. */
export const METRICS = {
  timeNs: 'gpu__time_duration.sum',
  registers: 'launch__registers_per_thread',
  theoreticalWarps: 'sm__maximum_warps_avg_per_active_cycle',
  achievedWarps: 'sm__warps_active.avg.per_cycle_active',
  occupancyPercent: 'sm__warps_active.avg.pct_of_peak_sustained_active',
  activeCycles: 'sm__cycles_active.avg',
  elapsedCycles: 'sm__cycles_elapsed.avg',
  issuePercent: 'smsp__issue_active.avg.pct_of_peak_sustained_active',
  l1HitPercent: 'l1tex__t_sector_hit_rate.pct',
  l2HitPercent: 'lts__t_sector_hit_rate.pct',
  dramReadBytes: 'dram__bytes_read.sum',
  dramWriteBytes: 'dram__bytes_write.sum',
  dramPercent: 'gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed',
  l1Percent: 'l1tex__throughput.avg.pct_of_peak_sustained_elapsed',
  l2Percent: 'lts__throughput.avg.pct_of_peak_sustained_elapsed',
  smPercent: 'sm__instruction_throughput.avg.pct_of_peak_sustained_elapsed',
} as const;

export type Metric = keyof typeof METRICS;

/** Why a warp that lives does not issue, as Nsight Compute names it; reasons that pooling cannot have are left out. */
export const STALL_REASONS = [
  'long_scoreboard',
  'short_scoreboard',
  'lg_throttle',
  'mio_throttle',
  'math_pipe_throttle',
  'wait',
  'not_selected',
  'barrier',
  'branch_resolving',
  'dispatch_stall',
  'drain',
  'imc_miss',
  'no_instruction',
] as const;

export type StallReason = (typeof STALL_REASONS)[number];

/** Warps that wait for a reason, mean over the cycles, over the instructions issued a cycle: cycles an instruction. */
export function stallMetric(reason: StallReason): string {
  return `smsp__average_warps_issue_stalled_${reason}_per_issue_active.ratio`;
}

/**
 * What L2's halves send each other, of its peak. An H200's L2 is two halves, each beside half of the multiprocessors and of the
 * memory; what a multiprocessor asks of the other half's memory crosses the fabric between them.
 */
export const FABRIC_METRIC = 'lts__ltcfabric2ltc_cycles_active.avg.pct_of_peak_sustained_elapsed';

/** GPUs whose L2 has two halves. */
const FABRIC_ARCHITECTURES: readonly string[] = ['sm_80', 'sm_90', 'sm_100'];

/** What only some GPUs have. */
export function extraMetrics(architecture: string): readonly string[] {
  return FABRIC_ARCHITECTURES.includes(architecture) ? [FABRIC_METRIC] : [];
}

/** Every metric that a report must have. */
export const METRIC_NAMES: readonly string[] = [...Object.values(METRICS), ...STALL_REASONS.map(stallMetric)];
