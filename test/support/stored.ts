/** Tensors in memory that stand for stored ones. */
import { type AssembledTensor, type DType, elementBytes, elementCount } from '../../src/tensor.ts';

/** A tensor of these bytes; `reads` takes the length of each read. */
export function storedBytes(
  dtype: DType,
  shape: readonly number[],
  bytes: Uint8Array,
  reads: number[] = [],
): AssembledTensor {
  const byteLength = elementCount(shape) * elementBytes(dtype);
  if (byteLength !== bytes.length) throw new RangeError(`${bytes.length} bytes for ${dtype} [${shape}]`);
  return {
    ...{ dtype, shape, byteLength },
    files: ['/in-memory'],
    read: async (into, at) => {
      reads.push(into.length);
      into.set(bytes.subarray(at, at + into.length));
    },
  };
}

/** The bytes of a typed array. */
export function bytesOf(array: Float32Array | Uint16Array | Int8Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
