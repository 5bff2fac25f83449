/** Wrong values in the place of right ones: one argument, or one part of it, becomes what nobody should give. */
import type { Random } from '../support/random.ts';

/** What getters and traps of hostile values throw: a call must never let it out. */
export class HostileError extends Error {}

/** What callbacks throw: a call may let it out, it is the caller's own. */
export class CallbackError extends Error {}

const refuseAll = (): never => {
  throw new HostileError('a hostile value was run');
};

const coerced = () => ({ toString: refuseAll, valueOf: refuseAll, [Symbol.toPrimitive]: refuseAll });

function trapped(): object {
  const traps = Object.fromEntries(
    Reflect.ownKeys(Reflect)
      .filter((k) => typeof k === 'string')
      .map((trap) => [trap, refuseAll]),
  );
  return new Proxy({}, traps as ProxyHandler<object>);
}

function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

function cyclic(): object {
  const own: Record<string, unknown> = {};
  own.self = own;
  return own;
}

function detached<A extends ArrayBufferView>(array: A): A {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
}

/** Numbers that are none of a size; none is so near to one that it asks for gigabytes. */
const NUMBERS: readonly number[] = [
  Number.NaN,
  -0,
  -1,
  0.5,
  2.5,
  -(2 ** 31),
  2 ** 53,
  2 ** 53 - 1,
  2 ** 63,
  1e300,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MIN_VALUE,
];
/** Never `none` of index checking: what it does with bad indices is not defined. */
const TEXTS: readonly string[] = [
  '',
  ' ',
  'SUM',
  'Error',
  'toString',
  '__proto__',
  'constructor',
  'nan',
  '3',
  '1e400',
  'a\0b',
  'é'.repeat(300),
  '/',
  '.',
];

/** Anything at all. */
export function hostile(random: Random): unknown {
  const kinds: readonly (() => unknown)[] = [
    () => null,
    () => undefined,
    () => random.pick(NUMBERS),
    () => random.pick(NUMBERS),
    () => random.pick(TEXTS),
    () => true,
    () => 5n,
    () => 2n ** 70n,
    () => Symbol('hostile'),
    () => ({}),
    () => Object.create(null),
    () => [],
    () => [undefined, null],
    () => new Array(2 ** 32 - 1),
    () => Object.assign(new Array(3), { 0: 1, 2: 3 }),
    () => coerced(),
    () => [coerced()],
    () => trapped(),
    () => revoked({}),
    () => revoked([]),
    () => cyclic(),
    () => new Map([['a', 1]]),
    () => new Set([0.5]),
    () => new Date(Number.NaN),
    () => /x/,
    () => new Number(3),
    () => new String('sum'),
    () => () => 1,
    () => class {},
    () => Promise.resolve(1),
    () => new DataView(new ArrayBuffer(8)),
    () => detached(new DataView(new ArrayBuffer(8))),
    () => Buffer.from('hostile'),
    () => new Float64Array(4),
    () => new Uint16Array(4),
    () => detached(new Float32Array(4)),
    () => detached(new Int32Array(4)),
    () => new Int32Array(new SharedArrayBuffer(16)),
    () => new ArrayBuffer(16),
    () => new Proxy(new Int32Array(4), {}),
  ];
  return random.pick(kinds)();
}

type AnyArray = Int32Array | Float32Array;

/** A typed array that is not what it seems. */
function changedArray(array: AnyArray, random: Random): unknown {
  const copy = () => array.slice();
  const own = (name: string, value: unknown) => Object.defineProperty(copy(), name, { get: () => value });
  let reads = 0;
  const kinds: readonly (() => unknown)[] = [
    () => hostile(random),
    () => Array.from(array as Int32Array),
    () => new Float64Array(array.length),
    () => new Int16Array(array.length),
    () => new BigUint64Array(array.length),
    () => new Uint8Array(array.length * 4),
    () => Buffer.alloc(array.byteLength),
    () => new DataView(new ArrayBuffer(array.byteLength)),
    () => array.subarray(0, Math.max(0, array.length - 1)),
    () => detached(copy()),
    () => Object.setPrototypeOf(copy(), Float32Array.prototype),
    () => Object.setPrototypeOf(copy(), BigInt64Array.prototype),
    () => Object.setPrototypeOf(copy(), null),
    () => own('length', 2 ** 20),
    () => own('byteLength', 2 ** 20),
    () => own('byteOffset', -(2 ** 20)),
    () => own('buffer', new ArrayBuffer(0)),
    () =>
      Object.defineProperty(copy(), 'length', { get: () => (reads++ % 3 === 0 ? array.length : 2 ** 20) }),
    () => Object.defineProperty(copy(), 'length', { get: refuseAll }),
    () => {
      const other = copy() as Int32Array;
      if (typeof other[0] === 'number') other.fill(random.pick([-1, 2 ** 30, 1]));
      else (other as unknown as BigInt64Array).fill(random.pick([-1n, 2n ** 62n, 1n]));
      return other;
    },
    () => {
      const buffer = new (ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer)(
        array.byteLength,
        {
          maxByteLength: array.byteLength + 64,
        },
      );
      return new (array.constructor as new (b: ArrayBuffer) => unknown)(buffer);
    },
    () => new (class extends (array.constructor as typeof Int32Array) {})(array as Int32Array),
    () => new Proxy(copy(), {}),
  ];
  return random.pick(kinds)();
}

