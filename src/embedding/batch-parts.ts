/** A batch cut into smaller ones: the same bags, and where each part's began. Pure. */
import { at } from '../at.ts';
import type { RequestError } from '../errors.ts';
import {
  type BagBatch,
  type BagFindings,
  type Bags,
  bagCount,
  bagFaultError,
  type EmbeddingTable,
  type IndexArray,
} from './bag.ts';

/** The samples [from, from + batchSize) of a batch. */
export interface BatchPart extends BagBatch {
  readonly from: number;
  /** The place of each table's first lookup among those of the whole batch. */
  readonly firstLookups: readonly number[];
}

/**
 * Parts of at most `samples` samples, over the batch's own indices and weights. Of users, each part has those with candidates in it.
 * Undefined where offsets are not what they must be: what is wrong, index checking tells of the whole batch.
 * `batch`: checked by checkBagShapes.
 */
export function batchParts(batch: BagBatch, samples: number): BatchPart[] | undefined {
  const { batchSize, bags, users } = batch;
  const starts: Float64Array[] = [];
  for (const own of bags) {
    const found = startsOf(own, bagCount(own, batch));
    if (found === undefined) return undefined;
    starts.push(found);
  }
  const parts: BatchPart[] = [];
  for (let from = 0; from < batchSize; from += samples) {
    const end = Math.min(batchSize, from + samples);
    const within = users === undefined ? undefined : usersWithin(users, from, end);
    const isLast = end === batchSize;
    const ranges = bags.map(({ perUser }): readonly [number, number] =>
      perUser === true && within !== undefined ? [within.first, within.end] : [from, end],
    );
    parts.push({
      from,
      batchSize: end - from,
      bags: bags.map((own, t) => partOf(own, at(starts, t), at(ranges, t), isLast)),
      ...(within === undefined ? {} : { users: within.starts }),
      firstLookups: ranges.map(([first], t) => at(at(starts, t), first)),
    });
  }
  return parts;
}

/** Users [first, end) have samples in [from, to); their starts, counted from `from`. */
export function usersWithin(users: Int32Array, from: number, to: number) {
  let first = 0;
  while (first < users.length - 2 && (users[first + 1] as number) <= from) first += 1;
  let end = first;
  while (end < users.length - 1 && (users[end] as number) < to) end += 1;
  const starts = users.subarray(first, end + 1).map((start) => Math.min(Math.max(start, from), to) - from);
  return { first, end, starts };
}

/** Where bags begin, and where the last one ends, [count + 1]; undefined: bags would not follow each other. */
function startsOf({ indices, offsets }: Bags, count: number): Float64Array | undefined {
  const starts = new Float64Array(count + 1);
  starts[count] = indices.length;
  if (offsets instanceof Int32Array) starts.set(offsets);
  else {
    // In halves: by way of BigInt it would take many times as long.
    const halves = new Int32Array(offsets.buffer, offsets.byteOffset, 2 * offsets.length);
    for (let bag = 0; bag < offsets.length; bag++)
      starts[bag] = (halves[2 * bag + 1] as number) * 2 ** 32 + ((halves[2 * bag] as number) >>> 0);
  }
  if (starts[0] !== 0) return undefined;
  for (let bag = 0; bag < count; bag++)
    if ((starts[bag] as number) > (starts[bag + 1] as number)) return undefined;
  return at(starts, count) > indices.length ? undefined : starts;
}

/** The bags [first, end); the last part has what follows the last bag too, which index checking looks at. */
function partOf(
  { indices, offsets, weights, perUser }: Bags,
  starts: Float64Array,
  [first, end]: readonly [number, number],
  isLast: boolean,
): Bags {
  const begin = at(starts, first);
  const stop = isLast ? indices.length : at(starts, end);
  return {
    indices: indices.subarray(begin, stop),
    offsets: shifted(offsets, starts.subarray(first, end + 1)),
    ...(weights === undefined ? {} : { weights: weights.subarray(begin, stop) }),
    ...(perUser === undefined ? {} : { perUser }),
  };
}

/** Starts from 0 on, as offsets of the type of `offsets`. */
function shifted(offsets: IndexArray, starts: Float64Array): IndexArray {
  const begin = at(starts, 0);
  if (offsets instanceof Int32Array) return Int32Array.from(starts, (start) => start - begin);
  const halves = new Int32Array(2 * starts.length);
  for (const [bag, start] of starts.entries()) {
    halves[2 * bag] = start - begin;
    halves[2 * bag + 1] = Math.floor((start - begin) / 2 ** 32);
  }
  return new BigInt64Array(halves.buffer);
}

/** What was found in a part, told of the whole batch. */
export function inWholeBatch(
  error: RequestError,
  part: BatchPart,
  tables: readonly EmbeddingTable[],
): RequestError {
  const { table, position, value } = error.details;
  if (error.code !== 'INDEX_OUT_OF_RANGE' || table === undefined || position === undefined) return error;
  const { name, rows } = at(tables, table);
  return bagFaultError(
    {
      kind: 'index-out-of-range',
      table,
      position: at(part.firstLookups, table) + position,
      value: BigInt(value as bigint),
      limit: rows,
    },
    name,
  );
}

/** The findings of all parts; the first is the one that the whole batch would have told. */
export function joinedFindings(found: readonly BagFindings[]): BagFindings {
  const first = firstFound(found.flatMap((one) => (one.first === undefined ? [] : [one.first])));
  return {
    badIndices: found.reduce((sum, { badIndices }) => sum + badIndices, 0),
    badOffsets: found.reduce((sum, { badOffsets }) => sum + badOffsets, 0),
    ...(first === undefined ? {} : { first }),
  };
}

/** Of errors with places the one of the first table, and there the first place. */
export function firstFound(errors: readonly RequestError[]): RequestError | undefined {
  const place = ({ details: { table = 0, position = 0 } }: RequestError) => [table, position] as const;
  return [...errors].sort((a, b) => {
    const [[t, p], [u, q]] = [place(a), place(b)];
    return t - u || p - q;
  })[0];
}
