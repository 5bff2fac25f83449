/** A vocabulary of integers as a hash table in typed arrays: ids of 64 bits are looked up as two words, none is boxed. */
import type { IndexArray } from '../embedding/bag.ts';

const EMPTY = -1;

/** Rows by id. */
export class VocabularyOfIntegers {
  /** The first id that the list has twice. */
  readonly duplicate: number | undefined;
  /** Open addressing with linear probing, at most half full. */
  readonly #low: Int32Array;
  readonly #high: Int32Array;
  readonly #rows: Int32Array;

  /** `values`: safe integers; the place of each is its row. */
  constructor(values: readonly number[]) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(2, 2 * values.length)));
    this.#low = new Int32Array(capacity);
    this.#high = new Int32Array(capacity);
    this.#rows = new Int32Array(capacity).fill(EMPTY);
    for (let row = 0; row < values.length; row++) {
      const value = values[row] as number;
      const low = value | 0;
      const high = Math.floor(value / 2 ** 32);
      const slot = this.#slot(low, high);
      if (this.#rows[slot] !== EMPTY) {
        this.duplicate = value;
        return;
      }
      this.#low[slot] = low;
      this.#high[slot] = high;
      this.#rows[slot] = row;
    }
  }

  /** The row of each id [n]; -1 where the list lacks it. */
  rowsOf(ids: IndexArray): Int32Array {
    const found = new Int32Array(ids.length);
    if (ids instanceof Int32Array) {
      for (let i = 0; i < found.length; i++) {
        const id = ids[i] as number;
        found[i] = this.#rows[this.#slot(id, id >> 31)] as number;
      }
      return found;
    }
    const words = new Int32Array(ids.buffer, ids.byteOffset, 2 * ids.length);
    for (let i = 0; i < found.length; i++)
      found[i] = this.#rows[this.#slot(words[2 * i] as number, words[2 * i + 1] as number)] as number;
    return found;
  }

  /** Where an id is, or the empty place where it would be. */
  #slot(low: number, high: number): number {
    const mask = this.#rows.length - 1;
    for (let slot = mixed(low, high) & mask; ; slot = (slot + 1) & mask) {
      if (this.#rows[slot] === EMPTY || (this.#low[slot] === low && this.#high[slot] === high)) return slot;
    }
  }
}

/** MurmurHash3's finalizer over both words: ids in steps of a power of two do not meet. */
function mixed(low: number, high: number): number {
  let hash = low ^ Math.imul(high, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
