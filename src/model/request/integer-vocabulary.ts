/** A vocabulary of integers as a hash table in typed arrays: ids of 64 bits are looked up as two words, none is boxed. */
import type { IndexArray } from '../../embedding/bag.ts';

/** Words of an entry: the id's low and high word, its row, and one that keeps an entry within a cache line. */
const WORDS = 4;
const EMPTY = -1;

/** Rows by id. */
export class VocabularyOfIntegers {
  /** The first id that the list has twice. */
  readonly duplicate: number | undefined;
  /** Entries by open addressing with linear probing, at most half of them taken. */
  readonly #entries: Int32Array;

  /** `values`: safe integers; the place of each is its row. */
  constructor(values: readonly number[]) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(2, 2 * values.length)));
    const entries = new Int32Array(WORDS * capacity).fill(EMPTY);
    this.#entries = entries;
    for (let row = 0; row < values.length; row++) {
      const value = values[row] as number;
      const low = value | 0;
      const high = Math.floor(value / 2 ** 32);
      const at = find(entries, low, high);
      if (entries[at + 2] !== EMPTY) {
        this.duplicate = value;
        return;
      }
      entries[at] = low;
      entries[at + 1] = high;
      entries[at + 2] = row;
    }
  }

  /** The row of each id [n]; -1 where the list lacks it. */
  rowsOf(ids: IndexArray): Int32Array {
    const entries = this.#entries;
    const rows = new Int32Array(ids.length);
    if (ids instanceof Int32Array) {
      for (let i = 0; i < rows.length; i++) {
        const id = ids[i] as number;
        rows[i] = entries[find(entries, id, id >> 31) + 2] as number;
      }
      return rows;
    }
    const words = new Int32Array(ids.buffer, ids.byteOffset, 2 * ids.length);
    for (let i = 0; i < rows.length; i++)
      rows[i] = entries[find(entries, words[2 * i] as number, words[2 * i + 1] as number) + 2] as number;
    return rows;
  }
}

/** Where the entry of an id is, or the empty one where it would be. */
function find(entries: Int32Array, low: number, high: number): number {
  const mask = entries.length - 1;
  for (let at = (mixed(low, high) * WORDS) & mask; ; at = (at + WORDS) & mask) {
    if (entries[at + 2] === EMPTY || (entries[at] === low && entries[at + 1] === high)) return at;
  }
}

/** MurmurHash3's finalizer over both words: ids in steps of a power of two do not meet. */
function mixed(low: number, high: number): number {
  let hash = low ^ Math.imul(high, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
