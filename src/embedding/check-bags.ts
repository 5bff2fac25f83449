/** Batches of callers, checked and copied before they are placed: all that does not depend on index values. */
import { isArrayOf, isIntegerArray, lengthOf, unreadable } from '../checks/array.ts';
import {
  isList,
  isRecord,
  reading,
  refuseKey,
  refuseOption,
  shown,
  unreadableValue,
} from '../checks/value.ts';
import { RequestError, type RequestErrorCode } from '../errors.ts';
import { type BagBatch, type Bags, bagCount, type EmbeddingTable, type IndexArray } from './bag.ts';

/** The most samples of a batch: users' starts are int32. */
export const MOST_SAMPLES = 2 ** 31 - 1;

/** Of a batch, and of a request, which is one. */
const BATCH_MEMBERS: ReadonlySet<string> = new Set(['batchSize', 'bags', 'users', 'dense', 'denseFeatures']);
const BAGS_MEMBERS: readonly (keyof Bags)[] = ['indices', 'offsets', 'weights', 'perUser'];

/** Of bags. As comparisons, since it is asked of every table of every batch. */
function isMember(name: string): name is keyof Bags {
  return name === 'indices' || name === 'offsets' || name === 'weights' || name === 'perUser';
}

/** Of arrays of so few elements, to ask for the memory would take longer than to copy it, which is what devices do. */
const FEW_ELEMENTS = 8;

/**
 * The batch that a value is, read once: number of tables, users, lengths, dtypes, weights are as they must be. Arrays of
 * lookups are the caller's own, `users` is a copy.
 * @throws RequestError TABLE_MISSING, TABLE_UNEXPECTED, USERS_INVALID, TENSOR_SHAPE, TENSOR_DTYPE, TENSOR_UNEXPECTED;
 *   UsageError OPTION_INVALID for what is no batch at all.
 */
export function checkBagShapes(tables: readonly EmbeddingTable[], batch: BagBatch): BagBatch {
  try {
    return readBatch(tables, batch);
  } catch (cause) {
    return unreadableValue('batch', cause);
  }
}

function readBatch(tables: readonly EmbeddingTable[], batch: BagBatch): BagBatch {
  if (!isRecord(batch)) return refuseOption('batch', batch, 'an object with batchSize and bags');
  for (const member in batch) if (!BATCH_MEMBERS.has(member)) refuseKey('batch', member, BATCH_MEMBERS);
  const { batchSize, bags, users } = batch as BagBatch;
  checkBatchSize(batchSize);
  if (!isList(bags)) return refuseOption('bags', bags, 'a list with bags for each table');
  checkTableCount(tables, bags.length);
  const sized: Omit<BagBatch, 'bags'> =
    users === undefined ? { batchSize } : { batchSize, users: checkUsers({ users, batchSize }) };
  const checked = tables.map((table, t) => checkBags(table, bags[t] as Bags | undefined, t, sized));
  // Not spread: `sized` is spread by V8's slow way, for each batch.
  return sized.users === undefined
    ? { batchSize, bags: checked }
    : { batchSize, users: sized.users, bags: checked };
}

/**
 * The number of offsets once more, as it is where they are used: a property of the array may have said otherwise before, and a
 * getter of a later table's bags may have transferred it.
 * @throws RequestError TENSOR_SHAPE.
 */
export function checkOffsetCount(
  given: number,
  own: Bags,
  t: number,
  batch: Pick<BagBatch, 'batchSize' | 'users'>,
): void {
  const count = bagCount(own, batch);
  if (given === count || given === count + 1) return;
  const message = `table ${t}: ${given} offsets for ${count} bags, which is not what was said before`;
  throw new RequestError('TENSOR_SHAPE', message, { table: t, tensor: `offsets.${t}` });
}

/** An array of lookups has another length than it was said to have. */
export function changedLength(): RequestError {
  return new RequestError('TENSOR_SHAPE', 'the length of an array of lookups is not what it was said to be');
}

/** A batch size. @throws RequestError TENSOR_SHAPE. */
export function checkBatchSize(batchSize: unknown): number {
  if (Number.isSafeInteger(batchSize) && (batchSize as number) >= 0 && (batchSize as number) <= MOST_SAMPLES)
    return batchSize as number;
  const message = `a batch size of ${shown(batchSize)} is no whole number from 0 to ${MOST_SAMPLES}`;
  throw new RequestError('TENSOR_SHAPE', message, { tensor: 'batchSize' });
}

