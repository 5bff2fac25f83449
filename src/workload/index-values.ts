/** Row indices as plain numbers: BigInt arithmetic costs an allocation per lookup. */
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

/** Values of a block of a growing vector, once it is long. */
const BLOCK = 1 << 20;

/** A vector that grows by blocks, so that it never takes twice its size before it is done. */
export class GrowingArray<A extends Int32Array | Float32Array> {
  /** Those that are full. */
  readonly #blocks: A[] = [];
  #values: A;
  /** Values in the last block. */
  #last = 0;
  #full = 0;
  readonly #make: (length: number) => A;

  constructor(make: (length: number) => A) {
    this.#make = make;
    this.#values = make(1024);
  }

  get length(): number {
    return this.#full + this.#last;
  }

  push(value: number): void {
    if (this.#last === this.#values.length) this.#grow();
    this.#values[this.#last++] = value;
  }

  #grow(): void {
    if (this.#last < BLOCK) {
      const larger = this.#make(2 * this.#last);
      larger.set(this.#values);
      this.#values = larger;
      return;
    }
    this.#blocks.push(this.#values);
    this.#full += this.#last;
    this.#values = this.#make(BLOCK);
    this.#last = 0;
  }

  /** What was pushed, copied to its length. */
  toArray(): A {
    const all = this.#make(this.length);
    let at = 0;
    for (const block of this.#blocks) {
      all.set(block, at);
      at += block.length;
    }
    all.set(this.#values.subarray(0, this.#last), at);
    return all;
  }
}
