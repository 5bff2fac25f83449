/** Ids of a feature to rows of its table, many at a time: as rows, by a vocabulary, or by a hash. */
import type { IndexArray } from '../../embedding/bag.ts';
import { WorkloadError } from '../../errors.ts';
import type { FeatureInput } from '../inputs.ts';
import { type IdHasher, idHasher } from './id-hash.ts';
import { VocabularyOfIntegers } from './integer-vocabulary.ts';

/** Ids of one feature: integers, or integers and strings as JSON gives them. */
export type Ids = IndexArray | readonly (number | string)[];

/** Stands for the row of an id that the vocabulary lacks. */
export const UNKNOWN = -1;

/** Throws for the id at `position` [n], or for all of them: they are not of the feature's type. */
export type RefuseIds = (message: string, position?: number) => never;

/** The rows of ids [n]; of a vocabulary, UNKNOWN where it lacks one. */
export type RowsOfIds = (ids: Ids, refuse: RefuseIds) => IndexArray;

const opened = new WeakMap<FeatureInput, Promise<RowsOfIds>>();

/**
 * How ids of `feature` become rows; made once for each FeatureInput.
 * @throws WorkloadError VOCABULARY_INVALID; UsageError USAGE for a hash that cannot be.
 */
export function idMapping(feature: FeatureInput): Promise<RowsOfIds> {
  const found = opened.get(feature);
  if (found !== undefined) return found;
  const made = openMapping(feature);
  opened.set(feature, made);
  return made;
}

async function openMapping({ name, ids }: FeatureInput): Promise<RowsOfIds> {
  switch (ids.kind) {
    case 'rows':
      return integers;
    case 'hash':
      return hashed(await idHasher(ids));
    case 'vocabulary':
      return isOfStrings(ids.values) ? byString(ids.values, name) : byInteger(ids.values, name);
    default:
      return ids satisfies never;
  }
}

function isOfStrings(values: readonly string[] | readonly number[]): values is readonly string[] {
  return typeof values[0] === 'string';
}

function byInteger(values: readonly number[], feature: string): RowsOfIds {
  const wrong = values.findIndex((value) => !Number.isSafeInteger(value));
  if (wrong >= 0)
    throw vocabularyError(feature, `entry ${wrong}, ${quoted(values[wrong])}, is no safe integer`);
  const vocabulary = new VocabularyOfIntegers(values);
  if (vocabulary.duplicate !== undefined)
    throw vocabularyError(feature, `it lists ${vocabulary.duplicate} twice`);
  return (ids, refuse) => vocabulary.rowsOf(integers(ids, refuse));
}

function byString(values: readonly string[], feature: string): RowsOfIds {
  const rows = new Map<string, number>();
  values.forEach((value, row) => {
    if (typeof value !== 'string') throw vocabularyError(feature, `entry ${row} is no string, the first is`);
    if (rows.has(value)) throw vocabularyError(feature, `it lists ${quoted(value)} twice`);
    rows.set(value, row);
  });
  return (ids, refuse) => {
    if (!isList(ids)) return refuse('ids are integers, the vocabulary lists strings');
    return Int32Array.from(ids, (id, i) =>
      typeof id === 'string'
        ? (rows.get(id) ?? UNKNOWN)
        : refuse(`${quoted(id)} is no string, the vocabulary lists strings`, i),
    );
  };
}

function vocabularyError(feature: string, message: string): WorkloadError {
  return new WorkloadError('VOCABULARY_INVALID', `vocabulary of feature ${feature}: ${message}`, {
    feature,
    hint: 'a vocabulary lists each id once, in the order of the rows: integers or strings, not both',
  });
}

function hashed(hasher: IdHasher): RowsOfIds {
  return (ids, refuse) => {
    if (!isList(ids)) return hasher.ofIntegers(ids);
    return Int32Array.from(ids, (id, i) => {
      if (typeof id === 'string') return hasher.ofString(id) ?? refuse(`${quoted(id)} ${NO_INT64}`, i);
      return hasher.ofInteger(safe(id, i, refuse));
    });
  };
}

const NO_INT64 = 'is no integer of 64 bits';

/** Ids as integers: int32 where all fit. Decimal strings may stand for them. */
export function integers(ids: Ids, refuse: RefuseIds): IndexArray {
  if (!isList(ids)) return ids;
  const narrow = ids.every((id) => typeof id === 'number' && id === (id | 0));
  if (narrow) return Int32Array.from(ids as readonly number[]);
  return BigInt64Array.from(ids, (id, i) => {
    if (typeof id === 'number') return BigInt(safe(id, i, refuse));
    const value = /^[+-]?\d{1,19}$/.test(id) ? BigInt(id.replace('+', '')) : undefined;
    return value !== undefined && BigInt.asIntN(64, value) === value
      ? value
      : refuse(`${quoted(id)} ${NO_INT64}`, i);
  });
}

function safe(id: number, i: number, refuse: RefuseIds): number {
  return Number.isSafeInteger(id)
    ? id
    : refuse(`${quoted(id)} is no integer below 2^53; larger ones are given as strings`, i);
}

function isList(ids: Ids): ids is readonly (number | string)[] {
  return !(ids instanceof Int32Array || ids instanceof BigInt64Array);
}

/** The most of a value that a message shows. */
const SHOWN = 40;

/** A value as a message gives it, however long it is. */
export function quoted(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value.slice(0, SHOWN + 1)) : String(value);
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}
