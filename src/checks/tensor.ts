/** Tensors of callers: dtypes, shapes, and the bytes behind them. */
import { isDeepStrictEqual } from 'node:util';
import { RequestError, type RequestErrorCode } from '../errors.ts';
import {
  type AssembledTensor,
  DTYPES,
  type DType,
  elementBytes,
  type FileTensor,
  type HostTensor,
  type StoredTensor,
  type SyntheticTensor,
  type Tensor,
  type TensorData,
} from '../tensor.ts';
import { type ArrayName, arrayName, isArrayOf, lengthOf, plainArray, unreadable } from './array.ts';
import { isList, isRecord, reading, shown } from './value.ts';

/** The class of the array that holds elements of a dtype. */
const ARRAY_OF: Readonly<Record<DType, ArrayName>> = {
  bool: 'Uint8Array',
  uint8: 'Uint8Array',
  int8: 'Int8Array',
  float8_e4m3: 'Uint8Array',
  float8_e5m2: 'Uint8Array',
  int16: 'Int16Array',
  uint16: 'Uint16Array',
  float16: 'Uint16Array',
  bfloat16: 'Uint16Array',
  int32: 'Int32Array',
  uint32: 'Uint32Array',
  float32: 'Float32Array',
  int64: 'BigInt64Array',
  uint64: 'BigUint64Array',
  float64: 'Float64Array',
};

const SYNTHETIC_DTYPES: readonly SyntheticTensor['dtype'][] = ['float32', 'float16', 'bfloat16', 'uint8'];
const MAX_RANK = 64;
const LARGEST_SEED = 2 ** 53 - 1;

type Refuse = (code: Extract<RequestErrorCode, 'TENSOR_DTYPE' | 'TENSOR_SHAPE'>, message: string) => never;

/**
 * The tensor that a value is, read once; `at` says in messages whose it is.
 * @throws RequestError TENSOR_DTYPE for a dtype that is none, or an array of other elements; TENSOR_SHAPE for extents that are
 *   no sizes, another number of elements, and a place in a file that is none.
 */
export function checkTensor(value: unknown, at: string, tensor = at): Tensor {
  const refuse: Refuse = (code, message) => {
    throw new RequestError(code, `${at} ${message}`, { tensor });
  };
  if (!isRecord(value)) return refuse('TENSOR_SHAPE', `is ${shown(value)}, no tensor`);
  return reading(at, () => readTensor(value, refuse));
}

function readTensor(value: Readonly<Record<string, unknown>>, refuse: Refuse): Tensor {
  const { dtype: given, shape, data, file, files, annotation } = value;
  const dtype = DTYPES.find((known) => known === given);
  if (dtype === undefined)
    return refuse('TENSOR_DTYPE', `has dtype ${shown(given)}; there are ${DTYPES.join(', ')}`);
  const size = sizeOf(shape, dtype, refuse);
  if ('data' in value) return hostTensor(data, size, refuse);
  const annotated = typeof annotation === 'string' ? { annotation } : {};
  if ('file' in value) return kept(value, { ...fileTensor(file, value, size, refuse), ...annotated });
  if ('files' in value) return kept(value, { ...assembledTensor(files, value, size, refuse), ...annotated });
  return syntheticTensor(value.seed, size, refuse);
}

/** What stored tensors of callers became, and those themselves. */
const storedTensors = new WeakMap<object, StoredTensor>();

/** Of one object always the same tensor, as long as it says the same: names that share a tensor still do. */
function kept(given: object, read: StoredTensor): StoredTensor {
  const before = storedTensors.get(given);
  if (before !== undefined && isDeepStrictEqual(before, read)) return before;
  storedTensors.set(given, Object.freeze(read));
  storedTensors.set(read, read);
  return read;
}

interface Size {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly elements: number;
  readonly bytes: number;
}

