/** How many samples a request has. */
import { at } from '../at.ts';
import { UsageError } from '../errors.ts';
import { parseBagLengths } from '../workload/bag-lengths.ts';
import { createRandom } from '../workload/random.ts';

/**
 * MLPerf's DLRM-v2: a sample of its queries is 100 to 700 user-item pairs, mean 270, drawn from 20 equally likely sizes
 * (mlcommons/inference, recommendation/dlrm_v2/pytorch/tools/dist_quantile.txt).
 */
const MLPERF_SIZES: readonly (readonly [pairs: number, of20: number])[] = [
  [100, 2],
  [200, 12],
  [300, 2],
  [400, 1],
  [500, 1],
  [600, 1],
  [700, 1],
];

/** The spec of those sizes. */
export const MLPERF = 'mlperf';

/**
 * Sizes of `count` request bodies. `spec`: as parseBagLengths takes them, at least 1; or `mlperf`, whose shares are exact where
 * `count` is a multiple of 20.
 * @throws UsageError USAGE.
 */
export function requestSizes(spec: string, count: number, seed: number): number[] {
  if (spec === MLPERF) {
    const sizes = MLPERF_SIZES.flatMap(([pairs, of20]) => Array<number>(of20).fill(pairs));
    return Array.from({ length: count }, (_, i) => at(sizes, Math.floor(((i + 0.5) / count) * sizes.length)));
  }
  if (/^0+$/.test(spec)) throw new UsageError('USAGE', 'a request of 0 samples asks for nothing');
  const { draw } = parseBagLengths(spec);
  const random = createRandom(seed);
  return Array.from({ length: count }, () => Math.max(1, draw(random)));
}
