/** Requests in arrays of JavaScript, copied into a slot: for forms whose arrays cannot stay as they were received. */
import type { Bags } from '../../embedding/bag.ts';
import { DeviceError, RequestError } from '../../errors.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { type BagsAt, type RecordDescription, type SlotView, writeRecord } from './record.ts';
import type { RecordModel } from './record-model.ts';

/** Arrays start at multiples of this in the slot. */
const ALIGNMENT = 8;

/** Bytes that a request's arrays take, one behind the other. */
export function appendedBytes({ dense, bags, users }: DlrmRequest): number {
  let bytes = aligned(dense.byteLength) + aligned(users?.byteLength ?? 0);
  for (const { indices, offsets, weights } of bags)
    bytes += aligned(indices.byteLength) + aligned(offsets.byteLength) + aligned(weights?.byteLength ?? 0);
  return bytes;
}

/**
 * Copies a request's arrays into the slot, from byte `from` on (default: behind the header; rounded up to 8), and writes the header of
 * its record. Gives back where the arrays end. What does not depend on values is checked here, the values are by `checkRecord`.
 * @throws RequestError TABLE_MISSING, TABLE_UNEXPECTED, TENSOR_SHAPE, USERS_INVALID; DeviceError OUT_OF_MEMORY for a slot that is too
 *   small.
 */
export function appendRequest(
  model: RecordModel,
  slot: SlotView,
  request: DlrmRequest,
  from = model.headerBytes,
): number {
  checkShapes(model, request);
  let end = aligned(from);
  const bytes = end + appendedBytes(request);
  if (bytes > slot.bytes.length)
    throw new DeviceError(
      'OUT_OF_MEMORY',
      `a request takes ${bytes} bytes, and its slot has ${slot.bytes.length}`,
    );
  const put = (array: ArrayBufferView): number => {
    const start = end;
    slot.bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), start);
    end = aligned(start + array.byteLength);
    return start;
  };
  const { batchSize, dense, bags, users } = request;
  const description: RecordDescription = {
    samples: batchSize,
    denseAt: put(dense),
    tables: bags.map((own) => putBags(put, own, batchSize, users)),
    ...(users && { users: { count: users.length - 1, startsAt: put(users), denseFeatures: 0, denseAt: 0 } }),
  };
  writeRecord(model, slot, description);
  return end;
}

function putBags(
  put: (array: ArrayBufferView) => number,
  { indices, offsets, weights, perUser = false }: Bags,
  samples: number,
  users: Int32Array | undefined,
): BagsAt {
  const count = perUser ? (users?.length ?? 1) - 1 : samples;
  return {
    indices: { at: put(indices), int64: indices instanceof BigInt64Array },
    lookups: indices.length,
    bounds: {
      kind: 'offsets',
      at: put(offsets),
      int64: offsets instanceof BigInt64Array,
      hasEnd: offsets.length > count,
    },
    ...(weights && { weightsAt: put(weights) }),
    perUser,
  };
}

function checkShapes(model: RecordModel, { batchSize, dense, bags, users }: DlrmRequest): void {
  const { tables, denseFeatures } = model;
  const shape = (tensor: string, given: number, expected: string, table?: number): never => {
    const where = table === undefined ? '' : `table ${table} (${tables[table]?.name}): `;
    const message = `${where}${tensor} has ${given} elements, expected ${expected}`;
    throw new RequestError('TENSOR_SHAPE', message, { tensor, ...(table === undefined ? {} : { table }) });
  };
  if (dense.length !== batchSize * denseFeatures)
    shape('dense', dense.length, `[${batchSize}, ${denseFeatures}]`);
  if (bags.length !== tables.length) {
    const message = `the request has bags for ${bags.length} tables, the model has ${tables.length}`;
    throw new RequestError(bags.length < tables.length ? 'TABLE_MISSING' : 'TABLE_UNEXPECTED', message, {
      table: Math.min(bags.length, tables.length),
    });
  }
  if (users?.length === 0)
    throw new RequestError('USERS_INVALID', 'users is empty, must begin with 0', { tensor: 'users' });
  bags.forEach(({ indices, offsets, weights, perUser }, t) => {
    if (perUser === true && users === undefined) {
      const message = `table ${t} (${tables[t]?.name}): it has a bag per user, and the request names no users`;
      throw new RequestError('USERS_INVALID', message, { table: t, tensor: `offsets.${t}` });
    }
    const count = perUser === true ? (users?.length ?? 1) - 1 : batchSize;
    if (offsets.length !== count && offsets.length !== count + 1)
      shape(`offsets.${t}`, offsets.length, `${count} or ${count + 1}`, t);
    if (weights !== undefined && weights.length !== indices.length)
      shape(`weights.${t}`, weights.length, `${indices.length}`, t);
  });
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
