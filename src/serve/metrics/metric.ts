/** What a metric is: its name, what it says, and how threads' figures make one. */
import type { Buckets } from './buckets.ts';

/** Figures of several threads with the same labels: added, or the largest of them, or their mean. */
export type Merge = 'sum' | 'max' | 'mean';

interface Described {
  readonly name: `hotrow_${string}`;
  /** A sentence for people. */
  readonly help: string;
  readonly labels: readonly string[];
  readonly unit?: 'seconds' | 'bytes' | 'ratio' | 'samples' | 'requests';
}

export interface CounterMetric extends Described {
  readonly type: 'counter';
}

export interface GaugeMetric extends Described {
  readonly type: 'gauge';
  /** Default: sum. */
  readonly merge?: Merge;
}

export interface HistogramMetric extends Described {
  readonly type: 'histogram';
  readonly buckets: Buckets;
}

export type Metric = CounterMetric | GaugeMetric | HistogramMetric;
