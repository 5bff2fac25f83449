/**
 * Inference requests of the Open Inference Protocol, version 2: JSON that lists inputs, and behind it, in Triton's binary
 * extension, the bytes of those inputs that have a `binary_data_size`, in their order.
 */
import { shown } from '../../checks/value.ts';
import { RequestError } from '../../errors.ts';
import { type DType, elementBytes } from '../../tensor.ts';
import { datatypeOf } from './datatypes.ts';
import type { InferParameters, TensorRequest, WireTensor } from './infer-request.ts';
import { jsonTensor } from './json-tensor.ts';
import { invalid, listOf, objectOf, shortName } from './refuse.ts';
import { jsonParameters, refuseSharedMemory } from './request-parameters.ts';
import { decodeStrings } from './string-tensor.ts';

/** No tensor of a request has more than three dimensions. */
const MAX_RANK = 8;
/** More than a request by table has of any model's tables. */
const MAX_INPUTS = 1_000_000;
/** All tensors of a request are held in memory. */
const MAX_TENSOR_BYTES = 2 ** 32 - 1;

/**
 * The request that `value`, the body's JSON, says; bytes of tensors begin at `dataStart` and end where the body does.
 * @throws RequestError REQUEST_INVALID, TENSOR_DTYPE, TENSOR_SHAPE naming the tensor.
 */
export function tensorRequest(
  value: unknown,
  body: Uint8Array,
  dataStart: number,
  query: InferParameters,
): TensorRequest {
  const request = objectOf(value, 'the request');
  const { id, timeoutMicros, priority, outputs, binary } = jsonParameters(request, query);
  const inputs = listOf(request.inputs, 'inputs');
  if (inputs.length > MAX_INPUTS) invalid(`inputs has ${inputs.length} tensors`);
  const tensors = new Map<string, WireTensor>();
  let at = dataStart;
  for (let i = 0; i < inputs.length; i++) {
    const input = objectOf(inputs[i], `inputs[${i}]`);
    const { name } = input;
    if (typeof name !== 'string') return invalid(`inputs[${i}] has no name`);
    if (tensors.has(name)) invalid(`tensor ${shortName(name)} stands twice in inputs`, { tensor: name });
    const read = readInput(input, name, body, at);
    tensors.set(name, read.tensor);
    at = read.end;
  }
  if (at !== body.length)
    invalid(`${body.length - at} bytes are left in the body after its last tensor`, {
      hint: 'binary_data_size says how many bytes of the body each tensor takes',
    });
  const metadata = metadataOf(request);
  // Not spread: every request gets the shape that the compiled code knows.
  return { id, timeoutMicros, priority, outputs, binary, body, tensors, metadata };
}

interface Read {
  readonly tensor: WireTensor;
  /** Where the tensor's bytes end in the body. */
  readonly end: number;
}

function readInput(
  { datatype, shape: givenShape, parameters: given, data }: Readonly<Record<string, unknown>>,
  name: string,
  body: Uint8Array,
  at: number,
): Read {
  const what = shortName(name);
  const expected = tensorShape(name, datatype, givenShape);
  const parameters = objectOf(given, `the parameters of ${what}`);
  refuseSharedMemory(parameters, what);
  const { binary_data_size: bytes } = parameters;
  if (bytes === undefined) {
    if (data === undefined) invalid(`${what} has neither data nor a binary_data_size`, { tensor: name });
    const { dtype, shape, count } = expected;
    return { tensor: jsonTensor(data, dtype, shape, count, what), end: at };
  }
  if (data !== undefined) invalid(`${what} has data and a binary_data_size`, { tensor: name });
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 0)
    return invalid(`${what}: binary_data_size is ${shown(bytes)}, no number of bytes`, { tensor: name });
  const end = at + bytes;
  if (end > body.length) {
    const hint = 'the body was cut off, or Inference-Header-Content-Length is wrong';
    invalid(`${what} takes ${bytes} bytes of the body, and ${body.length - at} are left`, {
      tensor: name,
      hint,
    });
  }
  return { tensor: tensorAt(expected, body, at, bytes, name), end };
}

/** What a tensor of a request is to hold. */
export interface TensorShape {
  /** As the request names it. */
  readonly datatype: string;
  readonly dtype: DType | 'string';
  readonly shape: readonly number[];
  /** Elements. */
  readonly count: number;
}

/** @throws RequestError TENSOR_DTYPE, TENSOR_SHAPE naming the tensor. */
export function tensorShape(name: string, datatype: unknown, givenShape: unknown): TensorShape {
  const what = shortName(name);
  const dtype = datatypeOf(datatype, what);
  const shape = shapeOf(givenShape, name);
  const size = dtype === 'string' ? 1 : elementBytes(dtype);
  const count = shape.reduce((product, extent) => product * extent, 1);
  // Exact where it is not too large, and finite in any case.
  if (count * size > MAX_TENSOR_BYTES)
    throw new RequestError('TENSOR_SHAPE', `${what} has shape [${shape}], 4 GiB or more`, { tensor: name });
  return { datatype: String(datatype), dtype, shape, count };
}

/** The tensor whose `bytes` bytes begin at `at` of the body. @throws RequestError REQUEST_INVALID, TENSOR_SHAPE naming it. */
export function tensorAt(
  { datatype, dtype, shape, count }: TensorShape,
  body: Uint8Array,
  at: number,
  bytes: number,
  name: string,
): WireTensor {
  const what = shortName(name);
  if (dtype === 'string') {
    const strings = decodeStrings(body.subarray(at, at + bytes), count, what);
    return { dtype, shape, strings };
  }
  const needed = count * elementBytes(dtype);
  if (bytes !== needed)
    throw new RequestError(
      'TENSOR_SHAPE',
      `${what}: shape [${shape}] of ${datatype} needs ${needed} bytes, it has ${bytes}`,
      { tensor: name },
    );
  return { dtype, shape, byteOffset: at, byteLength: bytes };
}

function shapeOf(value: unknown, tensor: string): readonly number[] {
  const isShape =
    Array.isArray(value) &&
    value.length <= MAX_RANK &&
    value.every((extent) => Number.isSafeInteger(extent) && extent >= 0);
  if (isShape) return value;
  throw new RequestError('TENSOR_SHAPE', `the shape of ${shortName(tensor)} is not a list of extents`, {
    tensor,
  });
}

/** Lists of features' names are strings of JSON, as parameters are in gRPC; or lists. */
export function metadataOf({
  parameters,
}: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const given = objectOf(parameters, 'parameters');
  const metadata: Record<string, string> = {};
  for (const key of ['features', 'user.features']) {
    const names = given[key];
    if (names !== undefined) metadata[key] = typeof names === 'string' ? names : JSON.stringify(names);
  }
  return metadata;
}
