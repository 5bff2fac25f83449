/** How hot a stream of lookups is: distinct rows, coverage of the hottest, reuse. */
import { arrayOf, integerArray } from '../checks/arguments.ts';
import { listOf, membersOf, refuseOption, whole } from '../checks/value.ts';
import type { IndexArray } from '../embedding/bag.ts';
import { WorkloadError } from '../errors.ts';
import { ACCESS_PATTERNS, type AccessPatternName, createStream } from './access-patterns.ts';
import { asInt32 } from './index-values.ts';

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

/** Distinct rows and how often each was looked up, hottest first, ties by lower row. */
export interface RowCounts {
  /** [distinct]. */
  readonly rows: Int32Array;
  /** [distinct], ≥ 1. */
  readonly counts: Uint32Array;
}

/** Largest table that is counted in an array; beyond it, lookups are sorted. */
const MAX_COUNTED_ROWS = 2 ** 26;

/**
 * Counts lookups per row. Memory: 4 bytes per row of the table and 16 per distinct row; of more than 2^26 rows, 4 bytes per
 * lookup in place of those for the table; 4 more per lookup for int64 indices. Time grows with their numbers, not faster.
 * @throws WorkloadError TRACE_INVALID for an index outside [0, 2^31), naming its position; UsageError OPTION_INVALID.
 */
export function countRows(given: IndexArray): RowCounts {
  const indices = integerArray(given, 'indices');
  const values = asInt32(indices);
  let highest = 0;
  for (let i = 0; i < values.length; i++) {
    const row = values[i] as number;
    if (row < 0) {
      const value = indices[i] as number | bigint;
      throw new WorkloadError('TRACE_INVALID', `lookup ${i}: ${value} is not a row index in [0, 2^31)`, {
        position: i,
        value,
      });
    }
    if (row > highest) highest = row;
  }
  return byFallingCount(highest < MAX_COUNTED_ROWS ? countByRow(values, highest) : countBySorting(values));
}

function countByRow(values: Int32Array, highest: number): RowCounts {
  const histogram = new Uint32Array(highest + 1);
  for (let i = 0; i < values.length; i++) (histogram[values[i] as number] as number)++;
  let distinct = 0;
  for (let row = 0; row <= highest; row++) if (histogram[row] !== 0) distinct++;
  const rows = new Int32Array(distinct);
  const counts = new Uint32Array(distinct);
  for (let row = 0, next = 0; row <= highest; row++) {
    const count = histogram[row] as number;
    if (count === 0) continue;
    rows[next] = row;
    counts[next++] = count;
  }
  return { rows, counts };
}

function countBySorting(values: Int32Array): RowCounts {
  const sorted = values.slice().sort();
  let distinct = 0;
  for (let i = 0; i < sorted.length; i++) if (i === 0 || sorted[i] !== sorted[i - 1]) distinct++;
  const rows = new Int32Array(distinct);
  const counts = new Uint32Array(distinct);
  for (let i = 0, next = -1; i < sorted.length; i++) {
    if (i === 0 || sorted[i] !== sorted[i - 1]) rows[++next] = sorted[i] as number;
    (counts[next] as number)++;
  }
  return { rows, counts };
}

/** Sorts ascending rows by falling count, stably, by counting 16 bits of the counts at a time. */
function byFallingCount(ascending: RowCounts): RowCounts {
  const most = ascending.counts.reduce((max, count) => Math.max(max, count), 0);
  let { rows, counts } = ascending;
  for (let shift = 0; shift < 32 && most >= 2 ** shift; shift += 16) {
    // Where the rows of each digit go, the highest digit first.
    const places = new Uint32Array(2 ** 16);
    for (let i = 0; i < counts.length; i++) (places[((counts[i] as number) >>> shift) & 0xffff] as number)++;
    for (let digit = 0xffff, place = 0; digit >= 0; digit--) {
      const size = places[digit] as number;
      places[digit] = place;
      place += size;
    }
    const sorted = { rows: new Int32Array(rows.length), counts: new Uint32Array(rows.length) };
    for (let i = 0; i < counts.length; i++) {
      const digit = ((counts[i] as number) >>> shift) & 0xffff;
      const place = places[digit] as number;
      places[digit] = place + 1;
      sorted.rows[place] = rows[i] as number;
      sorted.counts[place] = counts[i] as number;
    }
    ({ rows, counts } = sorted);
  }
  return { rows, counts };
}

/** Measures a stream of row indices in [0, 2^31). @throws WorkloadError TRACE_INVALID as countRows. */
export function measureHotness(given: IndexArray, rows: readonly number[] = COVERAGE_ROWS): Hotness {
  const indices = integerArray(given, 'measureHotness: indices');
  const ks = listOf(whole())(rows, 'measureHotness: ks');
  const counted = countRows(indices);
  const lookups = indices.length;
  const distinct = counted.rows.length;
  return {
    lookups,
    distinct,
    distinctShare: lookups === 0 ? 0 : distinct / lookups,
    coverage: coverageOf(counted, ks),
    reuse: reuseHistogram(counted.counts),
  };
}

/** The share of the lookups that the k hottest rows answer, for each k. */
export function coverageOf({ counts }: RowCounts, ks: readonly number[]): Coverage[] {
  const lookups = counts.reduce((sum, count) => sum + count, 0);
  const shares = new Map<number, number>();
  let covered = 0;
  let next = 0;
  for (const k of ks.toSorted((a, b) => a - b)) {
    while (next < Math.min(k, counts.length)) covered += counts[next++] as number;
    shares.set(k, lookups === 0 ? 0 : covered / lookups);
  }
  return ks.map((k) => ({ k, share: shares.get(k) as number }));
}

/** The most points of a curve. */
const MOST_POINTS = 2 ** 16;
const ROW_COUNTS = membersOf<RowCounts>({ rows: arrayOf('Int32Array'), counts: arrayOf('Uint32Array') });

/**
 * The coverage curve for a plot: at most `points` values of k from 1 to all distinct rows, evenly apart on a log axis.
 * @throws UsageError OPTION_INVALID.
 */
export function coverageCurve(given: RowCounts, most = 64): Coverage[] {
  const counted = ROW_COUNTS(given, 'coverageCurve: counted');
  const points = whole(1, MOST_POINTS)(most, 'coverageCurve: points');
  if (counted.counts.length !== counted.rows.length)
    refuseOption(
      'coverageCurve: counted.counts.length',
      counted.counts.length,
      `${counted.rows.length}, as rows`,
    );
  const distinct = counted.rows.length;
  if (distinct === 0) return [];
  const ks = Array.from({ length: points }, (_, i) => Math.round(distinct ** (i / Math.max(1, points - 1))));
  return coverageOf(counted, [...new Set(ks)]);
}

/** Buckets 1, 2, 3–4, 5–8, … of how often a row was looked up. */
function reuseHistogram(counts: Uint32Array): ReuseBucket[] {
  const buckets: number[] = [];
  for (const count of counts) {
    // ⌈log2 count⌉
    const bucket = 32 - Math.clz32(count - 1);
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
 * @throws WorkloadError TRACE_INVALID as countRows; UsageError OPTION_INVALID.
 */
export function nearestPattern(given: IndexArray, ofTable: number): NearestPattern {
  const indices = integerArray(given, 'nearestPattern: indices');
  const rows = whole(1)(ofTable, 'nearestPattern: rows');
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
