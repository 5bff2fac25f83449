/** Fixed log-linear buckets of a histogram: each doubling of the value is cut into equal steps. */
import { at } from '../../at.ts';

export interface BucketShape {
  /** The upper bound of the lowest bucket, > 0. */
  readonly first: number;
  /** How often the bound doubles: the highest is first · 2^doublings. From 1 to 28. */
  readonly doublings: number;
  /** Buckets of each doubling: 1, 2, 4 or 8. With 4, a bucket is at most 25 % wide. */
  readonly steps: 1 | 2 | 4 | 8;
}

/** Digits of a bound: enough for all steps, too few for what rounding adds. */
const DIGITS = 12;

/** A value v belongs to the first bucket whose bound is v or more; past the last bound, to one bucket more (`+Inf`). */
export class Buckets {
  /** Upper bounds, rising; they belong to their buckets. */
  readonly bounds: readonly number[];
  readonly #steps: number;
  readonly #stepBits: number;
  readonly #perUnit: number;

  constructor({ first, doublings, steps }: BucketShape) {
    if (!(first > 0 && Number.isFinite(first))) throw new RangeError(`a first bound of ${first}`);
    if (!(Number.isInteger(doublings) && doublings >= 1 && doublings <= 28))
      throw new RangeError(`${doublings} doublings`);
    this.#steps = steps;
    this.#stepBits = Math.log2(steps);
    // Bounds are whole multiples of this unit: first is `steps` of them.
    this.#perUnit = steps / first;
    const bounds = [first];
    for (let doubling = 0; doubling < doublings; doubling++)
      for (let step = 1; step <= steps; step++)
        bounds.push(Number((((steps + step) * 2 ** doubling * first) / steps).toPrecision(DIGITS)));
    this.bounds = Object.freeze(bounds);
  }

  /** How many buckets there are, that of `+Inf` among them. */
  get count(): number {
    return this.bounds.length + 1;
  }

  /** The bucket of a value; NaN has none: it counts as `+Inf`. */
  indexOf(value: number): number {
    const { bounds } = this;
    const last = bounds.length;
    if (value <= at(bounds, 0)) return 0;
    if (!(value <= at(bounds, last - 1))) return last;
    // The units that are begun below the value: m in [steps · 2^k, steps · 2^(k + 1)) is in doubling k.
    const m = Math.max(this.#steps, Math.ceil(value * this.#perUnit) - 1);
    const doubling = 31 - Math.clz32(m) - this.#stepBits;
    const found = Math.min(last - 1, 1 + doubling * this.#steps + (m >>> doubling) - this.#steps);
    // Rounding may have moved a value that is a bound, or beside one, by a bucket.
    if (value > at(bounds, found)) return found + 1;
    return value <= at(bounds, found - 1) ? found - 1 : found;
  }
}
