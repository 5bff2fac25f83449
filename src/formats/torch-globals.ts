/** The globals that files of torch.save may name, and what they stand for: tensors, containers and numbers. */
import { FormatError } from '../errors.ts';
import { type DType, elementBytes, elementCount, type StoredTensor } from '../tensor.ts';
import type { Global, PickledValue } from './pickle.ts';

/** A storage's dtype, by the name of its class. */
const STORAGES: Readonly<Record<string, DType>> = {
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
};

/** What a storage class unpickles to. */
export class StorageType {
  constructor(readonly dtype: DType) {}
}

/** Elements that tensors view; where they lie may be known only after the pickle is read. */
export interface Storage {
  readonly dtype: DType;
  readonly elements: number;
  /** Byte of the file where the storage begins. */
  readonly byteOffset: () => number;
}

const isStorage = (value: PickledValue | undefined): value is Storage =>
  typeof value === 'object' && value !== null && 'elements' in value && 'byteOffset' in value;

/** A tensor of the pickle, before its storage's place is known. */
export class TensorView {
  constructor(
    readonly file: string,
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: readonly number[],
  ) {}

  stored(): StoredTensor {
    const { dtype } = this.storage;
    const size = elementBytes(dtype);
    return {
      dtype,
      shape: this.shape,
      file: this.file,
      byteOffset: this.storage.byteOffset() + this.offset * size,
      byteLength: elementCount(this.shape) * size,
    };
  }
}

const isCounts = (value: PickledValue | undefined): value is number[] =>
  Array.isArray(value) && value.every((extent) => Number.isSafeInteger(extent) && (extent as number) >= 0);

/** torch._utils._rebuild_tensor_v2(storage, offset, shape, stride, …). */
function rebuildTensor(
  file: string,
  storage?: PickledValue,
  offset?: PickledValue,
  shape?: PickledValue,
  stride?: PickledValue,
): TensorView {
  const fail = (message: string): never => {
    throw new FormatError('TORCH_FILE_INVALID', `${file}: ${message}`, { file });
  };
  if (
    !isStorage(storage) ||
    !isCounts([offset as number]) ||
    !isCounts(shape) ||
    !isCounts(stride) ||
    shape.length !== stride.length
  ) {
    return fail('a tensor is described by no storage, offset, shape and stride');
  }
  let expected = 1;
  const contiguous = shape.map((_, i) => {
    const axis = shape.length - 1 - i;
    const fits = shape[axis] === 1 || stride[axis] === expected;
    expected *= shape[axis] as number;
    return fits;
  });
  const count = elementCount(shape);
  if (count > 0 && contiguous.includes(false)) {
    throw new FormatError(
      'TORCH_FORMAT_UNSUPPORTED',
      `${file}: a tensor of shape [${shape}] has strides [${stride}], it is not contiguous`,
      {
        file,
        hint: 'save it with .contiguous()',
      },
    );
  }
  if ((offset as number) + count > storage.elements) {
    return fail(
      `a tensor of shape [${shape}] at element ${offset} reaches past its storage of ${storage.elements}`,
    );
  }
  return new TensorView(file, storage, offset as number, shape);
}

/** numpy scalars carry their dtype and bytes. */
class NumpyType {
  constructor(readonly code: string) {}
}

function numpyScalar(type?: PickledValue, bytes?: PickledValue): PickledValue {
  if (!(type instanceof NumpyType) || !(bytes instanceof Uint8Array))
    throw new Error('a numpy scalar without type and bytes');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (type.code) {
    case 'f8':
      return view.getFloat64(0, true);
    case 'f4':
      return view.getFloat32(0, true);
    case 'i8':
      return view.getBigInt64(0, true);
    case 'i4':
      return view.getInt32(0, true);
    case 'b1':
      return view.getUint8(0) !== 0;
    default:
      throw new Error(`a numpy scalar of type ${type.code}`);
  }
}

/** `_codecs.encode(text, 'latin1')`, which is how protocol 2 writes bytes. */
function encode(text?: PickledValue, encoding?: PickledValue): PickledValue {
  if (typeof text !== 'string' || encoding !== 'latin1')
    throw new Error('bytes in an encoding other than latin1');
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

function toMap(pairs: PickledValue | undefined): Map<PickledValue, PickledValue> {
  if (pairs === undefined) return new Map();
  if (pairs instanceof Map) return new Map(pairs);
  if (!Array.isArray(pairs)) throw new Error('an OrderedDict of something that is no list');
  return new Map(
    pairs.map((pair) => [
      (pair as PickledValue[])[0] as PickledValue,
      (pair as PickledValue[])[1] as PickledValue,
    ]),
  );
}

/** A global that is no function: it stands for itself. */
const constant = (value: PickledValue): { readonly value: PickledValue } => ({ value });

/** The allow-list: a function, or a value; undefined for everything else. */
export function torchGlobal(
  file: string,
): (module: string, name: string) => Global | { readonly value: PickledValue } | undefined {
  const functions: Readonly<Record<string, Global | { readonly value: PickledValue }>> = {
    'collections OrderedDict': (pairs) => toMap(pairs),
    'torch._utils _rebuild_tensor': (...args) => rebuildTensor(file, ...args),
    'torch._utils _rebuild_tensor_v2': (...args) => rebuildTensor(file, ...args),
    'torch._utils _rebuild_parameter': (data = null) => data,
    'torch Size': (extents = []) => extents,
    'torch device': (...args) => args.join(':'),
    '_codecs encode': encode,
    'numpy dtype': (code) => new NumpyType(String(code)),
    'numpy.core.multiarray scalar': numpyScalar,
    'numpy._core.multiarray scalar': numpyScalar,
  };
  return (module, name) => {
    const key = `${module} ${name}`;
    if (Object.hasOwn(functions, key)) return functions[key];
    if (module === 'torch' && Object.hasOwn(STORAGES, name))
      return constant(new StorageType(STORAGES[name] as DType));
    return undefined;
  };
}

/** `value` with every tensor view turned into the stored tensor that it is, containers kept. */
export function resolveTensors(value: PickledValue): PickledValue {
  const seen = new Map<PickledValue, PickledValue>();
  const resolve = (item: PickledValue): PickledValue => {
    if (typeof item !== 'object' || item === null || item instanceof Uint8Array) return item;
    if (item instanceof TensorView) return item.stored();
    const known = seen.get(item);
    if (known !== undefined) return known;
    if (Array.isArray(item)) {
      const list: PickledValue[] = [];
      seen.set(item, list);
      for (const part of item) list.push(resolve(part));
      return list;
    }
    if (item instanceof Map) {
      const map = new Map<PickledValue, PickledValue>();
      seen.set(item, map);
      for (const [key, part] of item) map.set(key, resolve(part));
      return map;
    }
    return item;
  };
  return resolve(value);
}