function checkTableCount(tables: readonly EmbeddingTable[], given: number): void {
  if (given === tables.length) return;
  const counts = `the request has bags for ${given} tables, the model has ${tables.length}`;
  const missing = tables[given];
  if (missing !== undefined) {
    const message = `${counts}: table ${given} (${missing.name}) is missing`;
    throw new RequestError('TABLE_MISSING', message, { table: given });
  }
  throw new RequestError('TABLE_UNEXPECTED', counts, { table: tables.length });
}

/** A copy of the users of a batch. @throws RequestError USERS_INVALID, TENSOR_DTYPE. */
export function checkUsers(given: { readonly users: Int32Array; readonly batchSize: number }): Int32Array {
  if (!reading('users', () => isArrayOf(given.users, 'Int32Array')))
    throw new RequestError('TENSOR_DTYPE', 'users must be int32', { tensor: 'users' });
  const reason = unreadable(given.users);
  if (reason !== undefined)
    throw new RequestError('TENSOR_DTYPE', `the array of users ${reason}`, { tensor: 'users' });
  const users = new Int32Array(given.users);
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
  const { batchSize } = given;
  if (before !== batchSize)
    fail(`users[${last}] = ${before}, must be the batch size, ${batchSize}`, last, before);
  return users;
}

function checkBags(
  table: EmbeddingTable,
  own: Bags | undefined,
  t: number,
  batch: Pick<BagBatch, 'batchSize' | 'users'>,
): Bags {
  if (typeof own !== 'object' || own === null) {
    const message = `its bags are ${shown(own)}, expected an object with indices and offsets`;
    throw bagsError(table, t, 'TENSOR_MISSING', 'indices', message);
  }
  for (const member in own)
    if (!isMember(member)) refuseKey(`table ${t} (${table.name})`, member, BAGS_MEMBERS);
  const { indices, offsets, weights, perUser } = own;
  checkIndexArray(table, t, 'indices', indices);
  checkIndexArray(table, t, 'offsets', offsets);
  if (perUser !== undefined && typeof perUser !== 'boolean')
    refuseOption(`table ${t} (${table.name}): perUser`, perUser, 'true or false');
  const perUsers = perUser === true;
  if (perUsers && batch.users === undefined) {
    const message = 'it has a bag per user, and the request names no users';
    throw bagsError(table, t, 'USERS_INVALID', 'offsets', message);
  }
  const count = perUsers ? bagCount({ indices, offsets, perUser }, batch) : batch.batchSize;
  if (offsets.length !== count && offsets.length !== count + 1) {
    const of = perUsers ? `${count} users` : `a batch of ${count}`;
    const message = `${offsets.length} offsets for ${of}; expected ${count} or ${count + 1}`;
    throw bagsError(table, t, 'TENSOR_SHAPE', 'offsets', message);
  }
  if (weights !== undefined) {
    checkWeights(table, weights, t, indices.length);
    return perUsers ? { indices, offsets, weights, perUser } : { indices, offsets, weights };
  }
  return perUsers ? { indices, offsets, perUser } : { indices, offsets };
}

function checkIndexArray(
  table: EmbeddingTable,
  t: number,
  part: 'indices' | 'offsets',
  array: unknown,
): void {
  if (!isIntegerArray(array))
    throw bagsError(table, t, 'TENSOR_DTYPE', part, `${part} must be int32 or int64`);
  checkMemory(table, t, part, array);
}

function checkMemory(
  table: EmbeddingTable,
  t: number,
  part: keyof Bags,
  array: IndexArray | Float32Array,
): void {
  if (array.length > 0 && array.length <= FEW_ELEMENTS) return;
  const reason = unreadable(array);
  if (reason !== undefined) throw bagsError(table, t, 'TENSOR_DTYPE', part, `the array of ${part} ${reason}`);
}

function checkWeights(table: EmbeddingTable, weights: unknown, t: number, lookups: number): void {
  if (!isArrayOf(weights, 'Float32Array'))
    throw bagsError(table, t, 'TENSOR_DTYPE', 'weights', 'weights must be float32');
  checkMemory(table, t, 'weights', weights);
  const given = lengthOf(weights);
  if (given !== lookups)
    throw bagsError(table, t, 'TENSOR_SHAPE', 'weights', `${given} weights for ${lookups} lookups`);
  if (table.mode !== 'sum') {
    const message = `per-sample weights need mode sum, not ${table.mode}`;
    throw bagsError(table, t, 'TENSOR_UNEXPECTED', 'weights', message);
  }
  if (table.rowWeights !== undefined) {
    const message = 'the table has learned pooling weights, so its bags cannot bring their own';
    throw bagsError(table, t, 'TENSOR_UNEXPECTED', 'weights', message);
  }
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
