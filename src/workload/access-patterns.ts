/**
 * The five access patterns of the MICRO'24 artifact, by falling hotness. Each is a fixed popularity distribution over
 * the rows of a table, from which lookups are drawn independently; hot rows are scattered over the table.
 */
import { at } from '../at.ts';
import { allocated } from '../checks/arguments.ts';
import { type Check, deepFrozen, membersOf, oneOf, shown, whole } from '../checks/value.ts';
import { UsageError } from '../errors.ts';
import { drawLookups, type LookupDraw, type Popularity } from '../ffi/draw-lookups.ts';
import { createRandom } from './random.ts';

export interface AccessPattern {
  readonly title: string;
  /** Of the rows of a table, by rank. */
  readonly popularity: (rows: number) => Popularity;
}

/** Ranks where the strata of med_hot and low_hot begin, and the rows of the table at which their shares were fitted. */
const STRATA_BOUNDS = Float64Array.of(0, 1, 10, 100, 1_000, 4_000, 10_000, 25_000, 60_000, 150_000, 500_000);

/**
 * Rows in strata of falling popularity, uniform within a stratum; `shares` are the strata's shares of the lookups. They
 * were fitted to the artifact's traces: the expected distinct share and coverage of the K hottest rows of a batch of
 * 307,200 lookups (rows of a stratum get Poisson counts) meet those of the traces within 0.1 points.
 */
function strata(shares: readonly number[]): AccessPattern['popularity'] {
  const total = shares.reduce((sum, share) => sum + share, 0);
  let sum = 0;
  const limits = Float64Array.from(shares, (share) => {
    sum += share / total;
    return sum;
  });
  // Copies: native code reads them.
  return () => ({ kind: 'strata', limits: limits.slice(), bounds: STRATA_BOUNDS.slice() });
}

/** Share of a table's rows that high_hot touches: 20,000 of 500,000. */
const HIGH_HOT_ROWS = 0.04;

export const ACCESS_PATTERNS = deepFrozen({
  one_item: {
    title: 'every lookup hits one row',
    popularity: () => ({ kind: 'oneRow' }),
  },
  high_hot: {
    title: 'Zipf with exponent 1 over 4 % of the rows',
    // P(rank = r) = ln(1 + 1 / (r + 1)) / ln(n + 1), the discrete log-uniform distribution.
    popularity: (rows: number) => ({
      kind: 'logUniform',
      touched: Math.max(1, Math.round(rows * HIGH_HOT_ROWS)),
    }),
  },
  med_hot: {
    title: "strata fitted to the artifact's medium-hot trace",
    popularity: strata([
      0.001197, 0.008971, 0.019999, 0.079449, 0.13429, 0.154015, 0.254502, 0.263501, 0.069904, 0.014172,
    ]),
  },
  low_hot: {
    title: "strata fitted to the artifact's low-hot trace",
    popularity: strata([
      0.000446, 0.003778, 0.009143, 0.028153, 0.037968, 0.039506, 0.078797, 0.141274, 0.2599, 0.401034,
    ]),
  },
  random: {
    title: 'uniform over all rows',
    popularity: () => ({ kind: 'uniform' }),
  },
} as const satisfies Record<string, AccessPattern>);

export type AccessPatternName = keyof typeof ACCESS_PATTERNS;

/** The pattern of that name. @throws UsageError USAGE that lists the names. */
export function accessPattern(name: string): AccessPatternName {
  if (typeof name === 'string' && Object.hasOwn(ACCESS_PATTERNS, name)) return name as AccessPatternName;
  throw new UsageError('USAGE', `there is no access pattern ${shown(name)}`, {
    hint: `access patterns are ${Object.keys(ACCESS_PATTERNS).join(', ')}`,
  });
}

export interface StreamOptions {
  /** Rows of the table. Draws have 32 bits: beyond 2^32 rows, some are never looked up. */
  readonly rows: number;
  readonly seed: number;
}

const PATTERN_NAMES = Object.keys(ACCESS_PATTERNS) as AccessPatternName[];
const STREAM_MEMBERS = { rows: whole(1), seed: whole() };
const STREAM = membersOf<StreamOptions>(STREAM_MEMBERS);

/** Most lookups of one draw. */
const MOST_LOOKUPS = 2 ** 31 - 1;

export const patternName: Check<AccessPatternName> = oneOf(PATTERN_NAMES);
const lookupCount = whole(0, MOST_LOOKUPS);

/** Lookups of a stream that are to come. */
type NextLookups = Pick<LookupDraw, 'indices' | 'first'>;

/**
 * An endless stream of lookups into one table. The popularity of every row stays what it is, so that consecutive batches
 * share their hot rows. Draws are independent: unlike recorded traffic, a row that was just looked up is no likelier to
 * come next than its popularity says.
 */
export class LookupStream {
  readonly #stream: Omit<LookupDraw, keyof NextLookups>;
  #drawn = 0;

  /** @throws UsageError OPTION_INVALID for another pattern, for rows and seeds that are no whole numbers, rows from 1 on. */
  constructor(pattern: AccessPatternName, options: StreamOptions) {
    const { rows, seed } = STREAM(options, 'lookups');
    patternName(pattern, 'lookups: pattern');
    this.#stream = {
      seed,
      // Where rank 0 lies.
      skipped: 1,
      rows,
      step: scatterStep(rows),
      start: createRandom(seed).uint32() % rows,
      popularity: ACCESS_PATTERNS[pattern].popularity(rows),
    };
  }

  /**
   * The next `counts[s]` row indices of every stream, as int64, on all cores at once. They depend on neither cores nor how a
   * stream is cut.
   */
  static draw(streams: readonly LookupStream[], counts: readonly number[]): BigInt64Array[] {
    const draws = streams.map((stream, s) => stream.#next(counts[s] ?? 0));
    drawLookups(draws);
    return draws.map(({ indices }) => indices);
  }

  #next(count: number): LookupDraw {
    const indices = allocated(`${count} lookups`, () => new BigInt64Array(count));
    const first = this.#drawn;
    this.#drawn += count;
    return { ...this.#stream, indices, first };
  }
}

/** A stream as a function: each call draws the next `count` row indices. @throws UsageError OPTION_INVALID; DeviceError OUT_OF_MEMORY. */
export function createStream(
  pattern: AccessPatternName,
  options: StreamOptions,
): (count: number) => BigInt64Array {
  const stream = new LookupStream(pattern, options);
  return (count) => at(LookupStream.draw([stream], [lookupCount(count, 'lookups: count')]), 0);
}

export interface GeneratedIndices extends StreamOptions {
  readonly pattern: AccessPatternName;
  readonly count: number;
}

const GENERATED = membersOf<GeneratedIndices>({
  ...STREAM_MEMBERS,
  pattern: patternName,
  count: lookupCount,
});

/** The first `count` lookups of a stream. @throws as createStream. */
export function generateIndices(given: GeneratedIndices): BigInt64Array {
  const { pattern, count, ...options } = GENERATED(given, 'generateIndices');
  return createStream(pattern, options)(count);
}

/** Hot rows are scattered by r → (r · step + start) mod rows: a step near the golden section and coprime to rows. */
function scatterStep(rows: number): number {
  let step = Math.max(1, Math.round(rows * 0.6180339887498949));
  while (greatestCommonDivisor(step, rows) !== 1) step += 1;
  return step;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
