/** Two plans timed in turns within one run, and whether the difference is more than noise. */
import { at } from '../at.ts';
import { throwIfAborted } from '../checks/abort.ts';
import type { Plan } from '../plan/plan.ts';
import { median, quantile } from './quantile.ts';
import type { PlanTimer } from './search.ts';

/** Batch times of one plan. */
export interface Spread {
  readonly medianMs: number;
  readonly p10Ms: number;
  readonly p90Ms: number;
}

export interface SideBySide {
  /** Of the plan that stands, and of the challenger. */
  readonly standing: Spread;
  readonly challenger: Spread;
  /** How many times as fast the challenger is: the median over the rounds … */
  readonly gain: number;
  /** … and where that median lies with 95 % certainty, at least. */
  readonly gainLow: number;
  readonly gainHigh: number;
  readonly rounds: number;
  /** Whether the challenger is faster by more than noise, and by enough to matter. */
  readonly isFaster: boolean;
}

/** Fewer rounds cannot tell a difference from noise. */
const LEAST_ROUNDS = 9;
const MOST_ROUNDS = 25;
/** A turn of a plan takes at least so long: short batches are timed several at once. */
const TURN_MS = 20;
const MOST_BATCHES = 50;
/** A smaller gain is not worth another plan. */
const LEAST_GAIN = 1.005;

/**
 * Times both plans in turns on the workload that `timer` has loaded, for `seconds` about, and at least some rounds. The order
 * within a round changes, so that neither has the better place.
 * @throws AbortError, between batches.
 */
export async function sideBySide(
  timer: PlanTimer,
  plans: { readonly standing: Plan; readonly challenger: Plan },
  seconds: number,
  signal?: AbortSignal,
): Promise<SideBySide> {
  const began = performance.now();
  const turns = { standing: [] as number[][], challenger: [] as number[][] };
  const batches = await batchesOfATurn(timer, Object.values(plans));
  let batch = 0;
  const take = async (who: keyof typeof turns) => {
    const times: number[] = [];
    for (let i = 0; i < batches; i++) {
      throwIfAborted(signal, 'the comparison of plans');
      times.push((await timer.run(plans[who], batch + i)).batchMs);
    }
    turns[who].push(times);
  };
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const isTime = performance.now() - began > 1e3 * seconds;
    if (round >= LEAST_ROUNDS && isTime) break;
    const order = ['standing', 'challenger'] as const;
    for (const who of round % 2 === 0 ? order : order.toReversed()) await take(who);
    batch += 1;
  }
  return compareTurns(turns.standing, turns.challenger);
}

/** Both plans run once, which readies them too. */
async function batchesOfATurn(timer: PlanTimer, plans: readonly Plan[]): Promise<number> {
  let fastest = Number.POSITIVE_INFINITY;
  for (const plan of plans) {
    await timer.run(plan, 0);
    fastest = Math.min(fastest, (await timer.run(plan, 1)).batchMs);
  }
  return Math.max(1, Math.min(MOST_BATCHES, Math.ceil(TURN_MS / fastest)));
}

/**
 * What turns of both plans, [rounds] of [batches] ms, come to. The gain of a round is the ratio of its two medians; the median
 * over the rounds is certain to lie between two of them by the binomial distribution, whatever the noise is like.
 */
export function compareTurns(
  standing: readonly (readonly number[])[],
  challenger: readonly (readonly number[])[],
): SideBySide {
  const gains = standing
    .map((turn, i) => median(turn) / median(challenger[i] ?? []))
    .toSorted((a, b) => a - b);
  const rank = certainRank(gains.length);
  const gain = quantile(gains, 0.5);
  const gainLow = rank === undefined ? Number.NEGATIVE_INFINITY : at(gains, rank);
  const gainHigh = rank === undefined ? Number.POSITIVE_INFINITY : at(gains, gains.length - 1 - rank);
  return {
    standing: spreadOf(standing.flat()),
    challenger: spreadOf(challenger.flat()),
    gain,
    gainLow,
    gainHigh,
    rounds: gains.length,
    isFaster: gainLow > 1 && gain >= LEAST_GAIN,
  };
}

/** The highest rank, from 0 on, below which the median of `count` samples lies in at most 2.5 % of cases; undefined: none. */
function certainRank(count: number): number | undefined {
  let term = 0.5 ** count;
  let below = term;
  let rank: number | undefined;
  for (let k = 0; below <= 0.025 && k < count / 2; k++) {
    rank = k;
    term *= (count - k) / (k + 1);
    below += term;
  }
  return rank;
}

function spreadOf(batchMs: readonly number[]): Spread {
  const sorted = batchMs.toSorted((a, b) => a - b);
  return { medianMs: quantile(sorted, 0.5), p10Ms: quantile(sorted, 0.1), p90Ms: quantile(sorted, 0.9) };
}
