/** Device buffers in host memory: a CPU's own, which other devices' transfers reach too. */
import type { DeviceDescription } from '../device.ts';
import { type HostPtr, NativeMemory } from '../ffi/host-memory.ts';
import { type DeviceBuffer, elementBytes, type Matrix, ownBy } from './backend.ts';

/** float32 in host memory, uninitialised. */
export class HostBuffer implements DeviceBuffer {
  readonly memory: NativeMemory;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(
    readonly device: DeviceDescription,
    readonly length: number,
  ) {
    this.memory = new NativeMemory(length * Float32Array.BYTES_PER_ELEMENT);
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}

/** Where a matrix in host memory starts. @throws DeviceError DISPOSED. */
export function hostStart(matrix: Matrix): HostPtr {
  const { memory } = ownBy(HostBuffer, matrix.buffer);
  return (memory.address + BigInt(matrix.offset * elementBytes(matrix))) as HostPtr;
}
