/**
 * The embedding-bag operator: what goes in, what comes out, and what is refused. Semantics are those of
 * torch.nn.EmbeddingBag, the same on every device.
 *
 *   output[b, :] = pool over i in [offsets[b], offsets[b + 1]) of  weight[i] · table[indices[i], :]
 *
 * - `sum`, `mean` and `max`; rows of any format, always accumulated in float32.
 * - `paddingIdx` is left out of the reduction and of the mean's count; an empty bag gives zeros, `max` included.
 * - of a `pruned` table, index −1 is left out of the reduction, but not of the mean's count; a bag of nothing else gives zeros.
 * - per-sample weights go with `sum` alone.
 * - offsets have B entries, or B + 1 with the end of the last bag.
 * - a table whose bags are per user has U of them: bag u is pooled once, and every candidate of user u gets the result.
 */
import { RequestError, type RequestErrorCode } from '../errors.ts';
import { elementCount, type Tensor } from '../tensor.ts';
import { type RowFormat, weightShape } from './row-format.ts';

export { ROW_FORMATS, type RowFormat, rowBytes } from './row-format.ts';

export type PoolingMode = 'sum' | 'mean' | 'max';

/**
 * What happens to a bad index (outside [0, rows), and not the −1 of a pruned row) or offset (first not 0, decreasing, past the end):
 * - `error`: the call fails before any work and names table, position and value;
 * - `warn`: an index reads row 0, bag bounds are clamped into [0, lookups], and the counts are reported;
 * - `ignore`: the same, silently;
 * - `none`: nothing is checked; bad input is undefined behaviour.
 * The caller's tensors are never written.
 */
export type IndexChecking = 'error' | 'warn' | 'ignore' | 'none';

export const INDEX_CHECKING: readonly IndexChecking[] = ['error', 'warn', 'ignore', 'none'];

/** One embedding table, as one feature reads it. Features on one table have the same `weight`, and share its memory. */
export interface EmbeddingTable {
  readonly name: string;
  /** [rows, dim] of `rowFormat`; of quantised rows, uint8 [rows, rowBytes]. */
  readonly weight: Tensor;
  readonly rows: number;
  readonly dim: number;
  readonly rowFormat: RowFormat;
  readonly mode: PoolingMode;
  /** A row that lookups skip. */
  readonly paddingIdx?: number;
  /** Whether index −1 stands for a pruned row: it contributes nothing and still counts for the mean. Default: it is a bad index. */
  readonly pruned?: boolean;
  /** [rows], a learned pooling weight per row (facebookresearch/dlrm's `v_W_l`); `sum` only. */
  readonly rowWeights?: Float32Array;
}

export type IndexArray = Int32Array | BigInt64Array;

/** The bags of one table for one batch. */
export interface Bags {
  /** [lookups]. */
  readonly indices: IndexArray;
  /** [B] or [B + 1], or by users [U] or [U + 1]: where each bag starts in `indices`. */
  readonly offsets: IndexArray;
  /** [lookups], per-sample weights. */
  readonly weights?: Float32Array;
  /** True: a bag per user of the batch, offsets [U] or [U + 1]; all candidates of a user get its pooled row. */
  readonly perUser?: boolean;
}

/** Lookups of one batch into every table of a collection, in the collection's table order. */
export interface BagBatch {
  /** B, the number of samples. */
  readonly batchSize: number;
  readonly bags: readonly Bags[];
  /** [U + 1], from 0 to B: the candidates of user u are the samples [users[u], users[u + 1]). */
  readonly users?: Int32Array;
}

/** U; 0 where a batch does not say. */
export function userCount({ users }: Pick<BagBatch, 'users'>): number {
  return users === undefined ? 0 : users.length - 1;
}

/** How many bags a table has: one a user, or one a sample. */
export function bagCount({ perUser }: Bags, batch: Pick<BagBatch, 'batchSize' | 'users'>): number {
  return perUser === true ? userCount(batch) : batch.batchSize;
}

/** What index checking found in a batch (in `warn` mode); nothing found is `badIndices` = `badOffsets` = 0. */
export interface BagFindings {
  readonly badIndices: number;
  readonly badOffsets: number;
  /** The first finding, as the error that `error` mode would have thrown. */
  readonly first?: RequestError;
}

