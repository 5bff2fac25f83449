/** How hot a stream of lookups is: distinct rows, coverage of the hottest, reuse. */
import type { IndexArray } from '../embedding/bag.ts';
import { ACCESS_PATTERNS, type AccessPatternName, createStream } from './access-patterns.ts';

/** The K of the coverage figures. */
export const COVERAGE_ROWS = [10, 100, 1_000, 5_000, 20_000, 60_000] as const;

/** Lookups of one table in one batch of the paper: 2,048 bags of 150. */
export const BATCH_LOOKUPS = 307_200;

export interface Coverage {
  /** The k hottest rows … */
  readonly k: number;
  /** … answer this share of the lookups. */
  readonly share: number;
}

/** Rows that were looked up `from` to `to` times. */
export interface ReuseBucket {
  readonly from: number;
  readonly to: number;
  readonly rows: number;
}

export interface Hotness {
  readonly lookups: number;
  readonly distinct: number;
  readonly distinctShare: number;
  /** How much of the lookups the k hottest rows answer. */
  readonly coverage: readonly Coverage[];
  readonly reuse: readonly ReuseBucket[];
}

/** Row numbers and how often each was looked up, hottest first, ties by lower row. */
export interface RowCounts {
  readonly rows: Float64Array;
  readonly counts: Float64Array;
}

/** Largest table that is counted in an array; beyond it, lookups are sorted. */
const MAX_COUNTED_ROWS = 2 ** 26;

/** Counts lookups per row. Memory: 4 bytes a row of the table, or 8 a lookup where rows are many. */
export function countRows(indices: IndexArray): RowCounts {
  const counted = maximum(indices) < MAX_COUNTED_ROWS ? countByRow(indices) : countBySorting(indices);
  const order = Uint32Array.from({ length: counted.rows.length }, (_, i) => i);
  const { rows, counts } = counted;
  order.sort(
    (a, b) => (counts[b] as number) - (counts[a] as number) || (rows[a] as number) - (rows[b] as number),
  );
  return {
    rows: Float64Array.from(order, (i) => rows[i] as number),
    counts: Float64Array.from(order, (i) => counts[i] as number),
  };
}

function maximum(indices: IndexArray): number {
  let max = 0;
  for (let i = 0; i < indices.length; i++) max = Math.max(max, Number(indices[i]));
  return max;
}

function countByRow(indices: IndexArray): RowCounts {
  const histogram = new Uint32Array(maximum(indices) + 1);
  let distinct = 0;
  for (let i = 0; i < indices.length; i++) {
    const row = Number(indices[i]);
    const before = histogram[row] as number;
    if (before === 0) distinct++;
    histogram[row] = before + 1;
  }
  const rows = new Float64Array(distinct);
  const counts = new Float64Array(distinct);
  let next = 0;
  histogram.forEach((count, row) => {
    if (count === 0) return;
    rows[next] = row;
    counts[next++] = count;
  });
  return { rows, counts };
}

function countBySorting(indices: IndexArray): RowCounts {
  const sorted = Float64Array.from(indices as ArrayLike<number | bigint>, Number).sort();
  const rows: number[] = [];
  const counts: number[] = [];
  for (let i = 0; i < sorted.length; ) {
    const row = sorted[i] as number;
    let end = i + 1;
    while (end < sorted.length && sorted[end] === row) end++;
    rows.push(row);
    counts.push(end - i);
    i = end;
  }
  return { rows: Float64Array.from(rows), counts: Float64Array.from(counts) };
}

/** Measures a stream of row indices ≥ 0. */
export function measureHotness(indices: IndexArray, ks: readonly number[] = COVERAGE_ROWS): Hotness {
  const { counts } = countRows(indices);
  const lookups = indices.length;
  const running = new Float64Array(counts.length);
  let sum = 0;
  counts.forEach((count, i) => {
    sum += count;
    running[i] = sum;
  });
  const coveredBy = (k: number) =>
    counts.length === 0 ? 0 : (running[Math.min(k, counts.length) - 1] as number) / lookups;
  return {
    lookups,
    distinct: counts.length,
    distinctShare: lookups === 0 ? 0 : counts.length / lookups,
    coverage: ks.map((k) => ({ k, share: coveredBy(k) })),
    reuse: reuseHistogram(counts),
  };
}

/** Buckets 1, 2, 3–4, 5–8, … of how often a row was looked up. */
function reuseHistogram(counts: Float64Array): ReuseBucket[] {
  const buckets: number[] = [];
  for (const count of counts) {
    const bucket = Math.ceil(Math.log2(count));
    while (buckets.length <= bucket) buckets.push(0);
    buckets[bucket] = (buckets[bucket] as number) + 1;
  }
  return buckets.map((rows, b) => ({ from: b === 0 ? 1 : 2 ** (b - 1) + 1, to: 2 ** b, rows }));
}

export interface NearestPattern {
  readonly pattern: AccessPatternName;
  /** Root mean square of the differences of distinct share and coverage, in points of share. */
  readonly distance: number;
}

/**
 * The access pattern whose batch looks most like the first batch of `indices`, drawn for a table of `rows` rows and of
 * the same length.
 */
export function nearestPattern(indices: IndexArray, rows: number): NearestPattern {
  const batch = indices.subarray(0, BATCH_LOOKUPS);
  const figures = (stream: IndexArray) => {
    const { distinctShare, coverage } = measureHotness(stream);
    return [distinctShare, ...coverage.map(({ share }) => share)];
  };
  const own = figures(batch);
  const names = Object.keys(ACCESS_PATTERNS) as AccessPatternName[];
  const ranked = names.map((pattern) => {
    const theirs = figures(createStream(pattern, { rows, seed: 1 })(batch.length));
    const squares = own.reduce((sum, value, i) => sum + (value - (theirs[i] as number)) ** 2, 0);
    return { pattern, distance: Math.sqrt(squares / own.length) };
  });
  return ranked.reduce((best, candidate) => (candidate.distance < best.distance ? candidate : best));
}
