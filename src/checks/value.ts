/**
 * Checks of values that callers give, whatever TypeScript said of them. A check gives back what it checked, and reads it
 * once: what a caller changes afterwards was never checked, and is never used.
 */
import { fileURLToPath } from 'node:url';
import { HotrowError, UsageError } from '../errors.ts';
import { arrayName } from './array.ts';
import { nearest } from './nearest.ts';

/** Checks a value; `at` is the call and the member in it: `loadModel: threads`. @throws UsageError OPTION_INVALID. */
export type Check<T> = (value: unknown, at: string) => T;

/** The check of a member that may be left out, or be undefined. */
export interface Optional<T> {
  readonly optional: Check<T>;
}

/** A check for each member of T. */
export type Members<T> = {
  readonly [K in keyof T]-?: Record<never, never> extends Pick<T, K>
    ? Optional<Exclude<T[K], undefined>>
    : Check<T[K]>;
};

/** Characters of a value that a message shows. */
const SHOWN = 40;

/** A value as messages give it, however large or strange it is. Runs nothing of the value. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return cut(JSON.stringify(value.slice(0, SHOWN + 1)));
    case 'bigint':
      return cut(`${value}n`);
    case 'object':
      if (value === null) return 'null';
      if (isList(value)) return 'a list';
      return arrayName(value) === undefined ? 'an object' : `a ${arrayName(value)}`;
    case 'function':
    case 'symbol':
      return `a ${typeof value}`;
    default:
      return String(value);
  }
}

function cut(text: string): string {
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}

/** The member that `at` names: `loadModel: threads` is `threads`, `batch` itself. */
function optionOf(at: string): string {
  const call = at.lastIndexOf(': ');
  return call < 0 ? at : at.slice(call + 2);
}

/** @throws UsageError OPTION_INVALID that names the option. */
export function refuseOption(at: string, value: unknown, expected: string): never {
  const known = typeof value === 'number' || typeof value === 'bigint' ? { value } : {};
  throw new UsageError('OPTION_INVALID', `${at} is ${shown(value)}, expected ${expected}`, {
    option: optionOf(at),
    ...known,
  });
}

/**
 * Runs `read`, which reads what a caller gave: getters and proxies may throw anything there.
 * @throws what of Hotrow's own `read` throws; UsageError OPTION_INVALID, with the cause, for all else.
 */
export function reading<T>(at: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    return unreadableValue(at, cause);
  }
}

/** What was thrown while a caller's value was read, as `reading` throws it. */
export function unreadableValue(at: string, cause: unknown): never {
  if (cause instanceof HotrowError) throw cause;
  throw new UsageError('OPTION_INVALID', `${at} cannot be read`, { option: optionOf(at), cause });
}

/** A value of plain data that cannot be changed any more, nor anything in it. */
export function deepFrozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const member of Object.values(value)) deepFrozen(member);
  return Object.freeze(value);
}

/** Whether a value is an array; a revoked proxy is none. */
export function isList(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** Whether a value has members by name: no list, no array, no function. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return false;
  try {
    return !Array.isArray(value) && !(value instanceof Map || value instanceof Set);
  } catch {
    return false;
  }
}

/** An object with members by name. */
export const record: Check<Readonly<Record<string, unknown>>> = (value, at) =>
  isRecord(value) ? value : refuseOption(at, value, 'an object');

/** A whole number from `least` to `most`. */
export function whole(least = 0, most = Number.MAX_SAFE_INTEGER): Check<number> {
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
  return (value, at) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? // Without the sign of -0.
        (value as number) + 0
      : refuseOption(at, value, `a whole number ${range}`);
}

/** A number that is neither NaN nor infinite. */
export const finite: Check<number> = (value, at) =>
  Number.isFinite(value) ? (value as number) : refuseOption(at, value, 'a finite number');

export const flag: Check<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : refuseOption(at, value, 'true or false');

export const text: Check<string> = (value, at) =>
  typeof value === 'string' ? value : refuseOption(at, value, 'a string');

