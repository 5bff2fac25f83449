/** From bytes to a message. Fields that its type does not have are passed over, as protobuf wants it. */
import { Elements } from './elements.ts';
import { isPacked, type MessageType, type NamedField, type Packed, type Scalar } from './fields.ts';
import { MAP_KEY, MAP_VALUE, WIRE, WIRE_OF } from './wire.ts';
import { WireReader } from './wire-reader.ts';

type Found = Record<string, unknown>;
/** Repeated numbers of one message, while it is read. */
type Building = Map<NamedField, Elements>;

/** The message that `bytes` are. Its bytes are views of them. @throws RequestError REQUEST_INVALID. */
export function decode<T>(type: MessageType<T>, bytes: Uint8Array): T {
  return readMessage(new WireReader(bytes), type, bytes.length) as T;
}

/** `before`: what was read of it already, where it comes in pieces. */
function readMessage(reader: WireReader, type: MessageType, length: number, before?: Found): Found {
  const found: Found = { ...(before ?? (type.empty as Found)) };
  const outer = reader.end;
  reader.end = reader.at + length;
  let building: Building | undefined;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    const [field, wire] = [type.byNumber[tag >>> 3], tag & 7];
    if (field === undefined) reader.skip(tag);
    else if (field.holds === 'many' && isPacked(field.type)) {
      building ??= new Map();
      if (!readNumbers(reader, field.type, wire, elementsOf(building, field, field.type, found)))
        reader.skip(tag);
    } else if (!readField(reader, field, wire, found)) reader.skip(tag);
  }
  if (building !== undefined) for (const [{ name }, elements] of building) found[name] = elements.array();
  reader.end = outer;
  return found;
}

/** False: it has another wire type, and is none that is known. */
function readField(reader: WireReader, field: NamedField, wire: number, found: Found): boolean {
  const { name, type, holds, others } = field;
  if (typeof type !== 'string') {
    if (wire !== WIRE.bytes) return false;
    const length = reader.messageLength();
    if (holds === 'one') found[name] = readMessage(reader, type, length, found[name] as Found | undefined);
    else if (holds === 'many') listIn(found, field).push(readMessage(reader, type, length));
    else readEntry(reader, type, length, mapIn(found, field));
    return true;
  }
  if (wire !== WIRE_OF[type]) return false;
  const value = readScalar(reader, type);
  if (holds === 'many') listIn(found, field).push(value);
  else {
    for (const other of others) found[other] = undefined;
    found[name] = value;
  }
  return true;
}

/** An entry of a map: a message of a key and a value, either of which may be missing. */
function readEntry(
  reader: WireReader,
  type: MessageType,
  length: number,
  entries: Map<string, unknown>,
): void {
  const outer = reader.end;
  reader.end = reader.at + length;
  let key = '';
  let value: Found | undefined;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === MAP_KEY * 8 + WIRE.bytes) key = reader.text();
    else if (tag === MAP_VALUE * 8 + WIRE.bytes)
      value = readMessage(reader, type, reader.messageLength(), value);
    else reader.skip(tag);
  }
  reader.end = outer;
  entries.set(key, value ?? { ...(type.empty as Found) });
}

/** Numbers in one piece, or one by one. False: they are neither. */
function readNumbers(reader: WireReader, type: Packed, wire: number, elements: Elements): boolean {
  if (wire === WIRE_OF[type]) elements.readOne(reader);
  else if (wire === WIRE.bytes) elements.readPiece(reader, reader.length());
  else return false;
  return true;
}

function readScalar(reader: WireReader, type: Scalar): unknown {
  switch (type) {
    case 'string':
      return reader.text();
    case 'bytes':
      return reader.bytesHere();
    case 'float':
      return reader.view.getFloat32(reader.fixed(4), true);
    case 'double':
      return reader.view.getFloat64(reader.fixed(8), true);
    default:
      break;
  }
  reader.varint();
  const { lo, hi } = reader;
  switch (type) {
    case 'bool':
      return lo !== 0 || hi !== 0;
    case 'int32':
      return lo | 0;
    case 'uint32':
      return lo;
    case 'int64':
      return BigInt.asIntN(64, (BigInt(hi) << 32n) | BigInt(lo));
    case 'uint64':
      return (BigInt(hi) << 32n) | BigInt(lo);
    default:
      return type satisfies never;
  }
}

function elementsOf(building: Building, field: NamedField, type: Packed, found: Found): Elements {
  const known = building.get(field);
  if (known !== undefined) return known;
  const elements = new Elements(type, found[field.name] as ArrayBufferView);
  building.set(field, elements);
  return elements;
}

/** The list that a message has of its own. */
function listIn(found: Found, { name, default: none }: NamedField): unknown[] {
  if (found[name] === none) found[name] = [];
  return found[name] as unknown[];
}

function mapIn(found: Found, { name, default: none }: NamedField): Map<string, unknown> {
  if (found[name] === none) found[name] = new Map();
  return found[name] as Map<string, unknown>;
}
