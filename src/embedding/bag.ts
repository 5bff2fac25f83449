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
import { RequestError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import type { RowFormat } from './row-format.ts';

export { ROW_FORMATS, type RowFormat, rowBytes } from './row-format.ts';

export type PoolingMode = 'sum' | 'mean' | 'max';

export const POOLING_MODES: readonly PoolingMode[] = Object.freeze(['sum', 'mean', 'max'] as const);

/**
 * What happens to a bad index (outside [0, rows), and not the −1 of a pruned row) or offset (first not 0, decreasing, past the end):
 * - `error`: the call fails before any work and names table, position and value;
 * - `warn`: an index reads row 0, bag bounds are clamped into [0, lookups], and the counts are reported;
 * - `ignore`: the same, silently;
 * - `none`: nothing is checked; bad input is undefined behaviour.
 * The caller's tensors are never written.
 */
export type IndexChecking = 'error' | 'warn' | 'ignore' | 'none';

export const INDEX_CHECKING: readonly IndexChecking[] = Object.freeze([
  'error',
  'warn',
  'ignore',
  'none',
] as const);

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

/** How many bags a table has: one per user, or one per sample. */
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
