/** The globals that files of torch.save may name, and what they stand for: tensors, containers and numbers. */
import { FormatError } from '../errors.ts';
import { type DType, elementBytes, elementCount, float16ToNumber, type StoredTensor } from '../tensor.ts';
import type { Global, PickledValue, Stateful } from './pickled-value.ts';

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
    readonly stride: readonly number[],
  ) {}

  /** Where the tensor lies; `key` is what it stands under in the pickle. @throws FormatError TORCH_FORMAT_UNSUPPORTED. */
  stored(key?: PickledValue): StoredTensor {
    const { file, shape, stride } = this;
    if (!isContiguous(shape, stride)) {
      const name = typeof key === 'string' ? key : undefined;
      throw new FormatError(
        'TORCH_FORMAT_UNSUPPORTED',
        `${file}: tensor ${name ?? ''} of shape [${shape}] has strides [${stride}], it is not contiguous`,
        { file, hint: 'save it with .contiguous()', ...(name === undefined ? {} : { tensor: name }) },
      );
    }
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

/** Row-major without holes; an extent of 1 may have any stride, and so may a tensor without elements. */
function isContiguous(shape: readonly number[], stride: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis] as number;
    if (extent !== 1 && stride[axis] !== expected) return false;
    expected *= extent;
  }
  return true;
}

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
  const count = elementCount(shape);
  if (!Number.isSafeInteger(count) || (offset as number) + count > storage.elements) {
    return fail(
      `a tensor of shape [${shape}] at element ${offset} reaches past its storage of ${storage.elements}`,
    );
  }
  return new TensorView(file, storage, offset as number, shape, stride);
}

/** A numpy dtype; its byte order comes with its state. */
class NumpyType implements Stateful {
  #byteOrder: PickledValue = '<';

  constructor(readonly code: string) {}

  setState(state: PickledValue): void {
    if (Array.isArray(state)) this.#byteOrder = state[1] ?? '<';
  }

  get bigEndian(): boolean {
    return this.#byteOrder === '>';
  }
}

function numpyType(code?: PickledValue): NumpyType {
  if (typeof code !== 'string') throw new Error('a numpy dtype without a name');
  return new NumpyType(code);
}

function numpyScalar(type?: PickledValue, bytes?: PickledValue): PickledValue {
  if (!(type instanceof NumpyType) || !(bytes instanceof Uint8Array))
    throw new Error('a numpy scalar without type and bytes');
  if (type.bigEndian) throw new Error('a big-endian numpy scalar');
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
    case 'u4':
      return view.getUint32(0, true);
    case 'i2':
      return view.getInt16(0, true);
    case 'u2':
      return view.getUint16(0, true);
    case 'i1':
      return view.getInt8(0);
    case 'u1':
      return view.getUint8(0);
    case 'u8':
      return view.getBigUint64(0, true);
    case 'f2':
      return float16ToNumber(view.getUint16(0, true));
    case 'b1':
      return view.getUint8(0) !== 0;
    default:
      throw new Error(`a numpy scalar of type ${type.code}`);
  }
}

/** Bytes of numbers are few; calls must not multiply what a file holds. */
const MAX_ENCODED = 1024;