/** The object with something else about it. */
function changedObject(value: object, random: Random): unknown {
  const keys = Object.keys(value);
  const key = keys.length === 0 ? 'a' : random.pick(keys);
  const shallow = (): Record<string, unknown> =>
    (Array.isArray(value) ? [...value] : value instanceof Map ? new Map(value) : { ...value }) as never;
  const kinds: readonly (() => unknown)[] = [
    () => hostile(random),
    () => Object.assign(shallow(), { [random.pick(['thread', 'outputs', 'ofset', 'x', 'constructor'])]: 1 }),
    () => {
      const own = shallow();
      delete own[key];
      return own;
    },
    () => Object.defineProperty(shallow(), key, { get: refuseAll, enumerable: true, configurable: true }),
    () => {
      let reads = 0;
      const first = (value as Record<string, unknown>)[key];
      const later = hostile(random);
      return Object.defineProperty(shallow(), key, {
        get: () => (reads++ === 0 ? first : later),
        enumerable: true,
        configurable: true,
      });
    },
    () => new Proxy(value, {}),
    () => new Proxy(value, { ownKeys: refuseAll }),
    () => new Proxy(value, { get: refuseAll }),
    () => revoked(value),
    () => Object.create(value),
    () => Object.freeze(shallow()),
    () => Object.assign(shallow(), { [Symbol('x')]: 1 }),
    () => [value],
    () => (Array.isArray(value) ? [...value, ...value] : { ...value, self: value }),
    () => (Array.isArray(value) ? value.slice(1) : Object.entries(value)),
  ];
  return random.pick(kinds)();
}

function changedNumber(value: number, random: Random): unknown {
  return random.pick<() => unknown>([
    () => hostile(random),
    () => random.pick(NUMBERS),
    () => value + 1,
    () => value - 1,
    () => -value,
    () => value + 0.5,
    () => `${value}`,
    () => (Number.isSafeInteger(value) ? BigInt(value) : 1n),
    () => new Number(value),
    () => [value],
    () => coerced(),
  ])();
}

function changedText(value: string, random: Random): unknown {
  return random.pick<() => unknown>([
    () => hostile(random),
    () => random.pick(TEXTS),
    () => value.toUpperCase(),
    () => `${value} `,
    () => value.slice(1),
    () => `${value}\0`,
    () => new String(value),
    () => [value],
    () => coerced(),
  ])();
}

/** A value with one wrong part, near its root or deep inside; parts that stay are the same objects. */
export function mutated(value: unknown, random: Random): unknown {
  if (typeof value === 'number') return changedNumber(value, random);
  if (typeof value === 'string') return changedText(value, random);
  if (typeof value === 'function') {
    return random.pick<() => unknown>([
      () => hostile(random),
      () => () => {
        throw new CallbackError('a callback failed');
      },
    ])();
  }
  if (ArrayBuffer.isView(value)) return changedArray(value as AnyArray, random);
  if (typeof value !== 'object' || value === null) return hostile(random);
  const isPlain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
  const keys = isPlain ? Object.keys(value) : [];
  if (value instanceof Map && value.size > 0 && random.next() < 0.6) {
    const key = random.pick([...value.keys()]);
    const own = new Map(value);
    own.delete(key);
    return random.next() < 0.3
      ? own.set(mutated(key, random), value.get(key))
      : own.set(key, mutated(value.get(key), random));
  }
  if (keys.length === 0 || random.next() < 0.3) return changedObject(value, random);
  const key = random.pick(keys);
  const copy = Array.isArray(value) ? [...value] : { ...value };
  (copy as Record<string, unknown>)[key] = mutated((value as Record<string, unknown>)[key], random);
  return copy;
}
