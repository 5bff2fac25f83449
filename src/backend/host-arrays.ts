/** Arrays of a caller in one stretch of host memory. */

import { type Check, reading, refuseOption, whole } from '../checks/value.ts';
import type { Bags, IndexArray } from '../embedding/bag.ts';
import { DeviceError } from '../errors.ts';
import type { Backend, HostMemory } from './backend.ts';

/** Elements and bytes stay exact numbers. */
const elements = whole(0, 2 ** 50);

/** Arrays start at multiples of this. */
const ALIGNMENT = 16;

export class HostArrays implements HostMemory {
  readonly bytes: number;
  readonly #buffer: ArrayBuffer;
  readonly #start: number;
  #end = 0;
  #disposed = false;

  /** Over `bytes` bytes of the buffer from `start` on, a multiple of 16; default: all of it. */
  constructor(buffer: ArrayBuffer, start = 0, bytes = buffer.byteLength - start) {
    this.#buffer = buffer;
    this.#start = start;
    this.bytes = bytes;
  }

  int32(length: number): Int32Array {
    const count = elements(length, 'int32: length');
    return new Int32Array(this.#buffer, this.#reserve(count * Int32Array.BYTES_PER_ELEMENT), count);
  }

  int64(length: number): BigInt64Array {
    const count = elements(length, 'int64: length');
    return new BigInt64Array(this.#buffer, this.#reserve(count * BigInt64Array.BYTES_PER_ELEMENT), count);
  }

  float32(length: number): Float32Array {
    const count = elements(length, 'float32: length');
    return new Float32Array(this.#buffer, this.#reserve(count * Float32Array.BYTES_PER_ELEMENT), count);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
  }

  #reserve(bytes: number): number {
    if (this.#disposed) throw new DeviceError('DISPOSED', 'host memory was used after it was disposed');
    const start = this.#end;
    const end = aligned(start + bytes);
    if (start + bytes > this.bytes) {
      const message = `${bytes} bytes do not fit behind ${start} of ${this.bytes} bytes of host memory`;
      throw new DeviceError('OUT_OF_MEMORY', message, { hint: 'hostBytes says how much arrays take' });
    }
    this.#end = end;
    return this.#start + start;
  }
}

/**
 * Bytes of host memory that arrays of these lengths take, one behind the other.
 * @throws UsageError OPTION_INVALID for what is no list of arrays.
 */
export function hostBytes(arrays: Iterable<{ readonly byteLength: number }>): number {
  let end = 0;
  for (const bytes of byteLengths(arrays, 'hostBytes: arrays')) end += aligned(bytes);
  return end;
}

const byteLengths: Check<readonly number[]> = (value, at) =>
  reading(at, () => {
    if (typeof value !== 'object' || value === null || !(Symbol.iterator in value))
      return refuseOption(at, value, 'a list of arrays');
    return Array.from(value as Iterable<unknown>, (array) => byteLength(array, at));
  });

const byteLength: Check<number> = (value, at) =>
  elements((value as ArrayBufferView | null | undefined)?.byteLength, `${at}.byteLength`);

/** A copy of bags whose arrays lie in host memory of a backend, in the order in which they come over in one piece. */
export class HostBags implements Disposable {
  readonly bags: readonly Bags[];
  readonly #memory: HostMemory;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(backend: Pick<Backend, 'allocateHost'>, bags: readonly Bags[]) {
    const arrays = bags.flatMap(({ indices, offsets, weights }) => [
      indices,
      offsets,
      ...(weights === undefined ? [] : [weights]),
    ]);
    const memory = backend.allocateHost(hostBytes(arrays));
    const integers = (array: IndexArray) => {
      const own = array instanceof BigInt64Array ? memory.int64(array.length) : memory.int32(array.length);
      own.set(array as never);
      return own;
    };
    const floats = (array: Float32Array) => {
      const own = memory.float32(array.length);
      own.set(array);
      return own;
    };
    this.#memory = memory;
    this.bags = bags.map(({ indices, offsets, weights, ...rest }) => ({
      ...rest,
      indices: integers(indices),
      offsets: integers(offsets),
      ...(weights === undefined ? {} : { weights: floats(weights) }),
    }));
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
