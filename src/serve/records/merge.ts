/** Several requests as one batch. */
import { at } from '../../at.ts';
import type { Bags } from '../../embedding/bag.ts';
import { RequestError } from '../../errors.ts';
import { type HostPtr, NULL_PTR } from '../../ffi/host-memory.ts';
import { hasWideIndices, type MergeStatus, type RequestMerge } from '../../ffi/merge-requests.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import type { BatchMemory } from './batch-memory.ts';
import type { RecordModel, RecordTable } from './record-model.ts';

export interface MergedBatch {
  /** Its arrays lie in the batch's memory. */
  readonly request: DlrmRequest;
  /** [records + 1]: record r is the samples [starts[r], starts[r + 1]), and so are the rows of each output. */
  readonly starts: Int32Array;
}

/**
 * Merges checked records, in their order, into the memory, which grows when needed. The arrays of the batch before in the same memory
 * hold other values then, or none.
 * @throws RequestError TENSOR_SHAPE for more samples, or lookups of a table, than int32 counts; DeviceError OUT_OF_MEMORY.
 */
export function mergeRecords(
  model: RecordModel,
  slots: readonly HostPtr[],
  memory: BatchMemory,
): MergedBatch {
  const { merge } = model;
  let status = merge.run(slots, memory.block.address, memory.bytes);
  if (status === 'no-room') {
    memory.reserve(merge.bytes);
    status = merge.run(slots, memory.block.address, memory.bytes);
  }
  if (status !== 'done') refuse(status);
  return { request: mergedRequest(model, merge, memory), starts: merge.starts(slots.length) };
}

/** Bytes of memory that a batch of these checked records takes. @throws RequestError TENSOR_SHAPE. */
export function bytesFor(model: RecordModel, slots: readonly HostPtr[]): number {
  const status = model.merge.run(slots, NULL_PTR, 0);
  if (status !== 'no-room') refuse(status);
  return model.merge.bytes;
}

function refuse(status: MergeStatus): never {
  if (status === 'too-large') {
    const message = 'requests of more than 2147483647 samples, or lookups of a table, cannot be one batch';
    throw new RequestError('TENSOR_SHAPE', message);
  }
  throw new TypeError(`records cannot be merged: ${status}`);
}

function mergedRequest(model: RecordModel, merge: RequestMerge, memory: BatchMemory): DlrmRequest {
  const { tables, denseFeatures } = model;
  const { buffer, start } = memory.block;
  const { samples, users } = merge;
  const bags: Bags[] = [];
  for (let t = 0; t < tables.length; t++) bags.push(mergedBags(at(tables, t), t, merge, buffer, start));
  const dense = new Float32Array(buffer, start + merge.denseAt, samples * denseFeatures);
  if (users === 0) return { batchSize: samples, dense, denseFeatures, bags };
  const starts = new Int32Array(buffer, start + merge.usersAt, users + 1);
  return { batchSize: samples, dense, denseFeatures, bags, users: starts };
}

function mergedBags(
  { rows }: RecordTable,
  t: number,
  merge: RequestMerge,
  buffer: ArrayBuffer,
  start: number,
): Bags {
  const lookups = merge.lookups(t);
  const indicesAt = start + merge.indicesAt(t);
  const indices = hasWideIndices(rows)
    ? new BigInt64Array(buffer, indicesAt, lookups)
    : new Int32Array(buffer, indicesAt, lookups);
  const offsets = new Int32Array(buffer, start + merge.offsetsAt(t), merge.bags(t) + 1);
  const weightsAt = merge.weightsAt(t);
  const perUser = merge.isPerUser(t);
  if (weightsAt < 0) return perUser ? { indices, offsets, perUser } : { indices, offsets };
  const weights = new Float32Array(buffer, start + weightsAt, lookups);
  return perUser ? { indices, offsets, weights, perUser } : { indices, offsets, weights };
}
