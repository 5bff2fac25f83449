/** Quantiles of histograms, as readers of the metrics work them out. */
import { at } from '../../at.ts';

/**
 * The value that a share `q` of what was counted does not exceed; values are taken to lie evenly in their bucket, as Prometheus'
 * `histogram_quantile` has it. `counts` [bounds + 1]: of each bucket, the last of those beyond all bounds: they count as the last
 * bound. NaN: nothing was counted.
 */
export function quantileOf(counts: ArrayLike<number>, bounds: readonly number[], q: number): number {
  let total = 0;
  for (let i = 0; i <= bounds.length; i++) total += counts[i] ?? 0;
  if (total === 0) return Number.NaN;
  const rank = q * total;
  let below = 0;
  for (const [i, bound] of bounds.entries()) {
    const own = counts[i] ?? 0;
    if (own > 0 && below + own >= rank) {
      const low = i === 0 ? 0 : at(bounds, i - 1);
      return low + ((bound - low) * (rank - below)) / own;
    }
    below += own;
  }
  return at(bounds, bounds.length - 1);
}
