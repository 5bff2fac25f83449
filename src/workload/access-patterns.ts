/**
 * The five access patterns of the MICRO'24 artifact, by falling hotness. Each is a fixed popularity distribution over
 * the rows of a table, from which lookups are drawn independently; hot rows are scattered over the table.
 */
import { UsageError } from '../errors.ts';
import { createRandom } from './random.ts';

/** The table and the batch at which the statistics of med_hot and low_hot were fitted. */
const FITTED_ROWS = 500_000;

/** Rank in [0, 1) of the table's rows, by falling popularity, for a uniform draw `u` and a second one `v`. */
type RankOf = (u: number, v: number) => number;

export interface AccessPattern {
  readonly title: string;
  /** Rank ∈ [0, rows), 0 the most popular. */
  readonly rank: (rows: number, u: number, v: number) => number;
}

/** Ranks where the strata of med_hot and low_hot begin, in a table of FITTED_ROWS rows. */
const STRATA_ENDS = [1, 10, 100, 1_000, 4_000, 10_000, 25_000, 60_000, 150_000, 500_000];

/**
 * Rows in strata of falling popularity, uniform within a stratum; `shares` are the strata's shares of the lookups. They
 * were fitted to the artifact's traces: the expected distinct share and coverage of the K hottest rows of a batch of
 * 307,200 lookups (rows of a stratum get Poisson counts) meet those of the traces within 0.1 points.
 */
function strata(shares: readonly number[]): AccessPattern['rank'] {
  const total = shares.reduce((sum, share) => sum + share, 0);
  const cumulative: number[] = [];
  let sum = 0;
  for (const share of shares) {
    sum += share / total;
    cumulative.push(sum);
  }
  const rankOf: RankOf = (u, v) => {
    let s = 0;
    while (s < cumulative.length - 1 && u >= (cumulative[s] as number)) s++;
    const begin = STRATA_ENDS[s - 1] ?? 0;
    return (begin + v * ((STRATA_ENDS[s] as number) - begin)) / FITTED_ROWS;
  };
  return (rows, u, v) => Math.min(rows - 1, Math.floor(rankOf(u, v) * rows));
}

/** Share of a table's rows that high_hot touches: 20,000 of 500,000. */
const HIGH_HOT_ROWS = 0.04;

export const ACCESS_PATTERNS = {
  one_item: {
    title: 'every lookup hits one row',
    rank: () => 0,
  },
  high_hot: {
    title: 'Zipf with exponent 1 over 4 % of the rows',
    // P(rank = r) = ln(1 + 1 / (r + 1)) / ln(n + 1), the discrete log-uniform distribution.
    rank: (rows, u) => {
      const touched = Math.max(1, Math.round(rows * HIGH_HOT_ROWS));
      return Math.min(touched, Math.floor((touched + 1) ** u)) - 1;
    },
  },
  med_hot: {
    title: "strata fitted to the artifact's medium-hot trace",
    rank: strata([
      0.001197, 0.008971, 0.019999, 0.079449, 0.13429, 0.154015, 0.254502, 0.263501, 0.069904, 0.014172,
    ]),
  },
  low_hot: {
    title: "strata fitted to the artifact's low-hot trace",
    rank: strata([
      0.000446, 0.003778, 0.009143, 0.028153, 0.037968, 0.039506, 0.078797, 0.141274, 0.2599, 0.401034,
    ]),
  },
  random: {
    title: 'uniform over all rows',
    rank: (rows, u) => Math.floor(u * rows),
  },
} as const satisfies Record<string, AccessPattern>;

export type AccessPatternName = keyof typeof ACCESS_PATTERNS;

/** The pattern of that name. @throws UsageError USAGE that lists the names. */
export function accessPattern(name: string): AccessPatternName {
  if (Object.hasOwn(ACCESS_PATTERNS, name)) return name as AccessPatternName;
  throw new UsageError('USAGE', `there is no access pattern ${JSON.stringify(name)}`, {
    value: name,
    hint: `access patterns are ${Object.keys(ACCESS_PATTERNS).join(', ')}`,
  });
}

export interface StreamOptions {
  /** Rows of the table. Draws have 32 bits: beyond 2^32 rows, some are never looked up. */
  readonly rows: number;
  readonly seed: number;
}

/**
 * An endless stream of lookups into one table: each call draws the next `count` row indices, as int64. The popularity
 * of every row stays what it is, so that consecutive batches share their hot rows. Draws are independent: unlike recorded
 * traffic, a row that was just looked up is no likelier to come next than its popularity says.
 * @throws UsageError USAGE when `rows` is not a whole number from 1 to 2^53 - 1.
 */
export function createStream(
  pattern: AccessPatternName,
  { rows, seed }: StreamOptions,
): (count: number) => BigInt64Array {
  if (!Number.isSafeInteger(rows) || rows < 1)
    throw new UsageError('USAGE', `a table of ${rows} rows cannot be looked up`, { value: rows });
  const { rank } = ACCESS_PATTERNS[pattern] as AccessPattern;
  const random = createRandom(seed);
  const rowOfRank = scatter(rows, random.uint32());
  return (count) => {
    const indices = new BigInt64Array(count);
    const halves = new Int32Array(indices.buffer);
    for (let i = 0; i < count; i++) {
      const row = rowOfRank(rank(rows, random.float(), random.float()));
      halves[2 * i] = row;
      halves[2 * i + 1] = row / 2 ** 32;
    }
    return indices;
  };
}

export interface GeneratedIndices extends StreamOptions {
  readonly pattern: AccessPatternName;
  readonly count: number;
}

/** The first `count` lookups of a stream. @throws UsageError USAGE as createStream. */
export function generateIndices({ pattern, count, ...options }: GeneratedIndices): BigInt64Array {
  return createStream(pattern, options)(count);
}

/** A seeded bijection of [0, rows): r → (r · step + start) mod rows, step near the golden section and coprime to rows. */
function scatter(rows: number, seed: number): (rank: number) => number {
  let step = Math.max(1, Math.round(rows * 0.6180339887498949));
  while (greatestCommonDivisor(step, rows) !== 1) step += 1;
  const start = seed % rows;
  if (rows > 2 ** 31) return (rank) => Number((BigInt(rank) * BigInt(step) + BigInt(start)) % BigInt(rows));
  if (rows * (step + 1) < 2 ** 53) return (rank) => remainder(rank * step + start, rows);
  // The product would lose bits as a double: multiply in two parts of 16 bits.
  return (rank) => {
    const high = Math.floor(rank / 65536);
    const low = rank - high * 65536;
    return remainder(remainder(remainder(high * step, rows) * 65536 + low * step, rows) + start, rows);
  };
}

/** x mod n of whole numbers, 0 ≤ x < 2^53: many times faster than `%` of doubles. */
function remainder(x: number, n: number): number {
  const rest = x - Math.floor(x / n) * n;
  // The quotient may be rounded up to a whole number.
  return rest < 0 ? rest + n : rest;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
