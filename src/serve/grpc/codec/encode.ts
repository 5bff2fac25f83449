/** From a message to bytes. Fields are written in the order of their type; what has its default value is left out. */
import { isPacked, type MessageType, type NamedField, type Scalar } from './fields.ts';
import { MAP_KEY, MAP_VALUE, WIRE, WIRE_OF } from './wire.ts';

const WORD = 2 ** 32;

/**
 * The bytes of a message, with `before` bytes left in front of them. Values are as decoding gives them, but members may be missing,
 * 64-bit integers may be numbers, and repeated ones any list. Members that the type does not have are left aside.
 */
export function encode(type: MessageType, value: object, before = 0): Buffer {
  const writer = new Writer(before + sizeOf(type, value));
  writer.at = before;
  writeMessage(writer, type, value);
  return writer.bytes;
}

class Writer {
  readonly bytes: Buffer;
  at = 0;

  constructor(length: number) {
    this.bytes = Buffer.allocUnsafe(length);
  }

  /** 64 bits, by their lower and upper half. */
  varint(lo: number, hi: number): void {
    let [low, high] = [lo >>> 0, hi >>> 0];
    while (low > 0x7f || high !== 0) {
      this.bytes[this.at++] = (low & 0x7f) | 0x80;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    this.bytes[this.at++] = low;
  }
}

type Values = Readonly<Record<string, unknown>>;

function sizeOf(type: MessageType, value: object): number {
  let size = 0;
  for (const field of type.fields) {
    const own = (value as Values)[field.name];
    if (own !== undefined) size += fieldSize(field, own);
  }
  return size;
}

function writeMessage(writer: Writer, type: MessageType, value: object): void {
  for (const field of type.fields) {
    const own = (value as Values)[field.name];
    if (own !== undefined) writeField(writer, field, own);
  }
}

function fieldSize(field: NamedField, value: unknown): number {
  const { type, holds, number } = field;
  const tag = varintSize(number * 8, 0);
  if (holds === 'one') return isDefault(field, value) ? 0 : tag + valueSize(type, value);
  if (holds === 'map') {
    let size = 0;
    for (const [key, own] of value as ReadonlyMap<string, object>)
      size += tag + delimited(entrySize(key, type as MessageType, own));
    return size;
  }
  const list = value as ArrayLike<unknown>;
  if (list.length === 0) return 0;
  if (isPacked(type)) return tag + delimited(packedSize(type, list));
  let size = tag * list.length;
  for (let i = 0; i < list.length; i++) size += valueSize(type, list[i]);
  return size;
}

function writeField(writer: Writer, field: NamedField, value: unknown): void {
  const { type, holds, number } = field;
  const wire = typeof type === 'string' ? WIRE_OF[type] : WIRE.bytes;
  if (holds === 'one') {
    if (isDefault(field, value)) return;
    writer.varint(number * 8 + wire, 0);
    writeValue(writer, type, value);
    return;
  }
  if (holds === 'map') {
    for (const [key, own] of value as ReadonlyMap<string, object>) {
      writer.varint(number * 8 + WIRE.bytes, 0);
      writer.varint(entrySize(key, type as MessageType, own), 0);
      writer.varint(MAP_KEY * 8 + WIRE.bytes, 0);
      writeValue(writer, 'string', key);
      writer.varint(MAP_VALUE * 8 + WIRE.bytes, 0);
      writeValue(writer, type, own);
    }
    return;
  }
  const list = value as ArrayLike<unknown>;
  if (list.length === 0) return;
  if (isPacked(type)) {
    writer.varint(number * 8 + WIRE.bytes, 0);
    writer.varint(packedSize(type, list), 0);
    for (let i = 0; i < list.length; i++) writeValue(writer, type, list[i]);
    return;
  }
  for (let i = 0; i < list.length; i++) {
    writer.varint(number * 8 + wire, 0);
    writeValue(writer, type, list[i]);
  }
}

/** Not written, but where it is one of several. */
function isDefault({ oneof, default: absent }: NamedField, value: unknown): boolean {
  if (oneof !== undefined) return false;
  if (value instanceof Uint8Array) return value.length === 0;
  // -0 is no 0.
  return Object.is(value, absent) || value === 0n || (Object.is(value, 0) && absent === 0n);
}

const entrySize = (key: string, type: MessageType, value: object): number =>
  1 + valueSize('string', key) + 1 + valueSize(type, value);

const delimited = (bytes: number): number => varintSize(bytes, 0) + bytes;

function packedSize(type: Scalar, list: ArrayLike<unknown>): number {
  let size = 0;
  for (let i = 0; i < list.length; i++) size += valueSize(type, list[i]);
  return size;
}

function valueSize(type: Scalar | MessageType, value: unknown): number {
  if (typeof type !== 'string') return delimited(sizeOf(type, value as object));
  switch (type) {
    case 'string':
      return delimited(Buffer.byteLength(value as string));
    case 'bytes':
      return delimited((value as Uint8Array).length);
    case 'float':
      return 4;
    case 'double':
      return 8;
    case 'bool':
      return 1;
    default:
      return varintSize(lowOf(value as number | bigint), highOf(value as number | bigint));
  }
}

function writeValue(writer: Writer, type: Scalar | MessageType, value: unknown): void {
  if (typeof type !== 'string') {
    writer.varint(sizeOf(type, value as object), 0);
    writeMessage(writer, type, value as object);
    return;
  }
  switch (type) {
    case 'string': {
      const text = value as string;
      writer.varint(Buffer.byteLength(text), 0);
      writer.at += writer.bytes.write(text, writer.at);
      break;
    }
    case 'bytes': {
      const bytes = value as Uint8Array;
      writer.varint(bytes.length, 0);
      writer.bytes.set(bytes, writer.at);
      writer.at += bytes.length;
      break;
    }
    case 'float':
      writer.at = writer.bytes.writeFloatLE(value as number, writer.at);
      break;
    case 'double':
      writer.at = writer.bytes.writeDoubleLE(value as number, writer.at);
      break;
    case 'bool':
      writer.varint(value ? 1 : 0, 0);
      break;
    default:
      writer.varint(lowOf(value as number | bigint), highOf(value as number | bigint));
  }
}

/** The lower 32 bits, unsigned; negative numbers have all upper ones set. */
function lowOf(value: number | bigint): number {
  return typeof value === 'bigint' ? Number(BigInt.asUintN(32, value)) : value >>> 0;
}

function highOf(value: number | bigint): number {
  return (
    (typeof value === 'bigint' ? Number(BigInt.asUintN(32, value >> 32n)) : Math.floor(value / WORD)) >>> 0
  );
}

function varintSize(lo: number, hi: number): number {
  if (hi === 0) return lo < 0x80 ? 1 : lo < 0x4000 ? 2 : lo < 0x20_0000 ? 3 : lo < 0x1000_0000 ? 4 : 5;
  return Math.ceil((64 - Math.clz32(hi)) / 7);
}
