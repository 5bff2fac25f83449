/** Recorded samples: checked against a model, cut and put together into batches. */
import { at } from '../../at.ts';
import { type Bags, bagCount, type EmbeddingTable, type IndexArray } from '../../embedding/bag.ts';
import { usersWithin } from '../../embedding/batch-parts.ts';
import { checkBagShapes } from '../../embedding/check-bags.ts';
import { RequestError, UsageError } from '../../errors.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { checkOffsets } from '../../model/request/bag-bounds.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { asInt32, asNumbers, MAX_INDEX } from '../index-values.ts';

/** What of a model says whether traffic is its own. */
export type TrafficModel = Pick<
  ModelArchitecture,
  'naming' | 'tables' | 'denseFeatures' | 'inputs' | 'tableOrder'
>;

/** The bags of one table: of the samples, or of the users. */
interface SampleBags {
  /** [lookups]; −1 is a pruned row of a table that has them. */
  readonly indices: Int32Array;
  /** [bags + 1]. */
  readonly offsets: Int32Array;
  readonly weights?: Float32Array;
  readonly perUser?: boolean;
}

/** Samples in their order. */
export interface Samples {
  readonly count: number;
  /** [count, denseFeatures]. */
  readonly dense: Float32Array;
  readonly denseFeatures: number;
  readonly bags: readonly SampleBags[];
  /** [U + 1]: where the samples of each user begin. */
  readonly users?: Int32Array;
}

const ANOTHER_MODEL = 'the traffic is of another model: pass the MODEL that it was recorded for';

/**
 * The samples of a request, checked as a device would: tables, bags, index values.
 * @throws RequestError, without the file; UsageError USAGE for rows past 2^31.
 */
export function samplesOf(request: DlrmRequest, { tables, denseFeatures }: TrafficModel): Samples {
  checkBagShapes(tables, request);
  if (request.denseFeatures !== denseFeatures) {
    const message = `dense has ${request.denseFeatures} columns, the model takes ${denseFeatures}`;
    throw new RequestError('TENSOR_SHAPE', message, { tensor: 'dense', hint: ANOTHER_MODEL });
  }
  return {
    count: request.batchSize,
    dense: request.dense,
    denseFeatures,
    bags: request.bags.map((bags, t) => checkedBags(at(tables, t), bags, t, bagCount(bags, request))),
    ...(request.users === undefined ? {} : { users: request.users }),
  };
}

function checkedBags(
  table: EmbeddingTable,
  { indices, offsets, weights, perUser }: Bags,
  t: number,
  bags: number,
): SampleBags {
  const { name } = table;
  const feature = { name, ids: { kind: 'rows' }, unknown: 'error', missing: 'error' } as const;
  checkOffsets(offsets, indices.length, { feature, table: t, bags, nameOf: (bag) => `sample ${bag}` });
  const starts = asNumbers(offsets);
  const own = Int32Array.from({ length: bags + 1 }, (_, bag) => starts[bag] ?? indices.length);
  // What follows the last bag is of none.
  const lookups = at(own, bags);
  return {
    indices: checkedRows(table, indices.subarray(0, lookups), t),
    offsets: own,
    ...(weights === undefined ? {} : { weights: weights.subarray(0, lookups) }),
    ...(perUser === true ? { perUser } : {}),
  };
}

/**
 * Indices that are rows of their table; −1 where it has pruned rows.
 * @throws RequestError INDEX_OUT_OF_RANGE, without the file.
 */
export function checkedRows(
  { name, rows, pruned = false }: Pick<EmbeddingTable, 'name' | 'rows' | 'pruned'>,
  indices: IndexArray,
  table: number,
): Int32Array {
  const values = asInt32(indices);
  const limit = Math.min(rows, MAX_INDEX + 1);
  for (let i = 0; i < values.length; i++) {
    const row = values[i] as number;
    if (row >= 0 && row < limit) continue;
    const value = indices[i] as number | bigint;
    if (pruned && Number(value) === -1) continue;
    if (Number(value) > MAX_INDEX && Number(value) < rows)
      throw new UsageError('USAGE', `table ${table} (${name}): traffic reaches rows up to ${MAX_INDEX}`, {
        table,
        value,
      });
    throw new RequestError(
      'INDEX_OUT_OF_RANGE',
      `table ${table} (${name}): indices[${i}] = ${value} is not a row of [0, ${rows})`,
      { table, tensor: `indices.${table}`, position: i, value, hint: ANOTHER_MODEL },
    );
  }
  return values;
}

