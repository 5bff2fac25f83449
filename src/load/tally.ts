/** What came of the requests of a run. */
import { Histogram, type HistogramCounts } from './histogram.ts';

/** What came of one request. */
export type Outcome =
  | { readonly kind: 'answered'; readonly samples: number }
  /** The server did not take it on: 503. */
  | { readonly kind: 'refused'; readonly what: string }
  /** The server took it on and gave it up as late: 504. */
  | { readonly kind: 'dropped'; readonly what: string }
  /** Any other status, a broken connection, an answer that is none. */
  | { readonly kind: 'failed'; readonly what: string };

/** More kinds of failures are counted together. */
const MOST_FAILURES = 50;
const OTHERS = 'others';

const COUNTS = [
  'scheduled',
  'inTime',
  'late',
  'refused',
  'dropped',
  'failed',
  'unanswered',
  'waited',
] as const;
/** How many. `waited`: for a connection, all being busy. */
export type Counts = Record<(typeof COUNTS)[number], number>;

/** A tally as one process tells another. */
export interface TallyCounts extends Readonly<Counts> {
  readonly samples: number;
  readonly spanMs: number;
  readonly why: readonly (readonly [string, number])[];
  readonly latency: HistogramCounts;
  readonly lag: HistogramCounts;
}

/** Counts of requests, of one process or of several. */
export class Tally {
  readonly counts: Counts = {
    scheduled: 0,
    inTime: 0,
    late: 0,
    refused: 0,
    dropped: 0,
    failed: 0,
    unanswered: 0,
    waited: 0,
  };
  /** Samples of requests that were answered. */
  samples = 0;
  /** From the first arrival that may count to the last answer. */
  spanMs = 0;
  /** How often each refusal, drop and failure was met. */
  readonly why = new Map<string, number>();
  /** From the scheduled arrival to the answer, of what was answered; of what was not by the end, as long as it had waited by then. */
  readonly latency = new Histogram();
  /** From the scheduled arrival to when it was sent on: what the generator itself was late. */
  readonly lag = new Histogram();

  /** `latencyMs`: from the scheduled arrival. */
  settle(outcome: Outcome, latencyMs: number, deadlineMs = Number.POSITIVE_INFINITY): void {
    if (outcome.kind === 'answered') {
      this.counts[latencyMs <= deadlineMs ? 'inTime' : 'late'] += 1;
      this.samples += outcome.samples;
      this.latency.record(latencyMs);
      return;
    }
    this.counts[outcome.kind] += 1;
    this.#because(outcome.what, 1);
  }

  /** A request that nobody waits for any longer. */
  abandon(waitedMs: number): void {
    this.counts.unanswered += 1;
    this.latency.record(waitedMs);
  }

  add({ why, latency, lag, samples, spanMs, ...counts }: TallyCounts): void {
    for (const name of COUNTS) this.counts[name] += counts[name];
    this.samples += samples;
    this.spanMs = Math.max(this.spanMs, spanMs);
    for (const [what, count] of why) this.#because(what, count);
    this.latency.add(latency);
    this.lag.add(lag);
  }

  toCounts(): TallyCounts {
    return {
      ...this.counts,
      samples: this.samples,
      spanMs: this.spanMs,
      why: [...this.why],
      latency: this.latency.counts(),
      lag: this.lag.counts(),
    };
  }

  #because(what: string, count: number): void {
    const known = this.why.has(what) || this.why.size < MOST_FAILURES ? what : OTHERS;
    this.why.set(known, (this.why.get(known) ?? 0) + count);
  }
}
