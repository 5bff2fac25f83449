/** The access patterns as they are defined: one lookup after the other, in numbers that have no bound. */
import {
  ACCESS_PATTERNS,
  type AccessPattern,
  type AccessPatternName,
} from '../../src/workload/access-patterns.ts';
import { createRandom } from '../../src/workload/random.ts';

/** The first `count` lookups of a stream. */
export function definedStream(
  pattern: AccessPatternName,
  { rows, seed }: { readonly rows: number; readonly seed: number },
  count: number,
): bigint[] {
  const random = createRandom(seed);
  const start = BigInt(random.uint32());
  const step = BigInt(scatterStep(rows));
  const rank = rankOf(pattern, rows);
  return Array.from({ length: count }, () => {
    const [u, v] = [random.float(), random.float()];
    return (BigInt(rank(u, v)) * step + start) % BigInt(rows);
  });
}

function rankOf(pattern: AccessPatternName, rows: number): (u: number, v: number) => number {
  const popularity = (ACCESS_PATTERNS[pattern] as AccessPattern).popularity(rows);
  switch (popularity.kind) {
    case 'oneRow':
      return () => 0;
    case 'uniform':
      return (u) => Math.floor(u * rows);
    case 'logUniform': {
      const { touched } = popularity;
      return (u) => Math.min(touched, Math.floor((touched + 1) ** u)) - 1;
    }
    case 'strata': {
      const { limits, bounds } = popularity;
      const all = bounds.at(-1) as number;
      return (u, v) => {
        const found = limits.subarray(0, -1).findIndex((limit) => u < limit);
        const s = found < 0 ? limits.length - 1 : found;
        const [begin, end] = bounds.subarray(s) as unknown as [number, number];
        return Math.min(rows - 1, Math.floor(((begin + v * (end - begin)) / all) * rows));
      };
    }
    default:
      return popularity satisfies never;
  }
}

/** From the golden section on, the first that is coprime to `rows`. */
function scatterStep(rows: number): number {
  let step = Math.max(1, Math.round(rows * 0.6180339887498949));
  const coprime = (a: number, b: number): boolean => (b === 0 ? a === 1 : coprime(b, a % b));
  while (!coprime(step, rows)) step += 1;
  return step;
}
