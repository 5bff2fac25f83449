/**
 * Figures that one thread writes and others read, without locks: float64 numbers in a SharedArrayBuffer.
 *
 * Why plain stores and loads are enough:
 * - One thread alone writes a block, so that `+=` loses nothing.
 * - A number of eight bytes that is aligned to eight is stored and loaded by one instruction on x64 and arm64, the processors that
 *   Hotrow runs on, so that a reader sees a whole number, old or new. (The language leaves open whether such a store is torn; a test
 *   watches that it is not.)
 * - Figures may be seen a moment late and not all of one moment. Each counter only grows, and a histogram's count is the sum
 *   of the buckets that were read, so that what is shown always fits together; the next reading has the rest.
 * - Numbers are whole up to 2^53, and sums of seconds exact to some ns.
 */
import type { Buckets } from './buckets.ts';
import { type KeyOf, type LabelsOf, type MetricKey, metricOf } from './metric-list.ts';

/** A metric with the values of its labels. */
export interface Series {
  readonly metric: MetricKey;
  /** In the order of the metric's labels. */
  readonly labels: readonly string[];
}

/** What is posted to another thread to have it write or read a block. */
export interface SharedMetrics {
  readonly series: readonly Series[];
  readonly buffer: SharedArrayBuffer;
}

/** Only grows. */
export class Counter {
  readonly #values: Float64Array;
  readonly #at: number;

  constructor(values: Float64Array, index: number) {
    this.#values = values;
    this.#at = index;
  }

  add(count = 1): void {
    (this.#values[this.#at] as number) += count;
  }
}

/** Goes up and down. Until it is set, it is not shown. */
export class Gauge {
  readonly #values: Float64Array;
  readonly #at: number;

  constructor(values: Float64Array, index: number) {
    this.#values = values;
    this.#at = index;
  }

  set(value: number): void {
    this.#values[this.#at] = value;
  }

  /** From what it is, or from 0. */
  add(difference: number): void {
    const value = this.#values[this.#at] as number;
    this.#values[this.#at] = (Number.isNaN(value) ? 0 : value) + difference;
  }
}

/** Numbers of a histogram: its buckets, then the sum of its values. */
export class Histogram {
  readonly #values: Float64Array;
  readonly #at: number;
  readonly #sum: number;
  readonly #buckets: Buckets;

  constructor(values: Float64Array, index: number, buckets: Buckets) {
    this.#values = values;
    this.#at = index;
    this.#sum = index + buckets.count;
    this.#buckets = buckets;
  }

  /** `times`: how often the value was met. Values below 0 count as 0: clocks of two threads may differ by that much. */
  observe(value: number, times = 1): void {
    const own = value > 0 ? value : 0;
    (this.#values[this.#at + this.#buckets.indexOf(own)] as number) += times;
    (this.#values[this.#sum] as number) += own * times;
  }
}

/** How many numbers a series has. */
export function widthOf(metric: MetricKey): number {
  const described = metricOf(metric);
  return described.type === 'histogram' ? described.buckets.count + 1 : 1;
}

/** A series, its labels by name. */
export function seriesOf<K extends MetricKey>(metric: K, labels: LabelsOf<K>): Series {
  const values: Readonly<Record<string, string>> = labels;
  return {
    metric,
    labels: metricOf(metric).labels.map((name) => {
      const value = values[name];
      if (value === undefined) throw new RangeError(`${metric} without ${name}`);
      return value;
    }),
  };
}

/** The same for the same metric and labels, and for no others. */
export function seriesKey({ metric, labels }: Series): string {
  return JSON.stringify([metric, ...labels]);
}

/** The figures of one writer. */
export class MetricsBlock {
  readonly shared: SharedMetrics;
  readonly #values: Float64Array;
  readonly #places: ReadonlyMap<string, number>;

  /** @throws RangeError for a series that stands twice, or a buffer of another list. */
  constructor(shared: SharedMetrics) {
    const places = new Map<string, number>();
    let end = 0;
    for (const series of shared.series) {
      const key = seriesKey(series);
      if (places.has(key)) throw new RangeError(`${key} stands twice`);
      places.set(key, end);
      end += widthOf(series.metric);
    }
    if (shared.buffer.byteLength !== end * Float64Array.BYTES_PER_ELEMENT)
      throw new RangeError(`${shared.buffer.byteLength} bytes for ${end} numbers`);
    this.shared = shared;
    this.#values = new Float64Array(shared.buffer);
    this.#places = places;
  }

  /** New figures: counters of 0, gauges that are not set. */
  static of(series: readonly Series[]): MetricsBlock {
    const count = series.reduce((sum, { metric }) => sum + widthOf(metric), 0);
    const block = new MetricsBlock({
      series,
      buffer: new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT),
    });
    for (const one of series)
      if (metricOf(one.metric).type === 'gauge') block.#values[block.#placeOf(one)] = Number.NaN;
    return block;
  }

  counter<K extends KeyOf<'counter'>>(metric: K, labels: LabelsOf<K>): Counter {
    return new Counter(this.#values, this.#placeOf(seriesOf(metric, labels)));
  }

  gauge<K extends KeyOf<'gauge'>>(metric: K, labels: LabelsOf<K>): Gauge {
    return new Gauge(this.#values, this.#placeOf(seriesOf(metric, labels)));
  }

  histogram<K extends KeyOf<'histogram'>>(metric: K, labels: LabelsOf<K>): Histogram {
    const described = metricOf(metric);
    if (described.type !== 'histogram') throw new RangeError(`${metric} is no histogram`);
    return new Histogram(this.#values, this.#placeOf(seriesOf(metric, labels)), described.buckets);
  }

  /** A copy of a series' numbers: of a histogram, its buckets and its sum. */
  read(series: Series): Float64Array {
    const begin = this.#placeOf(series);
    return this.#values.slice(begin, begin + widthOf(series.metric));
  }

  #placeOf(series: Series): number {
    const place = this.#places.get(seriesKey(series));
    if (place === undefined) throw new RangeError(`this block has no ${seriesKey(series)}`);
    return place;
  }
}
