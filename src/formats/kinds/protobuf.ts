/** ONNX and TensorFlow files: protocol buffers, which no magic begins, told by their first fields. */
import type { Kind } from './table.ts';

interface Field {
  readonly number: number;
  /** A number, or the bytes of a text or a message, as far as they are there. */
  readonly value: number | Buffer;
  /** Bytes that a text or a message says it has. */
  readonly length: number;
  /** Where the next field begins. */
  readonly end: number;
}

/** The integer at `at` in 7-bit groups, below 2^49; undefined: none. */
function varint(bytes: Buffer, at: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let i = 0; i < 7; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  return undefined;
}

/** The field at `at`: a number or bytes; other types stand in none of these headers. */
function fieldAt(bytes: Buffer, at: number): Field | undefined {
  const tag = varint(bytes, at);
  const first = tag && varint(bytes, tag.end);
  if (tag === undefined || first === undefined) return undefined;
  const number = Math.floor(tag.value / 8);
  if (tag.value % 8 === 0) return { number, value: first.value, length: 0, end: first.end };
  if (tag.value % 8 !== 2) return undefined;
  const end = first.end + first.value;
  return { number, value: bytes.subarray(first.end, end), length: first.value, end };
}

const isName = (value: number | Buffer | undefined): value is Buffer =>
  Buffer.isBuffer(value) && value.length > 0 && /^[\w ./:+-]+$/.test(value.toString('latin1'));

/** Fields of ONNX's ModelProto. */
const PRODUCER = 2;
const GRAPH = 7;
const OPSETS = 8;

/** The kind of a protocol buffer; undefined: none that is known. */
export function protobufKind(head: Buffer): Kind | undefined {
  const first = fieldAt(head, 0);
  if (first === undefined) return undefined;
  if (typeof first.value !== 'number') return isGraphNode(first) ? 'tensorflow-graph' : undefined;
  // ModelProto: ir_version 1, producer_name 2, …, graph 7. SavedModel: saved_model_schema_version 1, meta_graphs 2.
  const second = fieldAt(head, first.end);
  if (first.number !== 1 || second === undefined || !Buffer.isBuffer(second.value)) return undefined;
  if (first.value < 1 || first.value > 100) return undefined;
  if (second.number === PRODUCER) {
    if (isName(second.value) && second.value.length === second.length) return 'onnx';
    return first.value === 1 && fieldAt(second.value, 0)?.number === 1 ? 'tensorflow-saved-model' : undefined;
  }
  if (second.number !== GRAPH && second.number !== OPSETS) return undefined;
  // A graph begins with a node, its name or an initializer; an opset with its domain or version.
  return fieldAt(second.value, 0) === undefined ? undefined : 'onnx';
}

/** A node of a GraphDef: its name 1, then its operator 2, which begins with a capital. */
function isGraphNode({ number, value }: Field): boolean {
  if (number !== 1 || !Buffer.isBuffer(value)) return false;
  const name = fieldAt(value, 0);
  const operator = name && fieldAt(value, name.end);
  return (
    name?.number === 1 &&
    isName(name.value) &&
    operator?.number === 2 &&
    isName(operator.value) &&
    /^_?[A-Z]/.test(operator.value.toString('latin1'))
  );
}