/** `_codecs.encode(text, 'latin1')`, which is how protocol 2 writes bytes. */
function encode(text?: PickledValue, encoding?: PickledValue): PickledValue {
  if (typeof text !== 'string' || encoding !== 'latin1')
    throw new Error('bytes in an encoding other than latin1');
  if (text.length > MAX_ENCODED) throw new Error(`${text.length} encoded bytes, more than any number has`);
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

/** Entries that sets and OrderedDicts may copy from their arguments, in all: state dicts are built empty and filled. */
const MAX_COPIED_PAIRS = 1_000_000;

/** `OrderedDict()` or, as Python 2 wrote it, `OrderedDict([[key, value], …])`. */
function orderedDict(): Global {
  let copied = 0;
  return (pairs = []) => {
    const entries = pairs instanceof Map ? [...pairs] : pairs;
    if (!Array.isArray(entries)) throw new Error('an OrderedDict of something that is no list');
    copied += entries.length;
    if (copied > MAX_COPIED_PAIRS) throw new Error(`OrderedDicts copy more than ${MAX_COPIED_PAIRS} entries`);
    return new Map(
      entries.map((pair) => {
        if (!Array.isArray(pair) || pair.length !== 2)
          throw new Error('an OrderedDict of something that is no pair');
        return [pair[0] as PickledValue, pair[1] as PickledValue];
      }),
    );
  };
}

/** `set([…])` and `frozenset([…])`, which protocols before 4 write as calls. */
function set(): Global {
  let copied = 0;
  return (items = []) => {
    if (!Array.isArray(items)) throw new Error('a set of something that is no list');
    copied += items.length;
    if (copied > MAX_COPIED_PAIRS) throw new Error(`sets copy more than ${MAX_COPIED_PAIRS} elements`);
    return new Set(items);
  };
}

/** `torch.device('cuda', 0)` as its text. */
function device(type?: PickledValue, index?: PickledValue): PickledValue {
  if (typeof type !== 'string') throw new Error('a device without a type');
  return typeof index === 'number' ? `${type}:${index}` : type;
}

/** torch.float16 and its like, which stand for themselves. */
const TORCH_TYPE = /^(b?float(16|32|64)?|double|half|u?int(8|16|32|64)|long|short|int|bool|float8_\w+)$/;

/** A global that is no function: it stands for itself. */
const constant = (value: PickledValue): { readonly value: PickledValue } => ({ value });

/** The allow-list: a function, or a value; undefined for everything else. */
export function torchGlobal(
  file: string,
): (module: string, name: string) => Global | { readonly value: PickledValue } | undefined {
  const [toMap, toSet] = [orderedDict(), set()];
  const functions: Readonly<Record<string, Global | { readonly value: PickledValue }>> = {
    'collections OrderedDict': toMap,
    // Learning-rate schedules keep their milestones in one; it is a dict.
    'collections Counter': toMap,
    '__builtin__ set': toSet,
    '__builtin__ frozenset': toSet,
    'builtins set': toSet,
    'builtins frozenset': toSet,
    'torch._utils _rebuild_tensor': (...args) => rebuildTensor(file, ...args),
    'torch._utils _rebuild_tensor_v2': (...args) => rebuildTensor(file, ...args),
    'torch._utils _rebuild_parameter': (data = null) => data,
    'torch Size': (extents = []) => extents,
    'torch device': device,
    '_codecs encode': encode,
    'numpy dtype': numpyType,
    'numpy.core.multiarray scalar': numpyScalar,
    'numpy._core.multiarray scalar': numpyScalar,
  };
  return (module, name) => {
    const key = `${module} ${name}`;
    if (Object.hasOwn(functions, key)) return functions[key];
    if (module === 'torch' && Object.hasOwn(STORAGES, name))
      return constant(new StorageType(STORAGES[name] as DType));
    return module === 'torch' && TORCH_TYPE.test(name) ? constant(`torch.${name}`) : undefined;
  };
}

/** `value` with every tensor view in its lists and dicts turned into the stored tensor that it is. */
export function resolveTensors(value: PickledValue): PickledValue {
  const resolve = (item: PickledValue, key?: PickledValue) =>
    item instanceof TensorView ? item.stored(key) : item;
  // Containers are changed in place, from a list of those still to visit: pickles may nest deeper than calls can.
  const seen = new Set<PickledValue>();
  const toVisit = [value];
  const visit = (item: PickledValue, key?: PickledValue) => {
    if (Array.isArray(item) || item instanceof Map) toVisit.push(item);
    return resolve(item, key);
  };
  for (let item = toVisit.pop(); item !== undefined; item = toVisit.pop()) {
    if (seen.has(item)) continue;
    seen.add(item);
    if (Array.isArray(item)) {
      item.forEach((part, i) => {
        item[i] = visit(part);
      });
    } else if (item instanceof Map) {
      for (const [key, part] of item) item.set(key, visit(part, key));
    }
  }
  return resolve(value);
}
