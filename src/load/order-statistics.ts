/** Quantiles of a sample, and how far those of its distribution may be from them. */

export interface QuantileRanks {
  /** The rank of the sample's quantile, 1 the least. */
  readonly rank: number;
  /** Ranks between whose values the distribution's quantile lies; undefined: the sample is too small to bound it there. */
  readonly low?: number;
  readonly high?: number;
}

/** What lies so far below the likeliest count adds nothing. */
const NEGLIGIBLE = 1e-20;

/**
 * Ranks of the `quantile` in (0, 1) of `count` values that are drawn independently. The distribution's quantile lies within
 * [low, high] with a probability of at least `confidence`, whatever the distribution: the number of values below it is binomial,
 * so that each end is missed with a probability of at most (1 − confidence) / 2 (David and Nagaraja, Order Statistics, 7.1).
 */
export function quantileRanks(count: number, quantile: number, confidence = 0.95): QuantileRanks {
  const rank = Math.min(count, Math.max(1, Math.ceil(count * quantile)));
  if (count === 0) return { rank: 0 };
  const { first, shares } = binomial(count, quantile);
  const missed = (1 - confidence) / 2;
  let low = first;
  let below = 0;
  // Rank `low` lies above the quantile where fewer than `low` values are below it.
  while (below + (shares[low - first] ?? 1) <= missed) {
    below += shares[low - first] as number;
    low += 1;
  }
  let last = first + shares.length - 1;
  let above = 0;
  // Rank `last + 1` lies below it where at least so many are.
  while (above + (shares[last - first] ?? 1) <= missed) {
    above += shares[last - first] as number;
    last -= 1;
  }
  return {
    rank,
    ...(low >= 1 ? { low } : {}),
    ...(last + 1 <= count ? { high: last + 1 } : {}),
  };
}

/** P(B = k) for the k from `first` on whose shares are not negligible. */
function binomial(count: number, p: number): { readonly first: number; readonly shares: number[] } {
  const mode = Math.min(count, Math.floor((count + 1) * p));
  const odds = p / (1 - p);
  const before: number[] = [];
  for (let k = mode, share = 1; k > 0 && share > NEGLIGIBLE; k--) {
    share *= k / ((count - k + 1) * odds);
    before.push(share);
  }
  const after: number[] = [];
  for (let k = mode, share = 1; k < count && share > NEGLIGIBLE; k++) {
    share *= ((count - k) * odds) / (k + 1);
    after.push(share);
  }
  const shares = [...before.reverse(), 1, ...after];
  const sum = shares.reduce((total, share) => total + share, 0);
  return { first: mode - before.length, shares: shares.map((share) => share / sum) };
}
