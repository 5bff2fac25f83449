const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * A position in a pickle, read forwards. A read past the end, and a number that is none, throw plain errors: the
 * unpickler says where.
 */
export class PickleCursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** The next byte to read. */
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
  }

  #advance(count: number): number {
    const at = this.at;
    if (count < 0 || at + count > this.#bytes.length) throw new Error('it ends early');
    this.at += count;
    return at;
  }

  take(count: number): Uint8Array {
    const at = this.#advance(count);
    return this.#bytes.subarray(at, at + count);
  }

  uint8(): number {
    return this.#bytes[this.#advance(1)] as number;
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  size64(): number {
    return Number(this.#view.getBigUint64(this.#advance(8), true));
  }

  utf8(length: number): string {
    return UTF8.decode(this.take(length));
  }

  /** Up to and without the next newline. */
  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.at);
    if (end < 0) throw new Error('it ends early');
    const text = latin1(this.#bytes.subarray(this.at, end));
    this.at = end + 1;
    return text;
  }

  /** Little-endian two's complement; a number where it fits. */
  long(length: number): number | bigint {
    const bytes = this.take(length);
    if (length === 0) return 0;
    if (length > 1024) throw new Error('an integer of absurd size');
    const value = BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
    return narrow(BigInt.asIntN(8 * length, value));
  }

  /** An integer in decimal; a number where it fits. */
  decimal(text: string): number | bigint {
    if (!/^[+-]?\d{1,2000}$/.test(text)) throw new Error('an integer that is none');
    return narrow(BigInt(text));
  }

  uint16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  /** Big-endian, as BINFLOAT writes it. */
  float64(): number {
    return this.#view.getFloat64(this.#advance(8));
  }
}

/** Bytes as text, a character each. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