/**
 * Checks that `table` is consistent.
 * @throws RequestError TENSOR_SHAPE, TENSOR_DTYPE when weight, rows, dim, padding index or row weights disagree.
 */
export function checkTable(table: EmbeddingTable): void {
  const { name, weight, rows, dim } = table;
  const fail = (message: string, hint?: string): never => {
    throw new RequestError('TENSOR_SHAPE', `table ${name}: ${message}`, {
      tensor: name,
      ...(hint ? { hint } : {}),
    });
  };
  if (!Number.isSafeInteger(rows) || rows < 1) fail(`needs at least one row, has ${rows}`);
  if (!Number.isSafeInteger(dim) || dim < 1) fail(`needs a dim of at least 1, has ${dim}`);
  const expected = weightShape(table);
  if (weight.dtype !== expected.dtype) {
    throw new RequestError(
      'TENSOR_DTYPE',
      `table ${name}: weight is ${weight.dtype}, its row format, ${table.rowFormat}, takes ${expected.dtype}`,
      { tensor: name },
    );
  }
  const [count, width] = expected.shape;
  if (weight.shape.length !== 2 || weight.shape[0] !== count || weight.shape[1] !== width) {
    fail(`weight has shape [${weight.shape}], expected [${count}, ${width}]`);
  }
  if ('data' in weight && weight.data.length !== elementCount(weight.shape)) {
    fail(`weight holds ${weight.data.length} elements, expected ${elementCount(weight.shape)}`);
  }
  const { paddingIdx, rowWeights } = table;
  if (paddingIdx !== undefined && !(Number.isInteger(paddingIdx) && paddingIdx >= 0 && paddingIdx < rows)) {
    fail(`padding index ${paddingIdx} is not a row of [0, ${rows})`);
  }
  if (rowWeights !== undefined) {
    if (rowWeights.length !== rows) fail(`has ${rowWeights.length} learned pooling weights for ${rows} rows`);
    if (table.mode !== 'sum') fail(`learned pooling weights need mode sum, not ${table.mode}`);
  }
}

/**
 * Checks everything about a batch that does not depend on index values: number of tables, users, lengths, dtypes, weights.
 * @throws RequestError TABLE_MISSING, TABLE_UNEXPECTED, USERS_INVALID, TENSOR_SHAPE, TENSOR_DTYPE.
 */
export function checkBagShapes(tables: readonly EmbeddingTable[], batch: BagBatch): void {
  const { bags } = batch;
  const counts = `the request has bags for ${bags.length} tables, the model has ${tables.length}`;
  const missing = tables[bags.length];
  if (missing !== undefined) {
    throw new RequestError('TABLE_MISSING', `${counts}: table ${bags.length} (${missing.name}) is missing`, {
      table: bags.length,
    });
  }
  if (bags.length > tables.length)
    throw new RequestError('TABLE_UNEXPECTED', counts, { table: tables.length });
  checkUsers(batch);
  bags.forEach((own, t) => {
    checkBags(tables[t] as EmbeddingTable, own, t, batch);
  });
}

/** Checks the users of a batch, if there are any. @throws RequestError USERS_INVALID, TENSOR_DTYPE. */
export function checkUsers({ users, batchSize }: Pick<BagBatch, 'users' | 'batchSize'>): void {
  if (users === undefined) return;
  if (!(users instanceof Int32Array))
    throw new RequestError('TENSOR_DTYPE', 'users must be int32', { tensor: 'users' });
  const fail = (message: string, position: number, value?: number): never => {
    const details = { tensor: 'users', position, ...(value === undefined ? {} : { value }) };
    throw new RequestError('USERS_INVALID', message, details);
  };
  if (users.length === 0) fail('users is empty, must begin with 0', 0);
  let before = 0;
  for (let u = 0; u < users.length; u++) {
    const start = users[u] as number;
    if (u === 0 && start !== 0) fail(`users[0] = ${start}, must be 0`, 0, start);
    if (start < before) fail(`users[${u}] = ${start} is less than users[${u - 1}] = ${before}`, u, start);
    before = start;
  }
  const last = users.length - 1;
  if (before !== batchSize)
    fail(`users[${last}] = ${before}, must be the batch size, ${batchSize}`, last, before);
}

