/** Random messages of protobuf, and messages as values that compare: of Hotrow's codec, and of protobufjs. */
import { isPacked, type MessageType, type Scalar } from '../../src/serve/grpc/codec/fields.ts';
import type { Random } from './random.ts';

type Values = Readonly<Record<string, unknown>>;

const TEXTS = [
  '',
  'a',
  'values',
  'Köln',
  '東京',
  '😀',
  '\u0000',
  'x'.repeat(31),
  'x'.repeat(32),
  'ü'.repeat(200),
];
const INTEGERS = [
  0n,
  1n,
  -1n,
  127n,
  128n,
  2n ** 31n - 1n,
  -(2n ** 31n),
  2n ** 32n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
];
const REALS = [0, -0, 1.5, -1e30, Number.NaN, Number.POSITIVE_INFINITY, 2 ** -149];

function randomScalar(random: Random, type: Scalar): unknown {
  switch (type) {
    case 'string':
      return random.pick(TEXTS);
    case 'bytes':
      return Uint8Array.from({ length: random.pick([0, 1, 5, 200]) }, () => random.integer(0, 255));
    case 'bool':
      return random.next() < 0.5;
    case 'float':
      return Math.fround(random.next() < 0.5 ? random.pick(REALS) : 1000 * random.next());
    case 'double':
      return random.next() < 0.5 ? random.pick(REALS) : random.next();
    case 'int32':
      return Number(BigInt.asIntN(32, randomInteger(random)));
    case 'uint32':
      return Number(BigInt.asUintN(32, randomInteger(random)));
    case 'int64':
      return BigInt.asIntN(64, randomInteger(random));
    case 'uint64':
      return BigInt.asUintN(64, randomInteger(random));
    default:
      return type satisfies never;
  }
}

const randomInteger = (random: Random): bigint =>
  random.next() < 0.5
    ? random.pick(INTEGERS)
    : (BigInt(random.integer(0, 2 ** 32 - 1)) << 32n) | BigInt(random.integer(0, 2 ** 32 - 1));

/** A message as Hotrow's encoder takes it. */
export function randomMessage(random: Random, type: MessageType): Values {
  const value: Record<string, unknown> = {};
  const one = (of: Scalar | MessageType) =>
    typeof of === 'string' ? randomScalar(random, of) : randomMessage(random, of);
  const list = (of: Scalar | MessageType, most: number) =>
    Array.from({ length: random.integer(0, most) }, () => one(of));
  const chosen = random.integer(0, type.fields.length);
  for (const [i, { name, holds, type: own, oneof }] of type.fields.entries()) {
    if (oneof !== undefined ? i !== chosen : random.next() < 0.3) continue;
    if (holds === 'one') value[name] = one(own);
    else if (holds === 'many') value[name] = list(own, isPacked(own) ? 40 : 3);
    else value[name] = new Map(list(own, 3).map((entry) => [random.pick(TEXTS), entry]));
  }
  return value;
}

/** What is compared: 64-bit integers as text, lists as arrays, maps in the order of their keys, defaults where nothing is. */
export function comparable(type: MessageType, value: Values): Values {
  const one = (of: Scalar | MessageType, own: unknown): unknown => {
    if (typeof of !== 'string') return comparable(of, own as Values);
    if (of === 'int64' || of === 'uint64') return String(own);
    if (of === 'bytes') return Buffer.from(own as Uint8Array).toString('hex');
    return of === 'bool' ? Boolean(own) : own;
  };
  return Object.fromEntries(
    type.fields.map(({ name, holds, type: own, default: absent }) => {
      const given = value[name] ?? absent;
      if (holds === 'one') return [name, given === undefined ? undefined : one(own, given)];
      if (holds === 'many')
        return [name, Array.from(given as ArrayLike<unknown>, (entry) => one(own, entry))];
      const entries = given instanceof Map ? [...given] : Object.entries(given as object);
      return [name, entries.map(([key, entry]) => [key, one(own, entry)]).sort()];
    }),
  );
}

/** The same message as protobufjs takes it: maps are objects, 64-bit integers text. */
export function forProtobufjs(type: MessageType, value: Values): Values {
  const one = (of: Scalar | MessageType, own: unknown): unknown => {
    if (typeof of !== 'string') return forProtobufjs(of, own as Values);
    return of === 'int64' || of === 'uint64' ? String(own) : own;
  };
  const result: Record<string, unknown> = {};
  for (const { name, holds, type: own } of type.fields) {
    const given = value[name];
    if (given === undefined) continue;
    if (holds === 'one') result[name] = one(own, given);
    else if (holds === 'many') result[name] = (given as unknown[]).map((entry) => one(own, entry));
    else
      result[name] = Object.fromEntries(
        [...(given as Map<string, unknown>)].map(([k, v]) => [k, one(own, v)]),
      );
  }
  return result;
}
