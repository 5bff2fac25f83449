/** What bounds a kernel, by rules over its counters. Pure; docs/characterize.md explains the rules. */
import { percent, significant } from '../numbers.ts';
import type { CounterRow } from './results.ts';

/** Share of its peak from which a unit is full: streaming reads reach 80 to 90 % of the memory's, other units no more. */
export const FULL_SHARE = 0.7;
/** How much busier than the memory L2 may be, of their peaks, where it only passes on what the memory delivers. */
const PASSED_ON = 0.1;
/** Share of its peak from which a unit is named where none is full. */
const BUSY_SHARE = 0.5;
/** Counters of different passes differ by so much of a peak. */
const ROUNDING = 0.02;
/** Share of the cycles below which the multiprocessors stand idle for want of blocks. */
const IDLE_SHARE = 0.6;
/** Share of the waiting from which a reason dominates. */
const DOMINANT_SHARE = 0.5;
/** Occupancy below which more warps are the first thing to try. */
const LOW_OCCUPANCY = 0.5;

export const LIMITERS = {
  dram: 'DRAM bandwidth',
  l2: 'L2 bandwidth',
  fabric: 'fabric of L2',
  l1: 'L1 bandwidth',
  issue: 'instruction issue',
  tail: 'launch overhead and tail',
  latency: 'memory latency',
  fewWarps: 'memory latency, few warps',
  queue: 'load/store queue',
  several: 'no single cause',
} as const;

export interface Limit {
  readonly limiter: (typeof LIMITERS)[keyof typeof LIMITERS];
  /** The figures that say so, with their units. */
  readonly because: string;
}

/** The figures that the rules look at. */
export type LimitFigures = Pick<
  CounterRow,
  | 'timeUs'
  | 'dramShare'
  | 'l2Share'
  | 'fabricShare'
  | 'l1Share'
  | 'smShare'
  | 'activeShare'
  | 'achievedWarps'
  | 'theoreticalWarps'
  | 'occupancy'
  | 'longScoreboardPerIssue'
  | 'stalls'
>;

/** Reasons that warps wait for the units between the multiprocessor and L1. */
const QUEUE_REASONS: readonly string[] = ['short scoreboard', 'lg throttle', 'mio throttle'];

/** Why a warp waits that could go on, had its scheduler not chosen another. */
const OTHERS_TURN = 'not selected';

/** The first rule that holds: a full unit, idle multiprocessors, what the warps wait for. */
export function limitOf(figures: LimitFigures): Limit {
  return fullUnit(figures) ?? idle(figures) ?? waiting(figures) ?? several(figures);
}

/**
 * Memory comes first where L2 is hardly busier: all that it delivers passes through L2. A busier L2 serves hits as well, and
 * is then what is full; its busiest part may be the fabric between its halves. Of the others, the fullest one.
 */
function fullUnit({
  dramShare,
  l2Share,
  l1Share,
  smShare,
  fabricShare = 0,
}: LimitFigures): Limit | undefined {
  const fabric =
    fabricShare < FULL_SHARE ? '' : `, the fabric between L2's halves at ${percent(fabricShare)}`;
  const full = (limiter: Limit['limiter'], share: number, what: string): Limit[] =>
    share < FULL_SHARE ? [] : [{ limiter, because: `${what} at ${percent(share)} of its peak` }];
  const [memory] = full(LIMITERS.dram, dramShare, 'memory');
  if (memory !== undefined && l2Share - dramShare < PASSED_ON) {
    return { ...memory, because: `${memory.because}${fabric}` };
  }
  // The counter of all of L2 is that of its busiest part.
  const crosses = fabricShare >= l2Share - ROUNDING;
  const units = [
    crosses
      ? { limiter: LIMITERS.fabric, share: fabricShare, what: "the fabric between L2's halves" }
      : { limiter: LIMITERS.l2, share: l2Share, what: 'L2' },
    { limiter: LIMITERS.l1, share: l1Share, what: 'L1' },
    { limiter: LIMITERS.issue, share: smShare, what: 'instruction throughput' },
  ].toSorted((a, b) => b.share - a.share);
  return units.flatMap(({ limiter, share, what }) => full(limiter, share, what))[0];
}

function idle({ activeShare, timeUs }: LimitFigures): Limit | undefined {
  if (activeShare >= IDLE_SHARE) return undefined;
  return {
    limiter: LIMITERS.tail,
    because: `the multiprocessors had warps in ${percent(activeShare)} of the ${significant(timeUs)} µs`,
  };
}

function waiting(figures: LimitFigures): Limit | undefined {
  const { longScoreboardPerIssue: loads, stalls, occupancy, achievedWarps, theoreticalWarps } = figures;
  const all = totalPerIssue(stalls);
  const queued = totalPerIssue(stalls.filter(({ reason }) => QUEUE_REASONS.includes(reason)));
  if (loads + queued > 0 && loads + queued >= DOMINANT_SHARE * all) {
    const onLoads = `${significant(loads)} of ${significant(all)} cycles an instruction waited for loads`;
    const onUnits = `${significant(queued)} of ${significant(all)} cycles an instruction waited for the load/store units`;
    if (queued > loads) return { limiter: LIMITERS.queue, because: `${onUnits}, ${busiest(figures)}` };
    const both = loads < DOMINANT_SHARE * all ? `, ${significant(queued)} for the load/store units` : '';
    return {
      limiter: occupancy < LOW_OCCUPANCY ? LIMITERS.fewWarps : LIMITERS.latency,
      because: `${onLoads}${both}, ${significant(achievedWarps)} of ${significant(theoreticalWarps)} warps, ${busiest(figures)}`,
    };
  }
  const [longest] = stalls;
  if (longest?.reason === OTHERS_TURN) {
    return {
      limiter: LIMITERS.issue,
      because: `warps waited longest for their turn, ${significant(longest.perIssue)} of ${significant(all)} cycles an instruction, ${busiest(figures)}`,
    };
  }
  return undefined;
}

function several(figures: LimitFigures): Limit {
  const [first] = figures.stalls;
  const most =
    first === undefined
      ? ''
      : `, the longest wait ${significant(first.perIssue)} cycles an instruction (${first.reason})`;
  const busy = unitsOf(figures).filter(({ share }) => share >= BUSY_SHARE);
  const units = busy.map(({ name, share }) => `${name} at ${percent(share)}`);
  const what =
    busy.length > 1
      ? `${units.slice(0, -1).join(', ')} and ${units.at(-1)} of their peaks`
      : busiest(figures);
  return { limiter: LIMITERS.several, because: `${what}${most}` };
}

function totalPerIssue(stalls: LimitFigures['stalls']): number {
  return stalls.reduce((sum, { perIssue }) => sum + perIssue, 0);
}

/** `L2 busiest at 41 % of its peak`. */
function busiest(figures: LimitFigures): string {
  const [first] = unitsOf(figures);
  return `${first.name} busiest at ${percent(first.share)} of its peak`;
}

interface Unit {
  readonly name: string;
  readonly share: number;
}

/** The busiest first. */
function unitsOf({ dramShare, l2Share, l1Share, smShare }: LimitFigures): [Unit, ...Unit[]] {
  const units = { memory: dramShare, L2: l2Share, L1: l1Share, 'instruction throughput': smShare };
  return Object.entries(units)
    .map(([name, share]) => ({ name, share }))
    .sort((a, b) => b.share - a.share) as [Unit, ...Unit[]];
}
