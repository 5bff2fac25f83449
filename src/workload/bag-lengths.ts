/** Bag lengths (pooling factors): fixed, or drawn from a distribution. */
import { UsageError } from '../errors.ts';
import type { Random } from './random.ts';

export interface BagLengths {
  /** As it was given. */
  readonly spec: string;
  readonly draw: (random: Random) => number;
}

/** A plain decimal number; NaN for anything else. */
const decimal = (text: string) => (/^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN);

/** Longest bag that a spec may ask for. */
const MAX_LENGTH = 1_000_000;

const HINT =
  'bag lengths are 150 (fixed), uniform:1:300, poisson:20 (mean), or zipf:1.2:1000 (exponent, longest)';

/**
 * Reads a spec:
 * - `150`: every bag has 150 lookups;
 * - `uniform:A:B`: uniform in [A, B];
 * - `poisson:M`: Poisson with mean M;
 * - `zipf:S:N`: P(length = k) ∝ k^-S for k in [1, N]: many short bags, few long ones.
 * @throws UsageError USAGE.
 */
export function parseBagLengths(spec: string): BagLengths {
  const [kind = '', ...texts] = spec.split(':');
  const fail = (): never => {
    throw new UsageError('USAGE', `bag lengths ${JSON.stringify(spec)} are not understood`, { hint: HINT });
  };
  const numbers = texts.map(decimal);
  const isLength = (value: number | undefined): value is number =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_LENGTH;
  const [first, second] = numbers;
  switch (kind) {
    case 'uniform':
      if (numbers.length !== 2 || !isLength(first) || !isLength(second) || first > second) return fail();
      return { spec, draw: (random) => first + random.integer(second - first + 1) };
    case 'poisson':
      if (numbers.length !== 1 || first === undefined || !(first >= 0 && first <= MAX_LENGTH)) return fail();
      return { spec, draw: (random) => poisson(first, random) };
    case 'zipf':
      if (
        numbers.length !== 2 ||
        first === undefined ||
        !(first >= 0 && first <= 20) ||
        !isLength(second) ||
        second < 1
      )
        return fail();
      return { spec, draw: zipf(first, second) };
    default: {
      const length = decimal(kind);
      if (numbers.length > 0 || !isLength(length)) return fail();
      return { spec, draw: () => length };
    }
  }
}

/** Knuth's product method in pieces of mean 500, which keep exp(-mean) away from underflow. */
function poisson(mean: number, random: Random): number {
  let total = 0;
  for (let rest = mean; rest > 0; rest -= 500) {
    const limit = Math.exp(-Math.min(rest, 500));
    for (let product = random.float(); product > limit; product *= random.float()) total++;
  }
  return total;
}

/** By inversion of the cumulative distribution. */
function zipf(exponent: number, longest: number): BagLengths['draw'] {
  const cumulative = new Float64Array(longest);
  let sum = 0;
  for (let k = 1; k <= longest; k++) {
    sum += k ** -exponent;
    cumulative[k - 1] = sum;
  }
  return (random) => {
    const target = random.float() * sum;
    let low = 0;
    let high = longest - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulative[middle] as number) > target) high = middle;
      else low = middle + 1;
    }
    return low + 1;
  };
}

/** Lengths of a batch's bags: [batchSize]. */
export function drawBagLengths(lengths: BagLengths, batchSize: number, random: Random): Int32Array {
  return Int32Array.from({ length: batchSize }, () => lengths.draw(random));
}

/** Where each bag starts: [B], the running sum of the lengths before it. */
export function bagOffsets(lengths: Int32Array): BigInt64Array {
  const offsets = new BigInt64Array(lengths.length);
  let end = 0n;
  lengths.forEach((length, b) => {
    offsets[b] = end;
    end += BigInt(length);
  });
  return offsets;
}

/** Lookups of a batch. */
export function totalLookups(lengths: Int32Array): number {
  return lengths.reduce((sum, length) => sum + length, 0);
}