function checkBags(
  table: EmbeddingTable,
  bags: Bags,
  t: number,
  batch: Pick<BagBatch, 'batchSize' | 'users'>,
): void {
  const { indices, offsets, weights, perUser } = bags;
  if (!isIndexArray(indices))
    throw bagsError(table, t, 'TENSOR_DTYPE', 'indices', 'indices must be int32 or int64');
  if (!isIndexArray(offsets))
    throw bagsError(table, t, 'TENSOR_DTYPE', 'offsets', 'offsets must be int32 or int64');
  if (perUser === true && batch.users === undefined) {
    const message = 'it has a bag per user, and the request names no users';
    throw bagsError(table, t, 'USERS_INVALID', 'offsets', message);
  }
  const count = bagCount(bags, batch);
  if (offsets.length !== count && offsets.length !== count + 1) {
    const of = perUser === true ? `${count} users` : `a batch of ${count}`;
    const message = `${offsets.length} offsets for ${of}; expected ${count} or ${count + 1}`;
    throw bagsError(table, t, 'TENSOR_SHAPE', 'offsets', message);
  }
  if (weights !== undefined) checkWeights(table, weights, t, indices.length);
}

function checkWeights(table: EmbeddingTable, weights: unknown, t: number, lookups: number): void {
  if (!(weights instanceof Float32Array))
    throw bagsError(table, t, 'TENSOR_DTYPE', 'weights', 'weights must be float32');
  if (weights.length !== lookups)
    throw bagsError(table, t, 'TENSOR_SHAPE', 'weights', `${weights.length} weights for ${lookups} lookups`);
  if (table.mode !== 'sum') {
    const message = `per-sample weights need mode sum, not ${table.mode}`;
    throw bagsError(table, t, 'TENSOR_UNEXPECTED', 'weights', message);
  }
  if (table.rowWeights !== undefined) {
    const message = 'the table has learned pooling weights, so its bags cannot bring their own';
    throw bagsError(table, t, 'TENSOR_UNEXPECTED', 'weights', message);
  }
}

function isIndexArray(array: unknown): array is IndexArray {
  return array instanceof Int32Array || array instanceof BigInt64Array;
}

function bagsError(
  table: EmbeddingTable,
  t: number,
  code: RequestErrorCode,
  part: keyof Bags,
  message: string,
): RequestError {
  return new RequestError(code, `table ${t} (${table.name}): ${message}`, {
    table: t,
    tensor: `${part}.${t}`,
  });
}

/** What is wrong with one index or offset. `limit` is the row count, the lookups, or the offset before. */
export interface BagFault {
  readonly kind: 'index-out-of-range' | 'first-offset-not-zero' | 'offsets-decrease' | 'offset-past-end';
  readonly table: number;
  readonly position: number;
  readonly value: bigint;
  readonly limit: number | bigint;
}

const PRUNED_HINT =
  'an index of -1 is FBGEMM\'s mark of a pruned row: where it is one, say `"pruned": true` for the feature in the model description (API: EmbeddingTable.pruned); else correct the index';

/** The error that names a fault: the same text on every device. */
export function bagFaultError(fault: BagFault, tableName: string): RequestError {
  const { table, position, value, limit } = fault;
  const where = `table ${table} (${tableName})`;
  const details = { table, position, value };
  switch (fault.kind) {
    case 'index-out-of-range':
      return new RequestError(
        'INDEX_OUT_OF_RANGE',
        `${where}: indices[${position}] = ${value} is not a row of [0, ${limit})`,
        {
          ...details,
          tensor: `indices.${table}`,
          ...(value === -1n ? { hint: PRUNED_HINT } : {}),
        },
      );
    case 'first-offset-not-zero':
      return new RequestError('OFFSETS_INVALID', `${where}: offsets[0] = ${value}, must be 0`, {
        ...details,
        tensor: `offsets.${table}`,
      });
    case 'offsets-decrease':
      return new RequestError(
        'OFFSETS_INVALID',
        `${where}: offsets[${position}] = ${value} is less than offsets[${position - 1}] = ${limit}`,
        {
          ...details,
          tensor: `offsets.${table}`,
        },
      );
    case 'offset-past-end':
      return new RequestError(
        'OFFSETS_INVALID',
        `${where}: offsets[${position}] = ${value} is past the end of ${limit} lookups`,
        {
          ...details,
          tensor: `offsets.${table}`,
        },
      );
    default:
      return fault.kind satisfies never;
  }
}
