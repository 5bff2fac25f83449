import { CudaError } from '../errors.ts';
import { type HostPtr, viewMemory } from '../ffi/cpu-library.ts';
import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { DevicePtr } from '../ffi/cuda-symbols.ts';
import type { CudaDevice } from './device.ts';
import { Resource } from './resource.ts';

const GIB = 2 ** 30;
const inGib = (bytes: number) => `${(bytes / GIB).toFixed(2)} GiB`;

/** Device memory, uninitialised, aligned to 256 bytes. Disposing it waits for the device. */
export class DeviceMemory extends Resource<DevicePtr> {
  /** @throws CudaError OUT_OF_MEMORY with what was asked for and what there is. */
  constructor(device: CudaDevice, bytes: number) {
    super(device, 'memory', allocate(device, bytes), bytes);
  }

  /** The address of byte `offset`. @throws DeviceError DISPOSED. */
  address(offset = 0): DevicePtr {
    return (this.handle + BigInt(offset)) as DevicePtr;
  }

  protected free(driver: CudaDriver, handle: DevicePtr): void {
    driver.free(handle);
  }
}

function allocate(device: CudaDevice, bytes: number): DevicePtr {
  const driver = device.enter();
  try {
    // The driver refuses to allocate nothing.
    return driver.allocate(Math.max(bytes, 1));
  } catch (error) {
    if (!(error instanceof CudaError && error.code === 'OUT_OF_MEMORY')) throw error;
    const { freeBytes, totalBytes } = driver.memoryInfo();
    const { call, status, contextLost } = error;
    throw new CudaError(
      'OUT_OF_MEMORY',
      `${device.id} (${device.properties.name}) cannot give ${bytes} bytes (${inGib(bytes)}): ${inGib(freeBytes)} of ${inGib(totalBytes)} are free`,
      { call, status, contextLost },
      { cause: error, value: bytes, ...(error.hint === undefined ? {} : { hint: error.hint }) },
    );
  }
}

/** Host memory that the device reads and writes by itself, so that copies run beside everything else. */
export class PinnedMemory extends Resource<HostPtr> {
  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(device: CudaDevice, bytes: number) {
    super(device, 'pinned memory', device.enter().allocatePinned(Math.max(bytes, 1)), bytes);
  }

  /** The address of byte `offset`. @throws DeviceError DISPOSED. */
  address(offset = 0): HostPtr {
    return (this.handle + BigInt(offset)) as HostPtr;
  }

  /** Bytes [offset, offset + length), length ≤ 1 GiB. Not to be used after disposal. */
  view(offset = 0, length = this.bytes - offset): ArrayBuffer {
    if (offset < 0 || length < 0 || offset + length > this.bytes) {
      throw new RangeError(`bytes [${offset}, ${offset + length}) are not in ${this.bytes} bytes`);
    }
    return viewMemory(this.address(offset), length);
  }

  protected free(driver: CudaDriver, handle: HostPtr): void {
    driver.freePinned(handle);
  }
}
