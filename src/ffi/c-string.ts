import { addressOf } from './host-memory.ts';

const utf8 = new TextDecoder();

/** The text of a buffer up to its first NUL. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return utf8.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** `const char *[]`, for calls that outlive the statement: it lives until `release`. */
export class CStringArray {
  readonly pointers: BigUint64Array;
  #strings: readonly Uint8Array[];

  constructor(strings: readonly string[]) {
    this.#strings = strings.map((text) => new TextEncoder().encode(`${text}\0`));
    // One element too many: an empty array has no address.
    this.pointers = new BigUint64Array(new ArrayBuffer(8 * (strings.length + 1)));
    for (const [i, bytes] of this.#strings.entries()) this.pointers[i] = addressOf(bytes);
  }

  get length(): number {
    return this.#strings.length;
  }

  release(): void {
    this.#strings = [];
  }
}
