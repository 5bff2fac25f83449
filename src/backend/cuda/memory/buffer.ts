import type { CudaDevice } from '../../../cuda/device.ts';
import { DeviceMemory } from '../../../cuda/memory.ts';
import type { DeviceDescription } from '../../../device.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { type DeviceBuffer, elementBytes, type Matrix, ownBy } from '../../backend.ts';

export const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** float32 in device memory. */
export class CudaBuffer implements DeviceBuffer {
  readonly length: number;
  readonly device: DeviceDescription;
  readonly #memory: DeviceMemory;

  constructor(device: CudaDevice, length: number) {
    this.length = length;
    this.device = device.description;
    this.#memory = new DeviceMemory(device, length * FLOAT_BYTES);
  }

  /** The GPU that it is on. */
  get gpu(): CudaDevice {
    return this.#memory.device;
  }

  /** The address of a byte. @throws DeviceError DISPOSED. */
  at(byte: number): DevicePtr {
    return this.#memory.address(byte);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** Where a matrix starts, or its column `column`. */
export function startOf(matrix: Matrix, column = 0): DevicePtr {
  const { buffer, offset } = matrix;
  return ownBy(CudaBuffer, buffer).at((offset + column) * elementBytes(matrix));
}
