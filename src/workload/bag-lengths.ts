/** Bag lengths (pooling factors): fixed, or drawn from a distribution. */
import { at } from '../at.ts';
import { UsageError } from '../errors.ts';
import type { Random } from './random.ts';

export interface BagLengths {
  /** As it was given. */
  readonly spec: string;
  readonly draw: (random: Random) => number;
}

/** Longest bag that a spec may ask for. */
const MAX_LENGTH = 1_000_000;

/** Most lookups of one table in one batch: 16 GiB of int64 indices. */
const MAX_LOOKUPS = 2 ** 31 - 1;

const HINT =
  'bag lengths are 150 (fixed), uniform:1:300, poisson:20 (mean), geometric:20 (mean), or zipf:1.2:1000 (exponent, longest); 3/2/1 gives each table its own';

/**
 * Reads a spec:
 * - `150`: every bag has 150 lookups;
 * - `uniform:A:B`: uniform in [A, B];
 * - `poisson:M`: Poisson with mean M;
 * - `geometric:M`: P(length = k) = p · (1 - p)^k for k ≥ 0, p = 1 / (1 + M), mean M; cut off at 1,000,000;
 * - `zipf:S:N`: P(length = k) ∝ k^-S for k in [1, N]: many short bags, few long ones.
 * @throws UsageError USAGE.
 */
export function parseBagLengths(spec: string): BagLengths {
  const parts = new SpecParts(spec);
  switch (parts.kind) {
    case 'uniform': {
      const [low, high] = [parts.length(0, 'shortest'), parts.length(1, 'longest')];
      if (low > high) parts.fail(`the shortest, ${low}, is longer than the longest, ${high}`);
      return parts.end(2, (random) => low + random.integer(high - low + 1));
    }
    case 'poisson': {
      const mean = parts.real(0, 'mean', MAX_LENGTH);
      return parts.end(1, (random) => poisson(mean, random));
    }
    case 'geometric': {
      const mean = parts.real(0, 'mean', MAX_LENGTH);
      return parts.end(1, (random) => geometric(mean, random));
    }
    case 'zipf': {
      const [exponent, longest] = [parts.real(0, 'exponent', 20), parts.length(1, 'longest')];
      if (longest < 1) parts.fail('the longest is 0');
      return parts.end(2, zipf(exponent, longest));
    }
    default: {
      const length = parts.fixed();
      return parts.end(0, () => length);
    }
  }
}

/**
 * A spec for each of some tables: one for all of them, or one per table, `3/2/1`.
 * @throws UsageError USAGE, also for another number of them.
 */
export function parseTableBagLengths(specs: string, tables: number): BagLengths[] {
  const parts = specs.split('/');
  if (parts.length !== 1 && parts.length !== tables) {
    throw new UsageError('USAGE', `bag lengths for ${parts.length} tables, and there are ${tables}`, {
      value: specs,
      hint: 'give one length for all tables, or one for each: 3/2/1',
    });
  }
  const lengths = parts.map(parseBagLengths);
  return Array.from({ length: tables }, (_, t) => at(lengths, t % lengths.length));
}

/** A spec, cut at its colons. */
class SpecParts {
  readonly kind: string;
  readonly #spec: string;
  readonly #texts: readonly string[];

  constructor(spec: string) {
    const [kind = '', ...texts] = spec.split(':');
    this.kind = kind;
    this.#spec = spec;
    this.#texts = texts;
  }

  fail(why: string): never {
    const shown = this.#spec.length > 40 ? `${this.#spec.slice(0, 40)}…` : this.#spec;
    throw new UsageError('USAGE', `bag lengths ${JSON.stringify(shown)} are not understood: ${why}`, {
      value: shown,
      hint: HINT,
    });
  }

  fixed(): number {
    return /^\d/.test(this.kind)
      ? this.#wholeNumber(this.kind, 'length')
      : this.fail('neither a whole number nor a known distribution');
  }

  length(at: number, name: string): number {
    return this.#wholeNumber(this.#text(at, name), name);
  }

  real(at: number, name: string, most: number): number {
    const text = this.#text(at, name);
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    return value <= most ? value : this.fail(`the ${name} must be a number from 0 to ${most}`);
  }

  /** The finished spec, which has `count` parameters. */
  end(count: number, draw: BagLengths['draw']): BagLengths {
    if (this.#texts.length > count) this.fail(`it has more than ${count} parameters`);
    return { spec: this.#spec, draw };
  }

  #text(at: number, name: string): string {
    return this.#texts[at] ?? this.fail(`the ${name} is missing`);
  }

  #wholeNumber(text: string, name: string): number {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    return value <= MAX_LENGTH
      ? value
      : this.fail(`the ${name} must be a whole number from 0 to ${MAX_LENGTH}`);
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

/** By inversion: ⌊ln(1 - u) / ln(1 - p)⌋. */
function geometric(mean: number, random: Random): number {
  if (mean === 0) return 0;
  const length = Math.floor(Math.log1p(-random.float()) / Math.log1p(-1 / (1 + mean)));
  return Math.min(MAX_LENGTH, length);
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
  const drawn = new Int32Array(batchSize);
  for (let b = 0; b < batchSize; b++) drawn[b] = lengths.draw(random);
  return drawn;
}

/** Where each bag starts: [B], the running sum of the lengths before it. At most 2^31 - 1 lookups, as totalLookups says. */
export function bagOffsets(lengths: Int32Array): BigInt64Array {
  const offsets = new BigInt64Array(lengths.length);
  // Low halves: the high ones are 0. BigInt arithmetic costs an allocation per bag.
  const halves = new Int32Array(offsets.buffer);
  for (let b = 0, end = 0; b < lengths.length; b++) {
    halves[2 * b] = end;
    end += lengths[b] as number;
  }
  return offsets;
}

/** Lookups of one table in a batch. @throws UsageError USAGE when they are more than 2^31 - 1. */
export function totalLookups(lengths: Int32Array): number {
  let lookups = 0;
  for (const length of lengths) lookups += length;
  if (lookups > MAX_LOOKUPS) {
    throw new UsageError(
      'USAGE',
      `a batch of ${lengths.length} bags has ${lookups} lookups, at most ${MAX_LOOKUPS} are possible`,
      {
        value: lookups,
        hint: 'choose a smaller batch or shorter bags',
      },
    );
  }
  return lookups;
}
