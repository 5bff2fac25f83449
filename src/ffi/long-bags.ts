/** Which tables of a batch have long bags: a scan of all offsets, which native code does many times faster than the engine. */
import { arrayName, lengthOf } from '../checks/array.ts';
import { addressOf } from './host-memory.ts';
import { library } from './native-library.ts';

/** The offsets of a table's bags: one per sample, or one more. */
export interface BagOffsets {
  readonly offsets: Int32Array | BigInt64Array;
  readonly lookups: number;
}

/** 64-bit words of `hr_bag_offsets`. */
const WORDS = 4;

/** By table, whether a bag has more than `split` lookups, its bounds clamped to [0, lookups]. */
export function findLongBags(tables: readonly BagOffsets[], batchSize: number, split: number): boolean[] {
  const words = new BigInt64Array(new ArrayBuffer(tables.length * WORDS * BigInt64Array.BYTES_PER_ELEMENT));
  tables.forEach(({ offsets, lookups }, t) => {
    words[WORDS * t] = addressOf(offsets);
    words[WORDS * t + 1] = arrayName(offsets) === 'BigInt64Array' ? 8n : 4n;
    words[WORDS * t + 2] = BigInt(lengthOf(offsets));
    words[WORDS * t + 3] = BigInt(lookups);
  });
  const found = new Uint8Array(new ArrayBuffer(tables.length));
  library().findLongBags(words, tables.length, batchSize, split, found);
  return Array.from(found, (one) => one !== 0);
}
