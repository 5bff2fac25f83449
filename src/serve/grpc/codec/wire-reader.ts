/** Reads protobuf's wire format from bytes of others: nothing is read past the end, and whatever is wrong is a RequestError. */
import { RequestError } from '../../../errors.ts';
import { WIRE } from './wire.ts';

/** Of 64 bits. */
const MOST_VARINT_BYTES = 10;
/** Groups in groups. */
const MOST_DEPTH = 100;
/** Strings and bytes, each of which becomes an object and may take but two bytes; a message counts for many. */
const MOST_PARTS = 1 << 20;
const PARTS_OF_MESSAGE = 16;
/** Of text that is put together from its characters; longer ones are for a decoder. */
const SHORT_TEXT = 32;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class WireReader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where reading goes on. */
  at = 0;
  /** Where what is read now ends. */
  end: number;
  /** The lower and the upper 32 bits of the varint that was read last, unsigned. */
  lo = 0;
  hi = 0;
  #parts = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = bytes.length;
  }

  /** Reads 64 bits into `lo` and `hi`. Zeros at the end are allowed, as elsewhere, up to ten bytes. */
  varint(): void {
    const { bytes, end } = this;
    let { at } = this;
    let [lo, hi] = [0, 0];
    for (let i = 0; i < MOST_VARINT_BYTES; i++) {
      if (at >= end) break;
      const byte = bytes[at++] as number;
      const bits = byte & 0x7f;
      if (i < 4) lo |= bits << (7 * i);
      else if (i === 4) {
        lo |= bits << 28;
        hi = bits >>> 4;
      } else hi |= bits << (7 * i - 32);
      if (byte < 0x80) {
        if (i === MOST_VARINT_BYTES - 1 && bits > 1) break;
        this.at = at;
        this.lo = lo >>> 0;
        this.hi = hi >>> 0;
        return;
      }
    }
    this.refuse(
      at >= end && at - this.at < MOST_VARINT_BYTES
        ? 'ends within a number'
        : 'has a number of more than 64 bits',
    );
  }

  /** The tag of the next field: its number · 8 + its wire type. */
  tag(): number {
    this.varint();
    if (this.hi !== 0 || this.lo < 8) this.refuse('has a tag that names no field');
    return this.lo;
  }

  /** A length, of bytes that are there. */
  length(): number {
    this.varint();
    if (this.hi !== 0 || this.lo > this.end - this.at)
      this.refuse(`has a length that goes past its end, by byte ${this.end}`);
    return this.lo;
  }

  fixed(bytes: 4 | 8): number {
    const { at } = this;
    if (bytes > this.end - at) this.refuse('ends within a number');
    this.at = at + bytes;
    return at;
  }

  /** A view. */
  bytesHere(): Uint8Array {
    this.#made(1);
    const length = this.length();
    const start = this.at;
    this.at = start + length;
    return this.bytes.subarray(start, this.at);
  }

  text(): string {
    this.#made(1);
    const length = this.length();
    const { bytes, at } = this;
    const end = at + length;
    this.at = end;
    let text = '';
    if (length <= SHORT_TEXT) {
      let i = at;
      for (; i < end; i++) {
        const byte = bytes[i] as number;
        if (byte >= 0x80) break;
        text += String.fromCharCode(byte);
      }
      if (i === end) return text;
    }
    try {
      return decoder.decode(bytes.subarray(at, end));
    } catch {
      this.at = at;
      return this.refuse('has text that is not UTF-8');
    }
  }

  /** The length of a message. */
  messageLength(): number {
    this.#made(PARTS_OF_MESSAGE);
    return this.length();
  }

  #made(parts: number): void {
    this.#parts += parts;
    if (this.#parts > MOST_PARTS)
      this.refuse(
        `has more than ${MOST_PARTS} strings, or ${MOST_PARTS / PARTS_OF_MESSAGE} messages`,
        'send tensors in raw_input_contents',
      );
  }

  /** Passes over the value of a field that nobody knows. */
  skip(tag: number, depth = 0): void {
    switch (tag & 7) {
      case WIRE.varint:
        this.varint();
        break;
      case WIRE.fixed64:
        this.fixed(8);
        break;
      case WIRE.bytes:
        // The length is read first.
        this.at = this.length() + this.at;
        break;
      case WIRE.fixed32:
        this.fixed(4);
        break;
      case WIRE.groupStart:
        this.#skipGroup(tag, depth);
        break;
      default:
        this.refuse(`has a field of wire type ${tag & 7}, which is not to stand there`);
    }
  }

  #skipGroup(start: number, depth: number): void {
    if (depth === MOST_DEPTH) this.refuse('has groups in groups, too many');
    for (;;) {
      if (this.at >= this.end) this.refuse('ends within a group');
      const tag = this.tag();
      if ((tag & 7) !== WIRE.groupEnd) {
        this.skip(tag, depth + 1);
        continue;
      }
      if (tag >>> 3 !== start >>> 3) this.refuse('has a group that another ends');
      return;
    }
  }

  refuse(what: string, hint = 'the message is damaged, or no message of this service'): never {
    throw new RequestError('REQUEST_INVALID', `the message ${what} (byte ${this.at})`, {
      position: this.at,
      hint,
    });
  }
}
