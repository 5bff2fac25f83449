/** What typed arrays are by themselves: their class and length as the engine knows them, whatever was done to the object. */

const ARRAYS = {
  Int8Array,
  Uint8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
} as const satisfies Record<keyof Arrays, unknown>;

interface Arrays {
  Int8Array: Int8Array;
  Uint8Array: Uint8Array;
  Int16Array: Int16Array;
  Uint16Array: Uint16Array;
  Int32Array: Int32Array;
  Uint32Array: Uint32Array;
  Float32Array: Float32Array;
  Float64Array: Float64Array;
  BigInt64Array: BigInt64Array;
  BigUint64Array: BigUint64Array;
}

export type ArrayName = keyof Arrays;
export type ArrayOf<N extends ArrayName> = Arrays[N];

const prototype: object = Object.getPrototypeOf(Uint8Array.prototype);
const nameOf = getterOf<string | undefined>(prototype, Symbol.toStringTag);
const ownLength = getterOf<number>(prototype, 'length');
const ownOffset = getterOf<number>(prototype, 'byteOffset');
const ownBuffer = getterOf<ArrayBufferLike>(prototype, 'buffer');
const viewLength = getterOf<number>(DataView.prototype, 'byteLength');
const viewBuffer = getterOf<ArrayBufferLike>(DataView.prototype, 'buffer');

function getterOf<T>(owner: object, key: PropertyKey): (this: unknown) => T {
  return Object.getOwnPropertyDescriptor(owner, key)?.get as (this: unknown) => T;
}

/** A typed array's class, by name; undefined: it is none. */
export function arrayName(value: unknown): string | undefined {
  return nameOf.call(value);
}

/**
 * Whether a value is an array of that class, and does not pretend to another one. Takes nanoseconds. Properties of its own may
 * still say anything: read lengthOf and the like, or take its plainArray.
 */
export function isArrayOf<N extends ArrayName>(value: unknown, name: N): value is ArrayOf<N> {
  return nameOf.call(value) === name && value instanceof ARRAYS[name];
}

/** Whether a value is an array of int32 or int64, as isArrayOf. */
export function isIntegerArray(value: unknown): value is Int32Array | BigInt64Array {
  const name = nameOf.call(value);
  return name === 'BigInt64Array'
    ? value instanceof BigInt64Array
    : name === 'Int32Array' && value instanceof Int32Array;
}

/** Elements of a typed array; the property `length` may be a caller's own, and change. */
export function lengthOf(array: ArrayOf<ArrayName>): number {
  return ownLength.call(array);
}

/** Bytes before a typed array's first element in its buffer. */
export function offsetOf(array: ArrayBufferView): number {
  return ownOffset.call(array);
}

/** The buffer of a typed array or a DataView, whatever its property `buffer` says. */
export function bufferOf(array: ArrayBufferView): ArrayBufferLike {
  return arrayName(array) === undefined ? viewBuffer.call(array) : ownBuffer.call(array);
}

/** An array by itself: it, or where it has another class or properties of its own, a view of the same elements that has none. */
export function plainArray<A extends ArrayOf<ArrayName>>(array: A): A {
  const made = ARRAYS[arrayName(array) as ArrayName];
  const isPlain =
    Object.getPrototypeOf(array) === made.prototype &&
    !Object.hasOwn(array, 'length') &&
    !Object.hasOwn(array, 'buffer') &&
    !Object.hasOwn(array, 'byteOffset') &&
    !Object.hasOwn(array, 'byteLength');
  if (isPlain) return array;
  return new made(bufferOf(array) as ArrayBuffer, ownOffset.call(array), lengthOf(array)) as unknown as A;
}

/** Bytes of the elements of an array, from its class and length. */
export function bytesOf(array: ArrayOf<ArrayName>): number {
  return lengthOf(array) * ARRAYS[arrayName(array) as ArrayName].BYTES_PER_ELEMENT;
}

/** What TypeScript's library does not know yet. */
type Resizable = ArrayBufferLike & { readonly resizable?: boolean; readonly growable?: boolean };

/**
 * Why native code cannot read an array; undefined: it can. Memory that can be resized may go away while it is read, and
 * the arrays of a buffer that was transferred are empty.
 */
export function unreadable(array: ArrayBufferView): string | undefined {
  const buffer: Resizable = bufferOf(array);
  if (buffer.resizable === true || buffer.growable === true) return 'lies in memory that can be resized';
  return isEmpty(array) && isDetached(buffer) ? 'lies in memory that was transferred' : undefined;
}

function isEmpty(array: ArrayBufferView): boolean {
  if (arrayName(array) !== undefined) return ownLength.call(array) === 0;
  try {
    return viewLength.call(array) === 0;
  } catch {
    // A DataView of a buffer that was transferred has no length.
    return true;
  }
}

function isDetached(buffer: ArrayBufferLike): boolean {
  if (buffer.byteLength > 0) return false;
  try {
    return new Uint8Array(buffer).length > 0;
  } catch {
    return true;
  }
}
