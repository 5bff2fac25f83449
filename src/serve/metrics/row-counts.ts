/** How often rows were met, of a bounded number of them. */
import { at } from '../../at.ts';

/** No row: what is looked up is 0 or more. */
const NONE = -1;

/** Counts at most `capacity` rows, each at most `capacity` times, in 24 bytes for each. */
export class RowCounts {
  /** Twice as many places as rows, so that searches are short. */
  readonly #rows: Float64Array;
  readonly #counts: Uint16Array;
  readonly #most: number;
  /** How many rows have each count. */
  readonly #rowsWith: Uint32Array;
  readonly #shift: number;
  readonly #mask: number;
  #distinct = 0;
  #highest = 0;

  /** `capacity`: a power of two, at most 2^15. */
  constructor(capacity: number) {
    const bits = Math.log2(capacity) + 1;
    if (!Number.isInteger(bits) || bits < 1 || bits > 16) throw new RangeError(`a capacity of ${capacity}`);
    this.#shift = 32 - bits;
    this.#mask = 2 * capacity - 1;
    this.#rows = new Float64Array(2 * capacity).fill(NONE);
    this.#counts = new Uint16Array(2 * capacity);
    this.#most = capacity;
    this.#rowsWith = new Uint32Array(capacity + 1);
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
    if (count === this.#most) return;
    if (count > 0) (this.#rowsWith[count] as number)--;
    (this.#rowsWith[count + 1] as number)++;
    this.#counts[place] = count + 1;
    this.#highest = Math.max(this.#highest, count + 1);
  }

  /** The count of the row that was met most. */
  get highest(): number {
    return this.#highest;
  }

  /** 0: it was not met. */
  countOf(row: number): number {
    return at(this.#counts, this.#placeOf(row));
  }

  /** How many rows were met so often. */
  rowsWith(count: number): number {
    return at(this.#rowsWith, count);
  }

  clear(): void {
    this.#rows.fill(NONE);
    this.#counts.fill(0);
    this.#rowsWith.fill(0);
    this.#distinct = 0;
    this.#highest = 0;
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
