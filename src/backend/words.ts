/** 64-bit words of structs that native code reads. */

/** 2^32. */
const HALF = 2 ** 32;

/**
 * Writes a 64-bit word, as its halves: an integer of at most 2^53 in size, as addresses are. Much faster than by way of
 * BigInt, which shows when a batch is small.
 */
export function putWord(into: Int32Array, at: number, value: number | bigint): void {
  const integer = Number(value);
  const high = Math.floor(integer / HALF);
  into[2 * at] = integer - high * HALF;
  into[2 * at + 1] = high;
}
