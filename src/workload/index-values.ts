/** Row indices as plain numbers: BigInt arithmetic costs an allocation a lookup. */
import type { IndexArray } from '../embedding/bag.ts';

/** The highest row index that workloads hold. */
export const MAX_INDEX = 2 ** 31 - 1;

/**
 * The indices as int32, over the same memory or a copy. Values outside [0, 2^31) come out negative: a reader finds
 * them by their sign.
 */
export function asInt32(indices: IndexArray): Int32Array {
  if (indices instanceof Int32Array) return indices;
  const narrow = new Int32Array(indices.length);
  const halves = new Int32Array(indices.buffer, indices.byteOffset, 2 * indices.length);
  for (let i = 0; i < narrow.length; i++) {
    const low = halves[2 * i] as number;
    narrow[i] = halves[2 * i + 1] === 0 ? low : -1;
  }
  return narrow;
}

/** int32 or int64 values as numbers, exact up to 2^53. */
export function asNumbers(values: IndexArray): Float64Array {
  const numbers = new Float64Array(values.length);
  if (values instanceof Int32Array) {
    numbers.set(values);
    return numbers;
  }
  const low = new Uint32Array(values.buffer, values.byteOffset, 2 * values.length);
  const high = new Int32Array(values.buffer, values.byteOffset, 2 * values.length);
  for (let i = 0; i < numbers.length; i++)
    numbers[i] = (high[2 * i + 1] as number) * 2 ** 32 + (low[2 * i] as number);
  return numbers;
}

/** A vector that grows by doubling. */
export class GrowingArray<A extends Int32Array | Float32Array> {
  #values: A;
  #length = 0;
  readonly #make: (length: number) => A;

  constructor(make: (length: number) => A) {
    this.#make = make;
    this.#values = make(1024);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = this.#make(2 * this.#length);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  /** What was pushed, copied to its length. */
  toArray(): A {
    return this.#values.slice(0, this.#length) as A;
  }
}
