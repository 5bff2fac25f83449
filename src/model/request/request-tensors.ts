/** Tensors of a request, in a file or in memory, and what is read from them. */
import type { IndexArray } from '../../embedding/bag.ts';
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import { readTensor } from '../../stored-tensor.ts';
import { type HostTensor, isHost, type StoredTensor, toFloat32 } from '../../tensor.ts';
import type { Ids } from './id-mapping.ts';
import type { RawColumn } from './request-parts.ts';

/** Ids that are strings, as JSON gives them: of `values.{feature}`. */
export interface StringTensor {
  readonly dtype: 'string';
  readonly shape: readonly number[];
  /** As many as the shape says. */
  readonly strings: readonly string[];
}

/** A tensor of a request. */
export type RequestTensor = StoredTensor | HostTensor | StringTensor;

/** A raw dense feature [B]. */
export async function rawColumn(name: string, stored: RequestTensor): Promise<RawColumn> {
  const tensor = await vector(name, stored);
  const { dtype, data } = tensor;
  if (data instanceof Float64Array) return data;
  if (data instanceof Int32Array) return Float64Array.from(data);
  if (data instanceof BigInt64Array) return Float64Array.from(data, Number);
  if (dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16') return toFloat32(tensor);
  return fail('TENSOR_DTYPE', name, `${name} is ${dtype}, must be floating point, int32 or int64`);
}

export async function vector(name: string, stored: RequestTensor): Promise<HostTensor> {
  if (stored.shape.length !== 1)
    fail('TENSOR_SHAPE', name, `${name} has shape [${stored.shape}], must have one dimension`);
  return numbersOf(name, stored);
}

/** A tensor of numbers, in memory. */
export async function numbersOf(name: string, tensor: RequestTensor): Promise<HostTensor> {
  if ('strings' in tensor)
    fail('TENSOR_DTYPE', name, `${name} is of strings`, 'strings are ids: they stand in values.{feature}');
  return isHost(tensor) ? tensor : readTensor(tensor);
}

/** Ids of one feature. */
export async function idsOf(name: string, tensor: RequestTensor): Promise<Ids> {
  return 'strings' in tensor ? tensor.strings : integers(name, await numbersOf(name, tensor));
}

export function integers(name: string, { dtype, data }: HostTensor): IndexArray {
  if (data instanceof Int32Array || data instanceof BigInt64Array) return data;
  return fail('TENSOR_DTYPE', name, `${name} is ${dtype}, must be int32 or int64`);
}

/** @throws RequestError naming the tensor. */
export function fail(code: RequestErrorCode, tensor: string, message: string, hint?: string): never {
  throw new RequestError(code, message, { tensor, ...(hint === undefined ? {} : { hint }) });
}
