/** What bounds a kernel, by stated rules over its counters. Pure. */
import { percent, significant } from '../numbers.ts';

/** Throughputs in shares of their peaks. */
export interface LimiterFigures {
  readonly dramShare: number;
  readonly l2Share: number;
  readonly l1Share: number;
  readonly smShare: number;
  readonly issueSlotUse: number;
  readonly achievedWarps: number;
  /** That the multiprocessor holds. */
  readonly mostWarps: number;
  readonly longScoreboardPerIssue: number;
  /** Waiting warps per issued instruction, for all reasons. */
  readonly stallsPerIssue: number;
}

export interface Limiter {
  readonly limiter: string;
  readonly because: string;
}

/** Memory comes first: its traffic goes through L2, which then works near its peak as well. */
const UNITS = [
  { limiter: 'memory bandwidth', share: 'dramShare', from: 0.8, what: "memory's" },
  { limiter: 'L2 bandwidth', share: 'l2Share', from: 0.75, what: "L2's" },
  { limiter: 'L1 bandwidth', share: 'l1Share', from: 0.75, what: "L1's" },
  { limiter: 'instruction issue', share: 'smShare', from: 0.65, what: "the multiprocessors'" },
] as const;

/** From this share of the waiting on, loads are what warps wait for. */
const MOSTLY_LOADS = 0.5;
/** Below this share of the warps that fit, more of them could hide more. */
const FEW_WARPS = 0.5;

/**
 * The first unit that works near its peak (see UNITS); else memory latency, where warps mostly wait for loads, at low
 * occupancy or not; else nothing by itself, as in launches that are too short to fill the GPU.
 */
export function limiterOf(figures: LimiterFigures): Limiter {
  const unit = UNITS.find(({ share, from }) => figures[share] >= from);
  if (unit !== undefined)
    return {
      limiter: unit.limiter,
      because: `${percent(figures[unit.share])} of ${unit.what} peak throughput`,
    };
  const { longScoreboardPerIssue, stallsPerIssue, achievedWarps, mostWarps, issueSlotUse } = figures;
  const waiting = stallsPerIssue === 0 ? 0 : longScoreboardPerIssue / stallsPerIssue;
  if (waiting < MOSTLY_LOADS) {
    return {
      limiter: 'nothing by itself',
      because: `no unit is near its peak, and ${percent(waiting)} of the waiting is for loads`,
    };
  }
  const few = achievedWarps < FEW_WARPS * mostWarps;
  const warps = `${significant(achievedWarps)} of ${mostWarps} warps`;
  return {
    limiter: few ? 'memory latency at low occupancy' : 'memory latency',
    because: `${percent(waiting)} of the waiting is for loads with ${warps}, and schedulers issue in ${percent(issueSlotUse)} of the cycles`,
  };
}
