/**
 * Tensors as they lie in host memory or in a file. Always contiguous, row-major, little-endian.
 * float16 and bfloat16 are held as their 16 bits in a Uint16Array, float8 as its 8 bits in a Uint8Array: e4m3 without
 * infinities (e4m3fn), e5m2 with.
 */
import { endianness } from 'node:os';
import { DeviceError, FormatError } from './errors.ts';

if (endianness() !== 'LE') {
  throw new DeviceError('DEVICE_UNAVAILABLE', 'Hotrow needs a little-endian machine');
}

export type DType =
  | 'bool'
  | 'uint8'
  | 'int8'
  | 'float8_e4m3'
  | 'float8_e5m2'
  | 'int16'
  | 'uint16'
  | 'float16'
  | 'bfloat16'
  | 'int32'
  | 'uint32'
  | 'float32'
  | 'int64'
  | 'uint64'
  | 'float64';

const ELEMENT_BYTES: Record<DType, number> = {
  bool: 1,
  uint8: 1,
  int8: 1,
  float8_e4m3: 1,
  float8_e5m2: 1,
  int16: 2,
  uint16: 2,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  uint32: 4,
  float32: 4,
  int64: 8,
  uint64: 8,
  float64: 8,
};

export const DTYPES = Object.freeze(Object.keys(ELEMENT_BYTES) as DType[]) as readonly DType[];

/** Bytes of one element. */
export function elementBytes(dtype: DType): number {
  return ELEMENT_BYTES[dtype];
}

/** Number of elements of `shape`; a scalar (`[]`) has one. Not checked for overflow: callers bound the shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

export type TensorData =
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Float64Array;

/** A tensor in host memory. `data` holds exactly `elementCount(shape)` elements. */
export interface HostTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** What is known of a tensor that is not in memory. */
interface StoredShape {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** What the file's metadata says of this tensor. */
  readonly annotation?: string;
}

/** A tensor that lies uncompressed and in one piece in a file, at any byte offset; read, mapped or streamed when it is used. */
export interface FileTensor extends StoredShape {
  /** The file that holds the bytes. */
  readonly file: string;
  readonly byteOffset: number;
}

/**
 * A tensor that is put together while it is read: shards of several files, a view with strides, rows in another layout. It
 * cannot be mapped; any range of its bytes can be read by itself, so that no more than a piece is in memory.
 */
export interface AssembledTensor extends StoredShape {
  /** The files that its bytes come from. */
  readonly files: readonly string[];
  /**
   * Fills `into` with the tensor's bytes from byte `at` on; both ends lie within the tensor.
   * @throws UsageError FILE_*; FormatError FILE_TRUNCATED.
   */
  readonly read: (into: Uint8Array, at: number) => Promise<void>;
}

/** A tensor in files, not read yet. */
export type StoredTensor = FileTensor | AssembledTensor;

/** Named tensors of a file or a model, in file order. */
export type StoredTensors = ReadonlyMap<string, StoredTensor>;

/**
 * A tensor of seeded values, uniform in [-1, 1), made where it is placed: weights of models that only exist to be timed.
 * uint8: quantised rows of a table, whose format says what their bytes mean.
 */
export interface SyntheticTensor {
  readonly dtype: 'float32' | 'float16' | 'bfloat16' | 'uint8';
  readonly shape: readonly number[];
  readonly seed: number;
}

/** A tensor from any of these places. */
export type Tensor = HostTensor | StoredTensor | SyntheticTensor;

/** True for a tensor in files. */
export function isStored(tensor: Tensor): tensor is StoredTensor {
  return isInFile(tensor) || 'files' in tensor;
}

/** True for a tensor that lies in one piece in a file. */
export function isInFile(tensor: Tensor): tensor is FileTensor {
  return 'file' in tensor;
}

/** A view of `buffer` as elements of `dtype`. Copies only when `buffer` is not aligned for the type. */
export function viewElements(dtype: DType, buffer: Uint8Array): TensorData {
  const size = ELEMENT_BYTES[dtype];
  // Not slice(): that of a Buffer is a view.
  const aligned = buffer.byteOffset % size === 0 ? buffer : new Uint8Array(buffer);
  const count = aligned.byteLength / size;
  const args = [aligned.buffer, aligned.byteOffset, count] as const;
  switch (dtype) {
    case 'bool':
    case 'uint8':
    case 'float8_e4m3':
    case 'float8_e5m2':
      return new Uint8Array(...args);
    case 'int8':
      return new Int8Array(...args);
    case 'int16':
      return new Int16Array(...args);
    case 'uint16':
    case 'float16':
    case 'bfloat16':
      return new Uint16Array(...args);
    case 'int32':
      return new Int32Array(...args);
    case 'uint32':
      return new Uint32Array(...args);
    case 'float32':
      return new Float32Array(...args);
    case 'int64':
      return new BigInt64Array(...args);
    case 'uint64':
      return new BigUint64Array(...args);
    case 'float64':
      return new Float64Array(...args);
    default:
      return dtype satisfies never;
  }
}

/** True for a tensor in host memory. */
export function isHost(tensor: Tensor): tensor is HostTensor {
  return 'data' in tensor;
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

const SMALLEST_FLOAT16 = 2 ** -24;

/** IEEE binary16 bits → number, exact. */
export function float16ToNumber(bits: number): number {
  const magnitude = bits & 0x7fff;
  if (magnitude < 0x400) return (bits & 0x8000 ? -magnitude : magnitude) * SMALLEST_FLOAT16;
  // The exponent is rebiased from 15 to 127; infinities and NaNs have the largest in both.
  const shifted = magnitude << 13;
  scratchBits[0] =
    ((bits & 0x8000) << 16) | (magnitude < 0x7c00 ? shifted + 0x38000000 : shifted | 0x7f800000);
  return scratchFloat[0] as number;
}

/** bfloat16 bits → number, exact. */
export function bfloat16ToNumber(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratchFloat[0] as number;
}

/** number → bfloat16 bits, rounded to nearest even. */
export function numberToBfloat16(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0] as number;
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** number → IEEE binary16 bits, rounded to nearest even (through float32). */
export function numberToFloat16(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: the rounding happens in units of 2^-24.
    const units = Math.abs(scratchFloat[0] as number) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** The tensor's elements as float32. Accepts every floating-point dtype of 16 bits and more; others are the caller's error to report. */
export function toFloat32(tensor: HostTensor): Float32Array {
  const { dtype, data } = tensor;
  if (dtype === 'float32') return data as Float32Array;
  if (dtype === 'float64') return Float32Array.from(data as Float64Array);
  if (dtype === 'float16') return Float32Array.from(data as Uint16Array, float16ToNumber);
  if (dtype === 'bfloat16') return Float32Array.from(data as Uint16Array, bfloat16ToNumber);
  throw new FormatError('FORMAT_UNKNOWN', `a ${dtype} tensor cannot stand where floating point is needed`);
}
