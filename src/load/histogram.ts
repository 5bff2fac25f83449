/**
 * Latencies in a histogram of log-linear buckets, in the manner of HdrHistogram (G. Tene): those of processes add up to what one
 * process would have recorded.
 */

/** Values are counted in units of 100 ns. */
const UNITS_PER_MS = 10_000;
/** Buckets of every power of two: a value is told from one 1/128 larger, or by a unit where that is more. */
const STEPS = 128;
const STEP_BITS = 7;
/** Larger ones count as this many units, 7 minutes. Their maximum stays what it is. */
const MOST_UNITS = 2 ** 32 - 1;
const BUCKETS = (32 - STEP_BITS + 1) * STEPS;

/** Counts of values in ms. Quantiles are within 0.4 %, or 50 ns where that is more; count, least, greatest and sum are exact. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sum = 0;
  #least = Number.POSITIVE_INFINITY;
  #greatest = 0;

  /** Counts a value in ms. Below 0 counts as 0. */
  record(ms: number): void {
    const value = ms > 0 ? ms : 0;
    const bucket = bucketOf(Math.min(MOST_UNITS, Math.round(value * UNITS_PER_MS)));
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#count += 1;
    this.#sum += value;
    this.#least = Math.min(this.#least, value);
    this.#greatest = Math.max(this.#greatest, value);
  }

  get count(): number {
    return this.#count;
  }

  /** ms; 0 of none. */
  get greatest(): number {
    return this.#greatest;
  }

  /** ms; 0 of none. */
  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  /** The value of a rank in ms, 1 the least; 0 of none. Ranks beyond the ends are the ends. */
  atRank(rank: number): number {
    if (this.#count === 0) return 0;
    if (rank >= this.#count) return this.#greatest;
    let below = 0;
    let bucket = 0;
    for (; bucket < BUCKETS; bucket++) {
      below += this.#counts[bucket] as number;
      if (below >= rank) break;
    }
    return Math.min(this.#greatest, Math.max(this.#least, middleOf(bucket)));
  }

  add({ count, sum, least, greatest, buckets }: HistogramCounts): void {
    for (const [bucket, own] of buckets) this.#counts[bucket] = (this.#counts[bucket] as number) + own;
    this.#count += count;
    this.#sum += sum;
    this.#least = Math.min(this.#least, least);
    this.#greatest = Math.max(this.#greatest, greatest);
  }

  counts(): HistogramCounts {
    const buckets: [number, number][] = [];
    this.#counts.forEach((count, bucket) => {
      if (count > 0) buckets.push([bucket, count]);
    });
    return { count: this.#count, sum: this.#sum, least: this.#least, greatest: this.#greatest, buckets };
  }
}

/** A histogram as one process tells another. */
export interface HistogramCounts {
  readonly count: number;
  readonly sum: number;
  readonly least: number;
  readonly greatest: number;
  /** [bucket, values in it], without empty buckets. */
  readonly buckets: readonly (readonly [number, number])[];
}

function bucketOf(units: number): number {
  if (units < STEPS) return units;
  const exponent = 31 - STEP_BITS - Math.clz32(units);
  return exponent * STEPS + (units >>> exponent);
}

/** The middle of a bucket, in ms. */
function middleOf(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket / UNITS_PER_MS;
  const exponent = Math.floor(bucket / STEPS) - 1;
  const width = 2 ** exponent;
  return ((bucket - exponent * STEPS) * width + (width - 1) / 2) / UNITS_PER_MS;
}
