import type { CudaDevice } from '../../cuda/device.ts';
import { DeviceMemory } from '../../cuda/memory.ts';
import type { DevicePtr } from '../../ffi/cuda-symbols.ts';
import { type DeviceBuffer, type Matrix, ownBy } from '../backend.ts';

export const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** float32 in device memory. */
export class CudaBuffer implements DeviceBuffer {
  readonly length: number;
  readonly #memory: DeviceMemory;

  constructor(device: CudaDevice, length: number) {
    this.length = length;
    this.#memory = new DeviceMemory(device, length * FLOAT_BYTES);
  }

  /** The address of an element. @throws DeviceError DISPOSED. */
  address(element = 0): DevicePtr {
    return this.#memory.address(element * FLOAT_BYTES);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** Where a matrix starts. */
export function startOf({ buffer, offset }: Matrix): DevicePtr {
  return ownBy(CudaBuffer, buffer).address(offset);
}
