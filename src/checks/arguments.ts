/** Arguments that are arrays or plain data, and arrays that calls make. */
import { DeviceError } from '../errors.ts';
import {
  type ArrayName,
  type ArrayOf,
  isArrayOf,
  isIntegerArray,
  lengthOf,
  plainArray,
  unreadable,
} from './array.ts';
import { type Check, reading, refuseOption, shown } from './value.ts';

/** An array of one class, in memory that stays; `length` where it must have so many elements. */
export function arrayOf<N extends ArrayName>(name: N, length?: number): Check<ArrayOf<N>> {
  return (value, at) => {
    const own = reading(at, () => (isArrayOf(value, name) ? value : undefined));
    if (own === undefined) return refuseOption(at, value, `a ${name}`);
    return sized(readable(own, at), at, length);
  };
}

/** An array of int32 or int64, in memory that stays. */
export const integerArray: Check<Int32Array | BigInt64Array> = (value, at) => {
  const own = reading(at, () => (isIntegerArray(value) ? value : undefined));
  return own === undefined ? refuseOption(at, value, 'an Int32Array or a BigInt64Array') : readable(own, at);
};

function readable<A extends ArrayOf<ArrayName>>(array: A, at: string): A {
  const reason = unreadable(array);
  return reason === undefined ? plainArray(array) : refuseOption(at, array, `other memory: it ${reason}`);
}

function sized<A extends ArrayOf<ArrayName>>(array: A, at: string, length: number | undefined): A {
  if (length === undefined || lengthOf(array) === length) return array;
  return refuseOption(`${at}.length`, lengthOf(array), `${length}`);
}

/** A copy of plain data, which a caller cannot change any more; undefined: it is none. */
export function plainData(value: unknown): unknown {
  try {
    return rebuilt(structuredClone(value));
  } catch {
    return undefined;
  }
}

/** Lists and objects made anew, without what else hung on them. @throws for holes and cycles. */
function rebuilt(value: unknown): unknown {
  if (Array.isArray(value))
    return Array.from(value, (entry: unknown, i) => {
      if (!(i in value)) throw new TypeError('a list with holes');
      return rebuilt(entry);
    });
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(Object.entries(value).map(([key, own]) => [key, rebuilt(own)]));
}

/** What `make` allocates. @throws DeviceError OUT_OF_MEMORY where the host has no room for it. */
export function allocated<T>(what: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new DeviceError('OUT_OF_MEMORY', `there is no room for ${shown(what)}: ${cause.message}`, {
      cause,
    });
  }
}
