/** Messages of protobuf, described field by field: what decoding, encoding and the types of values follow. */

/** TypeScript's values of single fields. */
interface Scalars {
  readonly bool: boolean;
  readonly int32: number;
  readonly uint32: number;
  readonly int64: bigint;
  readonly uint64: bigint;
  readonly float: number;
  readonly double: number;
  readonly string: string;
  readonly bytes: Uint8Array;
}
export type Scalar = keyof Scalars;

/** Of repeated ones; an element of bool is 0 or 1. */
interface Lists {
  readonly bool: Uint8Array;
  readonly int32: Int32Array;
  readonly uint32: Uint32Array;
  readonly int64: BigInt64Array;
  readonly uint64: BigUint64Array;
  readonly float: Float32Array;
  readonly double: Float64Array;
  readonly string: readonly string[];
  readonly bytes: readonly Uint8Array[];
}
/** Those that repeated fields hold in one piece. */
export type Packed = Exclude<Scalar, 'string' | 'bytes'>;

/** `V`: the type of its value in a message that was decoded. */
export interface Field<V = unknown> {
  readonly number: number;
  readonly holds: 'one' | 'many' | 'map';
  /** Of a map, its values'; its keys are strings. */
  readonly type: Scalar | MessageType;
  /** What it has where it was not sent. */
  readonly default: V;
  /** Of fields with the same name here at most one is there. */
  readonly oneof?: string;
}

export interface NamedField extends Field {
  readonly name: string;
  /** Names of those that are not there where it is. */
  readonly others: readonly string[];
}

/** `T`: what decoding gives. */
export interface MessageType<T = unknown> {
  readonly name: string;
  readonly fields: readonly NamedField[];
  /** By number. */
  readonly byNumber: readonly (NamedField | undefined)[];
  /** A message of which nothing was sent. */
  readonly empty: T;
}

/** What decoding a message gives. */
export type Decoded<M> = M extends MessageType<infer T> ? T : never;

type ValueOf<T> = T extends Scalar ? Scalars[T] : T extends MessageType<infer V> ? V : never;
type ListOf<T> = T extends Scalar ? Lists[T] : T extends MessageType<infer V> ? readonly V[] : never;

const DEFAULTS: Scalars = {
  bool: false,
  int32: 0,
  uint32: 0,
  int64: 0n,
  uint64: 0n,
  float: 0,
  double: 0,
  string: '',
  bytes: new Uint8Array(),
};
const EMPTY_LISTS: Lists = {
  bool: new Uint8Array(),
  int32: new Int32Array(),
  uint32: new Uint32Array(),
  int64: new BigInt64Array(),
  uint64: new BigUint64Array(),
  float: new Float32Array(),
  double: new Float64Array(),
  string: Object.freeze([]),
  bytes: Object.freeze([]),
};
const NO_MESSAGES: readonly never[] = Object.freeze([]);
const NO_ENTRIES: ReadonlyMap<string, never> = new Map<string, never>();

/** A value; a message that was not sent is undefined. */
export function one<T extends Scalar | MessageType>(
  number: number,
  type: T,
): Field<T extends Scalar ? ValueOf<T> : ValueOf<T> | undefined> {
  const absent = typeof type === 'string' ? DEFAULTS[type as Scalar] : undefined;
  return { number, holds: 'one', type, default: absent as never };
}

/** One of several values, or none. */
export function oneOf<T extends Scalar>(
  oneof: string,
  number: number,
  type: T,
): Field<ValueOf<T> | undefined> {
  return { number, holds: 'one', type, default: undefined, oneof };
}

export function many<T extends Scalar | MessageType>(number: number, type: T): Field<ListOf<T>> {
  const none = typeof type === 'string' ? EMPTY_LISTS[type as Scalar] : NO_MESSAGES;
  return { number, holds: 'many', type, default: none as never };
}

export function map<T extends MessageType>(number: number, type: T): Field<ReadonlyMap<string, ValueOf<T>>> {
  return { number, holds: 'map', type, default: NO_ENTRIES };
}

/** `name`: as the .proto file has it. */
export function message<F extends Readonly<Record<string, Field>>>(
  name: string,
  fields: F,
): MessageType<{ readonly [K in keyof F]: F[K]['default'] }> {
  const entries = Object.entries(fields);
  const named = entries.map(([name, field]): NamedField => {
    const others = entries.filter(([, { oneof }]) => oneof !== undefined && oneof === field.oneof);
    return { name, ...field, others: others.map(([other]) => other).filter((other) => other !== name) };
  });
  const byNumber: (NamedField | undefined)[] = [];
  for (const field of named) byNumber[field.number] = field;
  const empty = Object.fromEntries(named.map((field) => [field.name, field.default]));
  return { name, fields: named, byNumber, empty: empty as never };
}

export function isPacked(type: Scalar | MessageType): type is Packed {
  return typeof type === 'string' && type !== 'string' && type !== 'bytes';
}
