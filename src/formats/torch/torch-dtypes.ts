/** PyTorch's element types: their names, their sizes, and which of them Hotrow knows. */
import type { DType } from '../../tensor.ts';
import { PickledGlobal, type PickledValue } from './pickled-value.ts';

/** An element type. Without a `dtype` its bytes can be skipped, and not read. */
export interface ElementType {
  /** As in torch.float32. */
  readonly name: string;
  readonly bytes: number;
  readonly dtype?: DType;
}

const known = (name: string, bytes: number, dtype: DType): ElementType => ({ name, bytes, dtype });
const unknown = (name: string, bytes: number): ElementType => ({ name, bytes });

const FLOAT32 = known('float32', 4, 'float32');
const FLOAT16 = known('float16', 2, 'float16');
const FLOAT64 = known('float64', 8, 'float64');
const INT64 = known('int64', 8, 'int64');
const INT32 = known('int32', 4, 'int32');
const INT16 = known('int16', 2, 'int16');
const INT8 = known('int8', 1, 'int8');
const UINT8 = known('uint8', 1, 'uint8');
const BOOL = known('bool', 1, 'bool');
const BFLOAT16 = known('bfloat16', 2, 'bfloat16');

/** By their names in torch. */
const TYPES: Readonly<Record<string, ElementType>> = {
  float32: FLOAT32,
  float: FLOAT32,
  float16: FLOAT16,
  half: FLOAT16,
  float64: FLOAT64,
  double: FLOAT64,
  bfloat16: BFLOAT16,
  int64: INT64,
  long: INT64,
  int32: INT32,
  int: INT32,
  int16: INT16,
  short: INT16,
  int8: INT8,
  uint8: UINT8,
  bool: BOOL,
  uint16: known('uint16', 2, 'uint16'),
  uint32: known('uint32', 4, 'uint32'),
  uint64: known('uint64', 8, 'uint64'),
  float8_e4m3fn: known('float8_e4m3fn', 1, 'float8_e4m3'),
  float8_e5m2: known('float8_e5m2', 1, 'float8_e5m2'),
  float8_e4m3fnuz: unknown('float8_e4m3fnuz', 1),
  float8_e5m2fnuz: unknown('float8_e5m2fnuz', 1),
  float8_e8m0fnu: unknown('float8_e8m0fnu', 1),
  float4_e2m1fn_x2: unknown('float4_e2m1fn_x2', 1),
  complex32: unknown('complex32', 4),
  complex64: unknown('complex64', 8),
  cfloat: unknown('complex64', 8),
  complex128: unknown('complex128', 16),
  cdouble: unknown('complex128', 16),
  qint8: unknown('qint8', 1),
  quint8: unknown('quint8', 1),
  qint32: unknown('qint32', 4),
  quint4x2: unknown('quint4x2', 1),
  quint2x4: unknown('quint2x4', 1),
};

/** Longer than any of the names. */
const MAX_NAME = 100;

/** Storages' element types, by the names of their classes. */
const STORAGES: Readonly<Record<string, string>> = {
  FloatStorage: 'float32',
  HalfStorage: 'float16',
  BFloat16Storage: 'bfloat16',
  DoubleStorage: 'float64',
  LongStorage: 'int64',
  IntStorage: 'int32',
  ShortStorage: 'int16',
  CharStorage: 'int8',
  ByteStorage: 'uint8',
  BoolStorage: 'bool',
  ComplexFloatStorage: 'complex64',
  ComplexDoubleStorage: 'complex128',
  QInt8Storage: 'qint8',
  QUInt8Storage: 'quint8',
  QInt32Storage: 'qint32',
  QUInt4x2Storage: 'quint4x2',
  QUInt2x4Storage: 'quint2x4',
};

/** Storages that count bytes; the tensors on them say what they are. */
const UNTYPED = new Set(['UntypedStorage', '_UntypedStorage']);

/** A class of storages. */
export class StorageClass extends PickledGlobal {
  /** `element` is undefined for storages of plain bytes. */
  constructor(
    type: string,
    readonly element: ElementType | undefined,
  ) {
    super(type);
  }
}

/** The storage class or dtype of that name, dtypes as text (`torch.float32`); undefined for any other global. */
export function typeGlobal(module: string, name: string): PickledValue | undefined {
  const type = `${module}.${name}`;
  if (module !== 'torch' && module !== 'torch.storage') return undefined;
  if (UNTYPED.has(name)) return new StorageClass(type, undefined);
  if (Object.hasOwn(STORAGES, name)) return new StorageClass(type, TYPES[STORAGES[name] as string]);
  return module === 'torch' && Object.hasOwn(TYPES, name) ? type : undefined;
}

/** The element type that a dtype of a pickle stands for. */
export function elementType(dtype: PickledValue | undefined): ElementType | undefined {
  if (typeof dtype !== 'string' || dtype.length > MAX_NAME || !dtype.startsWith('torch.')) return undefined;
  const name = dtype.slice('torch.'.length);
  return Object.hasOwn(TYPES, name) ? TYPES[name] : undefined;
}
