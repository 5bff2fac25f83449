/** Tables of callers, checked and copied before anything is placed. */
import { isArrayOf, lengthOf, plainArray, unreadable } from '../checks/array.ts';
import { checkTensor } from '../checks/tensor.ts';
import { isList, isRecord, reading, refuseKey, refuseOption, shown } from '../checks/value.ts';
import { RequestError, type RequestErrorCode } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import { type EmbeddingTable, POOLING_MODES, type PoolingMode } from './bag.ts';
import { ROW_FORMATS, type RowFormat, weightShape } from './row-format.ts';
import { checkSharing } from './shared-tables.ts';

/** The most rows and the widest row: sizes of tables stay exact numbers. */
export const MOST_ROWS = 2 ** 47;
export const MOST_DIM = 2 ** 31 - 1;

const MEMBERS: ReadonlySet<string> = new Set<keyof EmbeddingTable>([
  'name',
  'weight',
  'rows',
  'dim',
  'rowFormat',
  'mode',
  'paddingIdx',
  'pruned',
  'rowWeights',
]);

/** What checkTables gave. */
const checked = new WeakSet<object>();

/**
 * The tables that a value is, each read once, frozen; those with one weight still have one.
 * @throws RequestError TABLE_MISSING without any; TENSOR_SHAPE, TENSOR_DTYPE when weight, rows, dim, row format, mode, padding
 *   index or row weights are not what they must be, or disagree; UsageError OPTION_INVALID for members that tables do not have.
 */
export function checkTables(value: unknown): readonly EmbeddingTable[] {
  if (typeof value === 'object' && value !== null && checked.has(value))
    return value as readonly EmbeddingTable[];
  if (!isList(value)) return refuseOption('tables', value, 'a list of tables');
  const weights = new Map<unknown, Tensor>();
  const tables = reading('tables', () => Array.from(value, (table) => checkTable(table, weights)));
  if (tables.length === 0)
    throw new RequestError('TABLE_MISSING', 'an embedding collection needs at least one table');
  checkSharing(tables);
  checked.add(tables);
  return Object.freeze(tables);
}

/** One table. `weights`: what the weights of tables before became. @throws as checkTables. */
export function checkTable(value: unknown, weights = new Map<unknown, Tensor>()): EmbeddingTable {
  if (!isRecord(value)) return refuseOption('tables', value, 'an object for each table');
  return reading('tables', () => readTable(value, weights));
}

function readTable(value: Readonly<Record<string, unknown>>, weights: Map<unknown, Tensor>): EmbeddingTable {
  const { name, weight: given, rows, dim, rowFormat, mode, paddingIdx, pruned, rowWeights } = value;
  if (typeof name !== 'string') return refuseOption('table: name', name, 'a string');
  const fail: Fail = (message, code = 'TENSOR_SHAPE') => {
    throw new RequestError(code, `table ${name}: ${message}`, { tensor: name });
  };
  const other = Object.keys(value).find((key) => !MEMBERS.has(key));
  if (other !== undefined) refuseKey(`table ${name}`, other, MEMBERS);
  if (!isSize(rows, MOST_ROWS)) return fail(`needs at least one row, has ${shown(rows)}`);
  if (!isSize(dim, MOST_DIM)) return fail(`needs a dim of at least 1, has ${shown(dim)}`);
  if (!ROW_FORMATS.includes(rowFormat as RowFormat))
    return fail(`row format ${shown(rowFormat)} is none of ${ROW_FORMATS.join(', ')}`, 'TENSOR_DTYPE');
  if (!POOLING_MODES.includes(mode as PoolingMode))
    return refuseOption(`table ${name}: mode`, mode, `one of ${POOLING_MODES.join(', ')}`);
  const shape = { rows, dim, rowFormat: rowFormat as RowFormat };
  const weight = checkWeight(given, shape, name, fail, weights);
  if (paddingIdx !== undefined && !(isSize(paddingIdx, rows - 1) || paddingIdx === 0))
    return fail(`padding index ${shown(paddingIdx)} is not a row of [0, ${rows})`);
  if (pruned !== undefined && typeof pruned !== 'boolean')
    return refuseOption(`table ${name}: pruned`, pruned, 'true or false');
  return Object.freeze({
    name,
    weight,
    ...shape,
    mode: mode as PoolingMode,
    ...(paddingIdx === undefined ? {} : { paddingIdx: paddingIdx + 0 }),
    ...(pruned === undefined ? {} : { pruned }),
    ...(rowWeights === undefined
      ? {}
      : { rowWeights: checkRowWeights(rowWeights, { rows, mode: mode as PoolingMode }, fail) }),
  });
}

type Fail = (message: string, code?: RequestErrorCode) => never;

function isSize(value: unknown, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= most;
}

function checkWeight(
  given: unknown,
  shape: Pick<EmbeddingTable, 'rows' | 'dim' | 'rowFormat'>,
  name: string,
  fail: Fail,
  known: Map<unknown, Tensor>,
): Tensor {
  const weight = known.get(given) ?? checkTensor(given, `table ${name}: weight`, name);
  known.set(given, weight);
  const expected = weightShape(shape);
  if (weight.dtype !== expected.dtype)
    fail(
      `weight is ${weight.dtype}, its row format, ${shape.rowFormat}, takes ${expected.dtype}`,
      'TENSOR_DTYPE',
    );
  const [count, width] = expected.shape;
  if (weight.shape.length !== 2 || weight.shape[0] !== count || weight.shape[1] !== width)
    fail(`weight has shape [${weight.shape}], expected [${count}, ${width}]`);
  return weight;
}

function checkRowWeights(
  given: unknown,
  { rows, mode }: Pick<EmbeddingTable, 'rows' | 'mode'>,
  fail: Fail,
): Float32Array {
  if (!isArrayOf(given, 'Float32Array'))
    return fail(
      `learned pooling weights must be float32, in a Float32Array, not ${shown(given)}`,
      'TENSOR_DTYPE',
    );
  const reason = unreadable(given);
  if (reason !== undefined) fail(`learned pooling weights: the array ${reason}`, 'TENSOR_DTYPE');
  if (lengthOf(given) !== rows) fail(`has ${lengthOf(given)} learned pooling weights for ${rows} rows`);
  if (mode !== 'sum') fail(`learned pooling weights need mode sum, not ${mode}`);
  return plainArray(given);
}