/** How callers name a file or a folder: by its path, or by a URL of the scheme `file:`. */
export type FilePath = string | URL;

/** The path of a file or a folder. */
export const path: Check<string> = (value, at) => {
  const own = reading(at, () => (value instanceof URL ? fileURLToPath(value) : value));
  return typeof own === 'string' && !own.includes('\0')
    ? own
    : refuseOption(at, value, 'the name of a file, a string without NUL, or a URL of one');
};

/** A function. */
export function called<F extends (...args: never[]) => unknown>(): Check<F> {
  return (value, at) =>
    typeof value === 'function' && !isClass(value) ? (value as F) : refuseOption(at, value, 'a function');
}

/** Whether a function can only make objects. */
function isClass(value: unknown): boolean {
  return /^class\b/.test(Function.prototype.toString.call(value));
}

/** One of some strings. */
export function oneOf<T extends string>(values: readonly T[]): Check<T> {
  return (value, at) =>
    values.includes(value as T)
      ? (value as T)
      : refuseOption(at, value, values.length === 1 ? `"${values[0]}"` : `one of ${values.join(', ')}`);
}

/** A list, each entry checked; a new one. */
export function listOf<T>(check: Check<T>): Check<readonly T[]> {
  return (value, at) =>
    isList(value)
      ? reading(at, () => Array.from(value, (entry, i) => check(entry, `${at}[${i}]`)))
      : refuseOption(at, value, 'a list');
}

export function optional<T>(check: Check<T>): Optional<T> {
  return { optional: check };
}

/** An object with these members, and no others; a new one. `at`: the call. */
export function membersOf<T extends object>(members: Members<T>): Check<T> {
  const entries = Object.entries<Check<unknown> | Optional<unknown>>(members);
  return (value, at) => {
    const given = record(value, at);
    return reading(at, () => {
      for (const key of Object.keys(given))
        if (!Object.hasOwn(members, key)) refuseKey(at, key, Object.keys(members));
      return readMembers<T>(given, entries, at);
    });
  };
}

/** As membersOf, of an object that may have other members too: they are left aside. */
export function someOf<T extends object>(members: Members<T>): Check<T> {
  const entries = Object.entries<Check<unknown> | Optional<unknown>>(members);
  return (value, at) => {
    const given = record(value, at);
    return reading(at, () => readMembers<T>(given, entries, at));
  };
}

/**
 * An object of one of several kinds, which its member `by` names. The check of that kind reads the object, `by` among the
 * rest, so that an object which changes its kind meanwhile is refused.
 */
export function kindsOf<K extends string, T>(by: string, kinds: Readonly<Record<K, Check<T>>>): Check<T> {
  const kind = oneOf(Object.keys(kinds) as K[]);
  return (value, at) => {
    const given = record(value, at);
    return kinds[reading(at, () => kind(given[by], `${at}.${by}`))](value, at);
  };
}

function readMembers<T extends object>(
  given: Readonly<Record<string, unknown>>,
  entries: readonly (readonly [string, Check<unknown> | Optional<unknown>])[],
  at: string,
): T {
  const read: Record<string, unknown> = {};
  const inner = at.includes(': ') ? `${at}.` : `${at}: `;
  for (const [key, check] of entries) {
    const member = given[key];
    if (typeof check === 'function') read[key] = check(member, `${inner}${key}`);
    else if (member !== undefined) read[key] = check.optional(member, `${inner}${key}`);
  }
  return read as T;
}

/** @throws UsageError OPTION_INVALID for a member that has no meaning: a misspelt one would be ignored. */
export function refuseKey(at: string, key: string, known: Iterable<string>): never {
  const names = [...known];
  const meant = nearest(key, names);
  const hint = meant === undefined ? '' : `did you mean ${meant}? `;
  throw new UsageError('OPTION_INVALID', `${at}: there is no ${shown(key)}`, {
    option: key,
    hint: names.length === 0 ? 'there are no options' : `${hint}known are ${names.join(', ')}`,
  });
}
