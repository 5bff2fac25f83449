/** The runs of a load: at given rates, in search of the highest that keeps a promise, and beyond it. */
import { percent, quantileName, significant } from '../numbers.ts';
import type { OnProgress } from '../progress.ts';
import { quantileRanks } from './order-statistics.ts';
import type { Runner, RunResult } from './processes.ts';
import { RateSearch, type SearchLimits } from './rate-search.ts';
import type { LoadResults, LoadRun } from './results.ts';

/** What a server is to keep: the quantile of its latencies within the bound, and this share in time. */
export interface Promised {
  readonly quantile: number;
  readonly boundMs: number;
}

/** Of all arrivals, those that must be in time. */
export const IN_TIME_SHARE = 0.99;

export interface LoadPlan {
  /** Requests per second: a run at each. With a search, the first is where it begins. */
  readonly rates: readonly number[];
  readonly search?: Promised;
  /** Shares of the rate that the search found, to run at after it: 1.3. */
  readonly ofFound: readonly number[];
  readonly warmupMs: number;
  readonly durationMs: number;
  readonly count?: number;
  /** What is later is not in time. */
  readonly deadlineMs?: number;
  readonly patienceMs: number;
  readonly seed: number;
}

export interface LoadOptions {
  readonly runner: Runner;
  readonly plan: LoadPlan;
  readonly onProgress: OnProgress;
  /** Told of every run when it has ended. */
  readonly onRun: (run: LoadRun) => void;
  readonly signal: AbortSignal;
  readonly limits?: Partial<SearchLimits>;
}

export interface LoadRuns {
  readonly runs: readonly LoadRun[];
  readonly search?: NonNullable<LoadResults['search']>;
  readonly opened: number;
  /** The signal was aborted: the last run is cut short. */
  readonly partial: boolean;
}

/** Runs the plan; when the signal is aborted, ends with what there is. */
export async function runLoad({ runner, plan, signal, limits, ...told }: LoadOptions): Promise<LoadRuns> {
  const runs: LoadRun[] = [];
  let opened = 0;
  const { search: promised, ofFound, rates, seed, ...request } = plan;
  const run = async (rate: number, step: LoadRun['step'], of?: Promised): Promise<LoadRun> => {
    using _ = ticking(told.onProgress, rate, plan);
    const deadlineMs = plan.deadlineMs ?? of?.boundMs;
    const began = performance.now();
    const result = await runner.run({
      ...request,
      rate,
      seed: seed + runs.length,
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
    });
    const longestMs = performance.now() - began;
    const seconds = Math.max(0, Math.min(plan.durationMs, longestMs - plan.warmupMs)) / 1000;
    opened = result.opened;
    const row = {
      step,
      ...describeRun(rate, result, seconds, plan.count),
      ...(of === undefined ? {} : verdict(result, of)),
    };
    runs.push(row);
    told.onRun(row);
    return row;
  };
  const ended = (search?: LoadRuns['search']): LoadRuns => ({
    runs,
    opened,
    partial: signal.aborted,
    ...(search === undefined ? {} : { search }),
  });
  if (promised === undefined) {
    for (const rate of rates) if (!signal.aborted) await run(rate, 'rate');
    return ended();
  }
  const [startRate] = rates;
  const search = new RateSearch({ ...limits, ...(startRate === undefined ? {} : { startRate }) });
  for (let next = search.next; next !== undefined && !signal.aborted; next = search.next) {
    const { held } = await run(next.rate, next.step, promised);
    if (!signal.aborted) search.tell(held === true);
  }
  const { found } = search;
  if (found !== undefined)
    for (const share of ofFound) if (!signal.aborted) await run(found * share, 'rate', promised);
  return ended({ ...promised, inTimeShare: IN_TIME_SHARE, ...(found === undefined ? {} : { rate: found }) });
}

const TICK_MS = 1000;

/** Tells how far a run is. */
function ticking(
  onProgress: OnProgress,
  rate: number,
  { warmupMs, durationMs, count }: LoadPlan,
): Disposable {
  const arrivingMs = count === undefined ? durationMs : Math.min(durationMs, (1000 * count) / rate);
  const seconds = Math.max(1, Math.round((warmupMs + arrivingMs) / TICK_MS));
  const what = `${significant(rate)} requests/s`;
  let passed = 0;
  onProgress(what, 0, seconds);
  const timer = setInterval(() => {
    passed += 1;
    onProgress(passed > seconds ? `${what}: waiting for answers` : what, Math.min(passed, seconds), seconds);
  }, TICK_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

export const QUANTILES = [0.5, 0.9, 0.99, 0.999] as const;
const ONE_IN = [1, 2, 5] as const;

/** What a run's tally comes to. */
function describeRun(
  rate: number,
  { tally }: RunResult,
  longest: number,
  most: number | undefined,
): Omit<LoadRun, 'step'> {
  const { counts, latency, lag, samples, why, spanMs } = tally;
  // A run of a given number of requests ends before its time.
  const seconds = most !== undefined && counts.scheduled >= most ? Math.min(longest, most / rate) : longest;
  // What was answered after the last arrival took its time.
  const answering = Math.max(seconds, spanMs / 1000);
  const perSecond = (number: number) => (answering > 0 ? number / answering : 0);
  return {
    rate,
    seconds,
    ...counts,
    answeredPerSecond: perSecond(counts.inTime + counts.late),
    samplesPerSecond: perSecond(samples),
    latency: {
      count: latency.count,
      meanMs: latency.mean,
      mostMs: latency.greatest,
      quantiles: QUANTILES.map((quantile) => {
        const { rank, low, high } = quantileRanks(latency.count, quantile);
        return {
          quantile,
          ms: latency.atRank(rank),
          ...(low === undefined ? {} : { lowMs: latency.atRank(low) }),
          ...(high === undefined ? {} : { highMs: latency.atRank(high) }),
        };
      }),
      slowest: oneIn(latency.count).map((n) => [n, latency.atRank(Math.ceil(latency.count * (1 - 1 / n)))]),
    },
    lag: {
      p50Ms: lag.atRank(Math.ceil(lag.count * 0.5)),
      p99Ms: lag.atRank(Math.ceil(lag.count * 0.99)),
      mostMs: lag.greatest,
    },
    why: [...why].map(([what, count]) => ({ what, count })),
  };
}

/** 2, 5, 10, 20, … up to `most`. */
function oneIn(most: number): number[] {
  const numbers: number[] = [];
  for (let power = 1; power <= most; power *= 10) numbers.push(...ONE_IN.map((digit) => digit * power));
  return numbers.filter((n) => n > 1 && n <= most);
}

/** Whether a run kept what was promised. */
export function verdict(
  { tally }: RunResult,
  { quantile, boundMs }: Promised,
): Pick<LoadRun, 'held' | 'because'> {
  const { counts, latency, lag } = tally;
  const { scheduled, inTime, failed, unanswered } = counts;
  const reached = (of: typeof latency) => of.atRank(quantileRanks(of.count, quantile).rank);
  const name = quantileName(quantile);
  const because =
    scheduled === 0
      ? 'nothing was sent'
      : failed > 0
        ? `${failed} failed`
        : unanswered > 0
          ? `${unanswered} unanswered`
          : reached(lag) > boundMs / 2
            ? `the generator was late itself: ${name} ${significant(reached(lag))} ms`
            : reached(latency) > boundMs
              ? `${name} ${significant(reached(latency))} ms`
              : inTime < IN_TIME_SHARE * scheduled
                ? `${percent(inTime / scheduled, 1)} in time`
                : undefined;
  return because === undefined ? { held: true } : { held: false, because };
}
