/** Bounds of bags: lengths and offsets checked, counted and turned into each other. */
import { at } from '../../at.ts';
import { type Bags, bagFaultError, type IndexArray } from '../../embedding/bag.ts';
import { RequestError } from '../../errors.ts';
import type { FeatureInput } from '../inputs.ts';
import type { BagBounds, Lookups } from './request-parts.ts';

/** Most lookups of a feature that offsets of int32 reach. */
const MAX_LOOKUPS = 2 ** 31 - 1;

/** A feature, and what it has bags for. */
export interface BagsPlace {
  readonly feature: FeatureInput;
  /** Its table's number. */
  readonly table: number;
  readonly bags: number;
  /** How messages call bag b. */
  readonly nameOf: (bag: number) => string;
}

/** How many bags there are; undefined: as many as offsets, or one less. */
export function bagCount(bounds: BagBounds): number | undefined {
  switch (bounds.kind) {
    case 'offsets':
      return undefined;
    case 'lengths':
      return bounds.lengths.length;
    case 'fixed':
      return bounds.bags;
    default:
      return bounds satisfies never;
  }
}

/** How many numbers say the bounds. */
export function boundCount(bounds: BagBounds): number {
  return bounds.kind === 'offsets'
    ? bounds.offsets.length
    : bounds.kind === 'lengths'
      ? bounds.lengths.length
      : 0;
}

/**
 * Offsets of `bags` bags: given ones as they are, [bags] or [bags + 1], unchecked but for their number; others as int32
 * [bags + 1].
 * @throws RequestError TENSOR_SHAPE, LENGTHS_INVALID.
 */
export function offsetsOf(
  { bounds, values, names }: Lookups,
  { bags, table, feature }: BagsPlace,
): IndexArray {
  const count = bagCount(bounds);
  const wrongCount = (given: string, expected: string): never => {
    const message = `table ${table}: ${given} for a batch of ${bags}; expected ${expected}`;
    throw new RequestError('TENSOR_SHAPE', message, { tensor: names.bounds, table, feature: feature.name });
  };
  if (bounds.kind === 'offsets') {
    const { offsets } = bounds;
    return offsets.length === bags || offsets.length === bags + 1
      ? offsets
      : wrongCount(`${offsets.length} offsets`, `${bags} or ${bags + 1}`);
  }
  if (count !== bags) wrongCount(`${count} bags`, `${bags}`);
  if (values.length > MAX_LOOKUPS) tooMany(names.values, values.length);
  return bounds.kind === 'lengths'
    ? runningSums(bounds.lengths, values.length, names.bounds)
    : evenOffsets(bounds);
}

const evenlySpaced = new WeakMap<BagBounds, Int32Array>();

/** [bags + 1] of bags of one length; the tables of a stack share theirs. */
function evenOffsets(bounds: BagBounds & { kind: 'fixed' }): Int32Array {
  const known = evenlySpaced.get(bounds);
  if (known !== undefined) return known;
  const offsets = Int32Array.from({ length: bounds.bags + 1 }, (_, b) => b * bounds.length);
  evenlySpaced.set(bounds, offsets);
  return offsets;
}

/** `bags` times the one bag that there is. */
export function repeated({ indices, weights }: Bags, bags: number): Bags {
  const { length } = indices;
  if (bags * length > MAX_LOOKUPS) tooMany('default ids', bags * length);
  const times = <A extends IndexArray | Float32Array>(one: A, all: A): A => {
    for (let b = 0; b < bags; b++) all.set(one as never, b * length);
    return all;
  };
  return {
    indices:
      indices instanceof BigInt64Array
        ? times(indices, new BigInt64Array(bags * length))
        : times(indices, new Int32Array(bags * length)),
    offsets: Int32Array.from({ length: bags + 1 }, (_, b) => b * length),
    ...(weights === undefined ? {} : { weights: times(weights, new Float32Array(bags * length)) }),
  };
}

function tooMany(tensor: string, lookups: number): never {
  throw new RequestError('LENGTHS_INVALID', `${tensor} has ${lookups} lookups, more than ${MAX_LOOKUPS}`, {
    tensor,
    hint: 'split the batch, or give offsets of int64',
  });
}

/** [n + 1], from 0 to `total`. @throws RequestError LENGTHS_INVALID for negative lengths, or another sum. */
export function runningSums(lengths: IndexArray, total: number, tensor: string): Int32Array {
  const refuse = (message: string, details: { position?: number; value?: number } = {}): never => {
    throw new RequestError('LENGTHS_INVALID', `${tensor}${message}`, { tensor, ...details });
  };
  if (total > MAX_LOOKUPS) tooMany(tensor, total);
  const sums = new Int32Array(lengths.length + 1);
  const given = asNumbers(lengths);
  let sum = 0;
  for (let b = 0; b < given.length; b++) {
    const value = given[b] as number;
    sum += value;
    if (value < 0) refuse(`[${b}] = ${value} is negative`, { position: b, value });
    if (sum > total)
      refuse(`[${b}] = ${value} goes past the end of ${total} lookups`, { position: b, value });
    sums[b + 1] = sum;
  }
  if (sum !== total) refuse(` add up to ${sum}, there are ${total} lookups`);
  return sums;
}

/** @throws RequestError OFFSETS_INVALID, as a device in index-checking mode `error` does. */
export function checkOffsets(offsets: IndexArray, lookups: number, { table, feature }: BagsPlace): void {
  let before: number | bigint = 0;
  const refuse = (
    kind: 'first-offset-not-zero' | 'offsets-decrease' | 'offset-past-end',
    position: number,
  ) => {
    const limit = kind === 'offset-past-end' ? lookups : before;
    throw bagFaultError({ kind, table, position, value: BigInt(at(offsets, position)), limit }, feature.name);
  };
  for (let b = 0; b < offsets.length; b++) {
    const offset = offsets[b] as number | bigint;
    if (b === 0 && offset !== 0 && offset !== 0n) refuse('first-offset-not-zero', 0);
    if (offset < before) refuse('offsets-decrease', b);
    if (offset > lookups) refuse('offset-past-end', b);
    before = offset;
  }
}

/** Integers as numbers, exact below 2^53; int64 by its words, without a bigint for each. */
export function asNumbers(values: IndexArray): Int32Array | Float64Array {
  if (values instanceof Int32Array) return values;
  const words = new Int32Array(values.buffer, values.byteOffset, 2 * values.length);
  const numbers = new Float64Array(values.length);
  for (let i = 0; i < numbers.length; i++)
    numbers[i] = (words[2 * i + 1] as number) * 2 ** 32 + ((words[2 * i] as number) >>> 0);
  return numbers;
}

/** The first bag of more than `limit` lookups. */
export function longBag(
  offsets: IndexArray,
  lookups: number,
  bags: number,
  limit: number,
): { bag: number; length: number } | undefined {
  const starts = asNumbers(offsets);
  for (let bag = 0; bag < bags; bag++) {
    const length = (starts[bag + 1] ?? lookups) - (starts[bag] as number);
    if (length > limit) return { bag, length };
  }
  return undefined;
}

/** The bag of the lookup at `position`; offsets must not decrease. */
export function bagAt(offsets: IndexArray, bags: number, position: number): number {
  let [first, end] = [0, bags];
  while (end - first > 1) {
    const middle = (first + end) >>> 1;
    if (Number(offsets[middle]) <= position) first = middle;
    else end = middle;
  }
  return first;
}
