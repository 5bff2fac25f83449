/** Repeated numbers while they are read: in one piece, as clients send them, in several, or one by one. */
import type { Packed } from './fields.ts';
import type { WireReader } from './wire-reader.ts';

const ELEMENT_BYTES: Readonly<Record<Packed, 1 | 4 | 8>> = {
  bool: 1,
  int32: 4,
  uint32: 4,
  float: 4,
  int64: 8,
  uint64: 8,
  double: 8,
};
const ARRAYS = {
  bool: Uint8Array,
  int32: Int32Array,
  uint32: Uint32Array,
  float: Float32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  double: Float64Array,
} as const satisfies Record<Packed, unknown>;

export class Elements {
  readonly #type: Packed;
  readonly #size: 1 | 4 | 8;
  #bytes: Uint8Array;
  /** The same memory. */
  #words: Uint32Array;
  #count: number;

  /** `before`: those that have been read already; they are copied. */
  constructor(type: Packed, before: ArrayBufferView) {
    this.#type = type;
    this.#size = ELEMENT_BYTES[type];
    this.#count = before.byteLength / this.#size;
    this.#bytes = new Uint8Array(Math.ceil(before.byteLength / 8) * 8);
    this.#words = new Uint32Array(this.#bytes.buffer);
    this.#bytes.set(new Uint8Array(before.buffer, before.byteOffset, before.byteLength));
  }

  /** All of them. */
  array(): ArrayBufferView {
    return new ARRAYS[this.#type](this.#bytes.buffer as ArrayBuffer, 0, this.#count);
  }

  readOne(reader: WireReader): void {
    this.#reserve(this.#count + 1);
    if (this.#isFixed) this.#copy(reader, reader.fixed(this.#size as 4 | 8), this.#size);
    else {
      reader.varint();
      this.#put(reader);
    }
  }

  /** The next `length` bytes are numbers, one behind the other. */
  readPiece(reader: WireReader, length: number): void {
    if (this.#isFixed) {
      if (length % this.#size !== 0) reader.refuse(`has ${length} bytes of numbers of ${this.#size}`);
      this.#reserve(this.#count + length / this.#size);
      this.#copy(reader, reader.at, length);
      reader.at += length;
      return;
    }
    const [start, outer] = [reader.at, reader.end];
    reader.end = start + length;
    // Each number has one byte below 128, its last.
    let more = 0;
    for (let i = start; i < reader.end; i++) if ((reader.bytes[i] as number) < 0x80) more++;
    this.#reserve(this.#count + more);
    while (reader.at < reader.end) {
      reader.varint();
      this.#put(reader);
    }
    reader.end = outer;
  }

  get #isFixed(): boolean {
    return this.#type === 'float' || this.#type === 'double';
  }

  #copy({ bytes }: WireReader, from: number, length: number): void {
    this.#bytes.set(bytes.subarray(from, from + length), this.#count * this.#size);
    this.#count += length / this.#size;
  }

  /** The varint that was read last. */
  #put({ lo, hi }: WireReader): void {
    const at = this.#count++;
    if (this.#size === 8) {
      this.#words[2 * at] = lo;
      this.#words[2 * at + 1] = hi;
    } else if (this.#size === 4) this.#words[at] = lo;
    else this.#bytes[at] = lo !== 0 || hi !== 0 ? 1 : 0;
  }

  /** Room for so many: exactly at first, and at least twice as much each time it grows. */
  #reserve(count: number): void {
    const bytes = count * this.#size;
    if (bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.ceil(Math.max(bytes, 2 * this.#bytes.length) / 8) * 8);
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#words = new Uint32Array(larger.buffer);
  }
}
