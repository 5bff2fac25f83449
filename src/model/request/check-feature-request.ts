/** Requests by feature, as callers give them: every array read once, its elements what they must be. */
import {
  type ArrayName,
  arrayName,
  isArrayOf,
  isIntegerArray,
  plainArray,
  unreadable,
} from '../../checks/array.ts';
import {
  type Check,
  isList,
  isRecord,
  membersOf,
  optional,
  reading,
  record,
  shown,
} from '../../checks/value.ts';
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import type { FeatureLookups, FeaturePart, FeatureRequest } from './feature-request.ts';

/** Arrays of numbers that a column of raw numbers may be. */
const NUMBERS: readonly ArrayName[] = [
  'Float32Array',
  'Float64Array',
  'Int8Array',
  'Uint8Array',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
];

/** A list, each of its entries of a type; a new one. */
function entries<T extends number | string>(
  value: readonly unknown[],
  at: string,
  types: readonly string[],
): readonly T[] {
  return reading(at, () =>
    Array.from(value, (entry, i) =>
      types.includes(typeof entry)
        ? (entry as T)
        : fail('TENSOR_DTYPE', at, `${at}[${i}] is ${shown(entry)}, no ${types.join(' or ')}`),
    ),
  );
}

/** A typed array that `is` accepts, in memory that stays; undefined: it is none. */
function typed<A extends ArrayBufferView>(
  value: unknown,
  at: string,
  is: (value: unknown) => value is A,
): A | undefined {
  if (!reading(at, () => is(value))) return undefined;
  const reason = unreadable(value as A);
  return reason === undefined
    ? (plainArray(value as never) as A)
    : fail('TENSOR_DTYPE', at, `the array of ${at} ${reason}`);
}

const isFloats = (value: unknown): value is Float32Array => isArrayOf(value, 'Float32Array');
const isNumbers = (value: unknown): value is Float64Array => NUMBERS.some((name) => isArrayOf(value, name));

/** Of a place in a call, the tensor: `request: features.ads` is `features.ads`. */
const tensorOf = (at: string) => at.slice(at.indexOf(': ') + 2);

const values: Check<FeatureLookups['values']> = (value, at) => {
  const tensor = tensorOf(at).replace(/\.values$/, '');
  if (isList(value)) return entries<number | string>(value, tensor, ['number', 'string']);
  const own = typed(value, tensor, isIntegerArray);
  return own ?? fail('TENSOR_DTYPE', tensor, `${tensor} has no array of values, but ${shown(value)}`);
};

const integers: Check<NonNullable<FeatureLookups['lengths']>> = (value, at) => {
  const tensor = tensorOf(at);
  if (isList(value)) return entries<number>(value, tensor, ['number']);
  const own = typed(value, tensor, isIntegerArray);
  return own ?? fail('TENSOR_DTYPE', tensor, `${tensor} is ${shown(value)}, no integers`);
};

const weights: Check<NonNullable<FeatureLookups['weights']>> = (value, at) => {
  const tensor = tensorOf(at);
  if (isList(value)) return entries<number>(value, tensor, ['number']);
  const own = typed(value, tensor, isFloats);
  return own ?? fail('TENSOR_DTYPE', tensor, `${tensor} is ${shown(value)}, no floats`);
};

const column: Check<ArrayLike<number>> = (value, at) => {
  const tensor = tensorOf(at);
  if (isList(value)) return entries<number>(value, tensor, ['number']);
  const own = typed(value, tensor, isNumbers);
  return own ?? fail('TENSOR_DTYPE', tensor, `${tensor} is ${shown(value)}, no numbers`);
};

/** An object whose members, of any names, are all checked alike. */
function recordOf<T>(check: Check<T>): Check<Readonly<Record<string, T>>> {
  return (value, at) => {
    const given = record(value, at);
    return reading(at, () =>
      Object.fromEntries(Object.entries(given).map(([name, own]) => [name, check(own, `${at}.${name}`)])),
    );
  };
}

const columns = recordOf(column);

const dense: Check<NonNullable<FeaturePart['dense']>> = (value, at) => {
  const tensor = tensorOf(at);
  if (arrayName(value) === undefined && isRecord(value)) return columns(value, at);
  const own = typed(value, tensor, isFloats);
  return (
    own ??
    fail('TENSOR_DTYPE', tensor, `${tensor} is ${shown(value)}, neither a Float32Array nor numbers by name`)
  );
};

const PART = {
  dense: optional(dense),
  features: optional(
    recordOf(
      membersOf<FeatureLookups>({
        values,
        lengths: optional(integers),
        offsets: optional(integers),
        weights: optional(weights),
      }),
    ),
  ),
};

/** @throws RequestError TENSOR_DTYPE naming the tensor; UsageError OPTION_INVALID. */
export const checkFeatureRequest = membersOf<FeatureRequest>({
  ...PART,
  user: optional(membersOf<FeaturePart>(PART)),
  users: optional(integers),
});

function fail(code: RequestErrorCode, tensor: string, message: string): never {
  throw new RequestError(code, message, { tensor });
}
