/** The figures of all threads, put together on the main thread. */
import { at } from '../../at.ts';
import { printable } from '../../text.ts';
import type { Merge } from './metric.ts';
import { type LabelsOf, METRICS, type MetricKey, metricOf } from './metric-list.ts';
import {
  MetricsBlock,
  type Series,
  type SharedMetrics,
  seriesKey,
  seriesOf,
  widthOf,
} from './metrics-block.ts';

/** A series with its numbers: of a histogram, its buckets and then its sum. */
export interface Figure extends Series {
  readonly values: Float64Array;
}

/** A gauge or a counter as the main thread knows it when it is asked. */
export interface Collected {
  readonly series: Series;
  readonly value: number;
}

/** Its value with its labels by name. */
export function collected<K extends MetricKey>(metric: K, labels: LabelsOf<K>, value: number): Collected {
  return { series: seriesOf(metric, labels), value };
}

/** Characters of a label that are shown: names of models and tables are text of others. */
export const LABEL_CHARACTERS = 200;

export class MetricsRegistry {
  readonly #blocks = new Set<MetricsBlock>();
  /** Counters and histograms of writers that are gone, so that no total ever falls. */
  readonly #retired = new Map<string, Figure>();
  readonly #collectors = new Set<() => Iterable<Collected>>();

  /** Reads a block from now on. Gives what ends that. */
  add(shared: SharedMetrics): { readonly retire: () => void } {
    const block = new MetricsBlock(shared);
    this.#blocks.add(block);
    return {
      retire: () => {
        if (!this.#blocks.delete(block)) return;
        for (const series of shared.series) {
          if (metricOf(series.metric).type === 'gauge') continue;
          const key = seriesKey(series);
          const before = this.#retired.get(key)?.values;
          const values = block.read(series);
          this.#retired.set(key, { ...series, values: before === undefined ? values : sum(before, values) });
        }
      },
    };
  }

  /** Asks for gauges and counters whenever figures are read. What it throws, reading throws. Gives what ends that. */
  collect(collector: () => Iterable<Collected>): { readonly end: () => void } {
    this.#collectors.add(collector);
    return { end: () => void this.#collectors.delete(collector) };
  }

  /** Forgets what writers that are gone counted of a model: it was taken away for good. */
  forget(model: string): void {
    for (const [key, { metric, labels }] of this.#retired) {
      const place = metricOf(metric).labels.indexOf('model');
      if (place >= 0 && at(labels, place) === model) this.#retired.delete(key);
    }
  }

  /** All series, metric after metric in the order of the list; gauges that were never set are left out. */
  read(): Figure[] {
    const found = new Map<MetricKey, Map<string, Merged>>();
    for (const metric of Object.keys(METRICS) as MetricKey[]) found.set(metric, new Map());
    const put = ({ metric, labels: raw }: Series, values: Float64Array) => {
      const own = found.get(metric) as Map<string, Merged>;
      const series = { metric, labels: raw.map((label) => printable(label, LABEL_CHARACTERS)) };
      const key = seriesKey(series);
      const before = own.get(key);
      if (before === undefined) own.set(key, new Merged(series, values));
      else before.put(values);
    };
    for (const figure of this.#retired.values()) put(figure, figure.values);
    for (const block of this.#blocks)
      for (const series of block.shared.series) {
        const values = block.read(series);
        if (metricOf(series.metric).type !== 'gauge' || !Number.isNaN(at(values, 0))) put(series, values);
      }
    for (const collector of this.#collectors)
      for (const { series, value } of collector())
        if (!Number.isNaN(value)) put(series, Float64Array.of(value));
    return [...found.values()].flatMap((series) => [...series.values()].map((merged) => merged.figure));
  }
}

/** Figures of one series from several writers. */
class Merged {
  readonly #series: Series;
  readonly #merge: Merge;
  #values: Float64Array;
  #writers = 1;

  constructor(series: Series, values: Float64Array) {
    const metric = metricOf(series.metric);
    if (values.length !== widthOf(series.metric)) throw new RangeError(`${values.length} numbers`);
    this.#series = series;
    this.#merge = metric.type === 'gauge' ? (metric.merge ?? 'sum') : 'sum';
    this.#values = values;
  }

  put(values: Float64Array): void {
    this.#writers++;
    this.#values =
      this.#merge === 'max'
        ? this.#values.map((value, i) => Math.max(value, at(values, i)))
        : sum(this.#values, values);
  }

  get figure(): Figure {
    const divisor = this.#merge === 'mean' ? this.#writers : 1;
    return { ...this.#series, values: this.#values.map((value) => value / divisor) };
  }
}

function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + at(b, i));
}
