/** How late turns of a thread's event loop come. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { IoMetrics } from './recorders.ts';

/** What of a histogram of perf_hooks is used; ns. */
export interface DelayHistogram {
  readonly count: number;
  readonly mean: number;
  readonly max: number;
  percentile(percentile: number): number;
  reset(): void;
  enable(): boolean;
  disable(): boolean;
}

/** ms between looks; what is sampled is when a timer of so long ran, so that this much is no delay. */
const RESOLUTION_MS = 10;
const NS_PER_MS = 1e6;

/** Watches the event loop of the thread that makes it. */
export class EventLoopDelay {
  readonly #histogram: DelayHistogram;

  constructor(histogram: DelayHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })) {
    this.#histogram = histogram;
    histogram.enable();
  }

  /** Writes the figures since the last time, and begins anew. To be called every few seconds. */
  publish(metrics: Pick<IoMetrics, 'delays'>): void {
    const histogram = this.#histogram;
    // Without a look there is nothing to say.
    if (histogram.count === 0) return;
    const late = (ns: number) => Math.max(0, ns / NS_PER_MS - RESOLUTION_MS);
    metrics.delays({
      mean: late(histogram.mean),
      p50: late(histogram.percentile(50)),
      p99: late(histogram.percentile(99)),
      max: late(histogram.max),
    });
    histogram.reset();
  }

  close(): void {
    this.#histogram.disable();
  }
}
