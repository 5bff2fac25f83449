/** The globals of Python and numpy that hold data: dicts, sets, bytes and numbers. */
import { float16ToNumber } from '../../tensor.ts';
import {
  type Call,
  InertObject,
  isMap,
  PickledGlobal,
  type PickledValue,
  type Stateful,
} from './pickled-value.ts';

/** Entries that one pickle's calls may copy, in all: dicts and sets are built empty and filled. */
const MAX_COPIED = 1_000_000;

/** Bytes of numbers are few; calls must not multiply what a file holds. */
const MAX_ENCODED = 1024;

/** `OrderedDict()`, `Counter({…})` or, as Python 2 wrote it, `OrderedDict([[key, value], …])`. */
function dict(mayCopy: (count: number) => boolean): Call {
  return ([pairs = []]) => {
    if (isMap(pairs)) return mayCopy(pairs.size) ? new Map(pairs) : undefined;
    if (!Array.isArray(pairs) || !mayCopy(pairs.length)) return undefined;
    if (!pairs.every((pair) => Array.isArray(pair) && pair.length === 2)) return undefined;
    return new Map(pairs);
  };
}

/** `set([…])` and `frozenset([…])`, which protocols before 4 write as calls. */
function set(mayCopy: (count: number) => boolean): Call {
  return ([items = []]) => (Array.isArray(items) && mayCopy(items.length) ? new Set(items) : undefined);
}

/** `_codecs.encode(text, 'latin1')`, which is how protocol 2 writes bytes. */
const encode: Call = ([text, encoding]) =>
  typeof text === 'string' && encoding === 'latin1' && text.length <= MAX_ENCODED
    ? new Uint8Array(Buffer.from(text, 'latin1'))
    : undefined;

/** An object named for its class, which is the first argument of the function that makes it. */
const ofClass: Call = (args) =>
  args[0] instanceof PickledGlobal ? new InertObject(args[0].type, args) : undefined;

/** `copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make objects; a dict's state are its entries. */
const reconstructor: Call = (args) => {
  const [type, , state] = args;
  if (!(type instanceof PickledGlobal)) return undefined;
  const object = new InertObject(type.type, args);
  if (isMap(state)) object.entries = state;
  return object;
};

export const NUMPY_ARRAY = 'numpy.ndarray';

/** How protocol 5 makes arrays. */
const arrayOfBuffer: Call = (args) => new InertObject(NUMPY_ARRAY, args);

/** A numpy dtype; its byte order comes with its state. */
class NumpyType implements Stateful {
  #byteOrder: PickledValue = '<';

  constructor(readonly code: string) {}

  setState(state: PickledValue): void {
    if (Array.isArray(state)) this.#byteOrder = state[1] ?? '<';
  }

  get littleEndian(): boolean {
    return this.#byteOrder !== '>';
  }
}

const numpyType: Call = ([code]) => (typeof code === 'string' ? new NumpyType(code) : undefined);

type ReadScalar = (view: DataView, littleEndian: boolean) => number | bigint | boolean;

/** Numbers of numpy by the code of their type; its digits are its bytes. */
const SCALARS: Readonly<Record<string, ReadScalar>> = {
  f8: (view, little) => view.getFloat64(0, little),
  f4: (view, little) => view.getFloat32(0, little),
  f2: (view, little) => float16ToNumber(view.getUint16(0, little)),
  i8: (view, little) => view.getBigInt64(0, little),
  i4: (view, little) => view.getInt32(0, little),
  i2: (view, little) => view.getInt16(0, little),
  i1: (view) => view.getInt8(0),
  u8: (view, little) => view.getBigUint64(0, little),
  u4: (view, little) => view.getUint32(0, little),
  u2: (view, little) => view.getUint16(0, little),
  u1: (view) => view.getUint8(0),
  b1: (view) => view.getUint8(0) !== 0,
};

const numpyScalar: Call = ([type, bytes]) => {
  if (!(type instanceof NumpyType) || !(bytes instanceof Uint8Array)) return undefined;
  const read = Object.hasOwn(SCALARS, type.code) ? SCALARS[type.code] : undefined;
  if (read === undefined || bytes.length !== Number(type.code[1])) return undefined;
  return read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), type.littleEndian);
};

/** What the globals of one pickle stand for, as `unpickle` takes it. What they may copy is counted over all their calls. */
export function pythonGlobals(): (module: string, name: string) => PickledValue | undefined {
  let copied = 0;
  const mayCopy = (count: number): boolean => {
    if (copied + count > MAX_COPIED) return false;
    copied += count;
    return true;
  };
  const [toMap, toSet] = [dict(mayCopy), set(mayCopy)];
  const calls: Readonly<Record<string, Call>> = {
    'collections.OrderedDict': toMap,
    // Learning-rate schedules keep their milestones in one.
    'collections.Counter': toMap,
    // Its first argument makes what is missing; a second one holds entries, and is not written.
    'collections.defaultdict': () => new Map(),
    'builtins.dict': toMap,
    '__builtin__.dict': toMap,
    'builtins.set': toSet,
    '__builtin__.set': toSet,
    'builtins.frozenset': toSet,
    '__builtin__.frozenset': toSet,
    'copyreg._reconstructor': reconstructor,
    'copy_reg._reconstructor': reconstructor,
    '_codecs.encode': encode,
    'numpy.dtype': numpyType,
    'numpy.core.multiarray.scalar': numpyScalar,
    'numpy._core.multiarray.scalar': numpyScalar,
    'numpy.core.multiarray._reconstruct': ofClass,
    'numpy._core.multiarray._reconstruct': ofClass,
    'numpy.core.numeric._frombuffer': arrayOfBuffer,
    'numpy._core.numeric._frombuffer': arrayOfBuffer,
  };
  return (module, name) => {
    const type = `${module}.${name}`;
    return Object.hasOwn(calls, type) ? new PickledGlobal(type, calls[type]) : undefined;
  };
}