function sizeOf(given: unknown, dtype: DType, refuse: Refuse): Size {
  if (!isList(given) || given.length > MAX_RANK) return refuse('TENSOR_SHAPE', `has shape ${shown(given)}`);
  const shape: unknown[] = Array.from(given);
  if (shape.length > MAX_RANK) return refuse('TENSOR_SHAPE', `has ${shape.length} extents`);
  const wrong = shape.findIndex((extent) => !Number.isSafeInteger(extent) || (extent as number) < 0);
  if (wrong >= 0) return refuse('TENSOR_SHAPE', `has ${shown(shape[wrong])} as extent ${wrong} of its shape`);
  // Without the sign of -0.
  const extents = shape.map((extent) => (extent as number) + 0);
  // In order, so that an extent of 0 does not hide a product beyond all numbers.
  const elements = extents.reduce((product, extent) => product * extent, 1);
  const bytes = elements * elementBytes(dtype);
  if (!Number.isSafeInteger(bytes))
    return refuse('TENSOR_SHAPE', `has shape [${extents}], which is too large`);
  return { dtype, shape: Object.freeze(extents), elements, bytes };
}

/** Checks that an array can hold what `dtype` says. */
function hostTensor(data: unknown, { dtype, shape, elements }: Size, refuse: Refuse): HostTensor {
  const expected = ARRAY_OF[dtype];
  if (!isArrayOf(data, expected)) {
    const given = arrayName(data);
    const what = given === undefined ? shown(data) : `a ${given}`;
    return refuse('TENSOR_DTYPE', `holds ${what}; ${dtype} elements lie in a ${expected}`);
  }
  const reason = unreadable(data);
  if (reason !== undefined) return refuse('TENSOR_DTYPE', reason);
  if (lengthOf(data) !== elements)
    return refuse('TENSOR_SHAPE', `holds ${lengthOf(data)} elements, expected ${elements}`);
  return Object.freeze({ dtype, shape, data: plainArray(data) as TensorData });
}

function fileTensor(
  file: unknown,
  given: Readonly<Record<string, unknown>>,
  { dtype, shape, bytes }: Size,
  refuse: Refuse,
): FileTensor {
  const { byteOffset } = given;
  const name = fileName(file, refuse);
  if (!Number.isSafeInteger(byteOffset) || (byteOffset as number) < 0)
    return refuse('TENSOR_SHAPE', `begins at byte ${shown(byteOffset)} of its file, which is none`);
  return {
    dtype,
    shape,
    byteLength: byteLength(given, bytes, refuse),
    file: name,
    byteOffset: byteOffset as number,
  };
}

function fileName(value: unknown, refuse: Refuse): string {
  if (typeof value === 'string' && !value.includes('\0')) return value;
  return refuse('TENSOR_SHAPE', `has ${shown(value)} as the name of its file`);
}

function assembledTensor(
  files: unknown,
  given: Readonly<Record<string, unknown>>,
  { dtype, shape, bytes }: Size,
  refuse: Refuse,
): AssembledTensor {
  const { read } = given;
  const names = isList(files) ? Array.from(files, (file) => fileName(file, refuse)) : undefined;
  if (names === undefined) return refuse('TENSOR_SHAPE', 'has no list of the names of its files');
  if (typeof read !== 'function')
    return refuse('TENSOR_SHAPE', `has ${shown(read)} to read it with, no function`);
  return {
    dtype,
    shape,
    byteLength: byteLength(given, bytes, refuse),
    files: names,
    read: read as AssembledTensor['read'],
  };
}

function byteLength(given: Readonly<Record<string, unknown>>, bytes: number, refuse: Refuse): number {
  const own = given.byteLength;
  return own === bytes ? bytes : refuse('TENSOR_SHAPE', `has ${shown(own)} bytes, expected ${bytes}`);
}

function syntheticTensor(seed: unknown, { dtype, shape }: Size, refuse: Refuse): SyntheticTensor {
  const known = SYNTHETIC_DTYPES.find((own) => own === dtype);
  if (known === undefined)
    return refuse('TENSOR_DTYPE', `is ${dtype}; synthetic ones are ${SYNTHETIC_DTYPES.join(', ')}`);
  if (!Number.isSafeInteger(seed) || (seed as number) < 0)
    return refuse('TENSOR_SHAPE', `has neither data, nor a file, nor a seed from 0 to ${LARGEST_SEED}`);
  return Object.freeze({ dtype: known, shape, seed: seed as number });
}