/** Whether samples can stand in one batch with others; else why not. */
export function mixture(samples: Samples, first: Samples): string | undefined {
  const isPerUser = ({ bags }: Samples, t: number) => bags[t]?.perUser === true;
  const t = samples.bags.findIndex((_, table) => isPerUser(samples, table) !== isPerUser(first, table));
  if (t < 0) return undefined;
  return isPerUser(samples, t)
    ? `table ${t} has a bag per user, and one per sample before`
    : `table ${t} has a bag per sample, and one per user before`;
}

/** The samples [from, to); of users, those that have some of them. */
export function slice(samples: Samples, from: number, to: number): Samples {
  if (from === 0 && to === samples.count) return samples;
  const { denseFeatures, users } = samples;
  const own = users === undefined ? undefined : usersWithin(users, from, to);
  return {
    count: to - from,
    denseFeatures,
    dense: samples.dense.subarray(from * denseFeatures, to * denseFeatures),
    bags: samples.bags.map((bags) =>
      bags.perUser === true && own !== undefined
        ? sliceBags(bags, own.first, own.end)
        : sliceBags(bags, from, to),
    ),
    ...(own === undefined ? {} : { users: own.starts }),
  };
}

function sliceBags({ indices, offsets, weights, perUser }: SampleBags, from: number, to: number): SampleBags {
  const [begin, end] = [at(offsets, from), at(offsets, to)];
  return {
    indices: indices.subarray(begin, end),
    offsets: offsets.subarray(from, to + 1).map((offset) => offset - begin),
    ...(weights === undefined ? {} : { weights: weights.subarray(begin, end) }),
    ...(perUser === undefined ? {} : { perUser }),
  };
}

/** Samples of one model, one behind the other. @throws UsageError USAGE for more than 2^31 − 1 lookups of a table. */
export function join(parts: readonly Samples[]): Samples {
  const [first] = parts as [Samples];
  if (parts.length === 1) return first;
  const count = total(parts.map((part) => part.count));
  const users = parts.every((part) => part.users !== undefined)
    ? joinStarts(parts.map((part) => part.users as Int32Array))
    : undefined;
  return {
    count,
    denseFeatures: first.denseFeatures,
    dense: concatenated(
      parts.map(({ dense }) => dense),
      (length) => new Float32Array(length),
    ),
    bags: first.bags.map((_, t) => joinBags(parts.map(({ bags }) => at(bags, t)))),
    ...(users === undefined ? {} : { users }),
  };
}

function joinBags(parts: readonly SampleBags[]): SampleBags {
  const lookups = total(parts.map(({ indices }) => indices.length));
  if (lookups > MAX_INDEX)
    throw new UsageError(
      'USAGE',
      `a batch has ${lookups} lookups of a table, at most ${MAX_INDEX} are possible`,
      {
        value: lookups,
        hint: 'choose a smaller --batch',
      },
    );
  const weighted = parts.some(({ weights }) => weights !== undefined);
  const { perUser } = at(parts, 0);
  return {
    indices: concatenated(
      parts.map(({ indices }) => indices),
      (length) => new Int32Array(length),
    ),
    offsets: joinStarts(parts.map(({ offsets }) => offsets)),
    ...(weighted
      ? {
          weights: concatenated(
            // A lookup without a weight counts once.
            parts.map(({ indices, weights }) => weights ?? new Float32Array(indices.length).fill(1)),
            (length) => new Float32Array(length),
          ),
        }
      : {}),
    ...(perUser === undefined ? {} : { perUser }),
  };
}

/** Starts [n + 1] of parts, each from 0 on, as starts of the whole. */
function joinStarts(parts: readonly Int32Array[]): Int32Array {
  const starts = new Int32Array(total(parts.map(({ length }) => length - 1)) + 1);
  let at = 0;
  let end = 0;
  for (const part of parts) {
    for (let i = 1; i < part.length; i++) starts[at + i] = end + (part[i] as number);
    at += part.length - 1;
    end += part.at(-1) as number;
  }
  return starts;
}

function concatenated<A extends Int32Array | Float32Array>(
  parts: readonly A[],
  make: (length: number) => A,
): A {
  const whole = make(total(parts.map(({ length }) => length)));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const total = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);

/** The batch that samples make; offsets without the last end, [B] or [U]. */
export function batchOf({ count, dense, denseFeatures, bags, users }: Samples): DlrmRequest {
  return {
    batchSize: count,
    dense,
    denseFeatures,
    bags: bags.map(
      ({ offsets, ...rest }): Bags => ({ ...rest, offsets: offsets.subarray(0, offsets.length - 1) }),
    ),
    ...(users === undefined ? {} : { users }),
  };
}
