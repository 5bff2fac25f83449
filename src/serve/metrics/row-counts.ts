/** How often rows were met, of a bounded number of them. */
import { at } from '../../at.ts';

/** No row: what is looked up is 0 or more. */
const NONE = -1;
/** Counts stop here. */
const MOST = 255;

/** Counts at most `capacity` rows that are met `capacity` times in all, in 18 bytes for each. */
export class RowCounts {
  /** Twice as many places as rows, so that searches are short. */
  readonly #rows: Float64Array;
  readonly #counts: Uint8Array;
  /** How many rows have each count. */
  readonly #rowsWith = new Uint32Array(MOST + 1);
  readonly #shift: number;
  readonly #mask: number;
  #distinct = 0;

  /** `capacity`: a power of two, at most 2^24. */
  constructor(capacity: number) {
    const bits = Math.log2(capacity) + 1;
    if (!Number.isInteger(bits) || bits < 1 || bits > 25) throw new RangeError(`a capacity of ${capacity}`);
    this.#shift = 32 - bits;
    this.#mask = 2 * capacity - 1;
    this.#rows = new Float64Array(2 * capacity).fill(NONE);
    this.#counts = new Uint8Array(2 * capacity);
  }

  /** Counts a row, a whole number from 0 to 2^53. @throws RangeError for more rows than there is room for. */
  add(row: number): void {
    const place = this.#placeOf(row);
    if (this.#rows[place] === NONE) {
      if (2 * this.#distinct > this.#mask) throw new RangeError('more rows than there is room for');
      this.#rows[place] = row;
      this.#distinct++;
    }
    const count = this.#counts[place] as number;
    if (count === MOST) return;
    if (count > 0) (this.#rowsWith[count] as number)--;
    (this.#rowsWith[count + 1] as number)++;
    this.#counts[place] = count + 1;
  }

  /** 0: it was not met; at most 255. */
  countOf(row: number): number {
    return at(this.#counts, this.#placeOf(row));
  }

  /** How many rows were met so often; more often than 254 times for 255. */
  rowsWith(count: number): number {
    return at(this.#rowsWith, count);
  }

  clear(): void {
    this.#rows.fill(NONE);
    this.#counts.fill(0);
    this.#rowsWith.fill(0);
    this.#distinct = 0;
  }

  /** Where a row stands, or would. */
  #placeOf(row: number): number {
    // Fibonacci hashing: neighbours are apart. The high part matters of rows past 2^32 alone.
    const mixed = Math.imul((row >>> 0) ^ Math.imul(row / 2 ** 32, 0x85eb_ca6b), 0x9e37_79b1) >>> 0;
    let place = mixed >>> this.#shift;
    for (;;) {
      const there = this.#rows[place];
      if (there === row || there === NONE) return place;
      place = (place + 1) & this.#mask;
    }
  }
}
