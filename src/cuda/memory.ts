import { bytesOf, lengthOf, unreadable } from '../checks/array.ts';
import { arraysChanged, CudaError } from '../errors.ts';
import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { DevicePtr } from '../ffi/cuda-symbols.ts';
import { addressOf, type HostCopy, type HostPtr, viewMemory } from '../ffi/host-memory.ts';
import type { HandlePlace, OwnedHandle } from '../ffi/owned-handles.ts';
import type { CudaDevice } from './device.ts';
import { Resource } from './resource.ts';

const GIB = 2 ** 30;
const inGib = (bytes: number) => `${(bytes / GIB).toFixed(2)} GiB`;

/** Device memory, uninitialised, aligned to 256 bytes. Disposing it waits for the device. */
export class DeviceMemory extends Resource<DevicePtr> {
  /** @throws CudaError OUT_OF_MEMORY with what was asked for and what there is. */
  constructor(device: CudaDevice, bytes: number) {
    super(device, 'memory', (driver, place) => allocate(device, driver, bytes, place), bytes);
  }

  /** The address of byte `offset`. @throws DeviceError DISPOSED. */
  address(offset = 0): DevicePtr {
    return (this.handle + BigInt(offset)) as DevicePtr;
  }

  protected free(driver: CudaDriver, handle: DevicePtr): void {
    driver.free(handle);
  }
}

function allocate(device: CudaDevice, driver: CudaDriver, bytes: number, place: HandlePlace): DevicePtr {
  try {
    // The driver refuses to allocate nothing.
    return driver.allocate(Math.max(bytes, 1), place);
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

/** An array of a caller's. */
export type HostArray = BigInt64Array | Int32Array | Float32Array;

/** Arrays up to this size are copied by the engine, which takes less than a native call. */
const INLINE_BYTES = 1 << 14;
const VIEW_BYTES = GIB;

function viewsOf(bytes: ArrayBuffer) {
  return {
    int64: new BigInt64Array(bytes, 0, Math.floor(bytes.byteLength / 8)),
    int32: new Int32Array(bytes, 0, Math.floor(bytes.byteLength / 4)),
    float32: new Float32Array(bytes, 0, Math.floor(bytes.byteLength / 4)),
  };
}

/** Pinned host memory: the device copies from and to it asynchronously. */
export class PinnedMemory extends Resource<HostPtr> {
  #views: ReturnType<typeof viewsOf> | undefined;

  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(device: CudaDevice, bytes: number) {
    super(
      device,
      'pinned memory',
      (driver, place) => driver.allocatePinned(Math.max(bytes, 1), place),
      bytes,
    );
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

  /** Copies a small array to byte `offset`; of a larger one, the copy goes to `later`, for `copyAll`. */
  put(offset: number, array: HostArray, later: HostCopy[]): void {
    const bytes = bytesOf(array);
    if (bytes === 0 && unreadable(array) !== undefined) throw arraysChanged('was given away');
    const end = offset + bytes;
    if (end > this.bytes) throw new RangeError(`bytes [${offset}, ${end}) are not in ${this.bytes} bytes`);
    if (bytes > INLINE_BYTES || end > VIEW_BYTES || offset % array.BYTES_PER_ELEMENT !== 0) {
      later.push({ target: this.address(offset), source: array, bytes });
      return;
    }
    // Views of one type copy fastest, and a view for each array would cost more than the copy.
    const { int64, int32, float32 } = this.#kept;
    const at = offset / array.BYTES_PER_ELEMENT;
    if (array instanceof BigInt64Array) copyInline(int64, at, array);
    else if (array instanceof Int32Array) copyInline(int32, at, array);
    else copyInline(float32, at, array);
  }

  /** Copies what is at byte `offset` to a small array; to a larger one, the copy goes to `later`, for `copyAll`. */
  take(offset: number, array: Float32Array | Uint16Array, later: HostCopy[]): void {
    const bytes = bytesOf(array);
    const end = offset + bytes;
    if (end > this.bytes) throw new RangeError(`bytes [${offset}, ${end}) are not in ${this.bytes} bytes`);
    const { float32 } = this.#kept;
    const at = offset / Float32Array.BYTES_PER_ELEMENT;
    if (bytes > INLINE_BYTES || end > VIEW_BYTES || !Number.isInteger(at) || array instanceof Uint16Array)
      later.push({ target: array, source: this.address(offset), bytes });
    else array.set(float32.subarray(at, at + lengthOf(array)));
  }

  /** `count` elements from byte `offset` on, a multiple of 4. Not to be used after disposal. */
  int32(offset: number, count: number): Int32Array {
    const at = offset / Int32Array.BYTES_PER_ELEMENT;
    const { int32 } = this.#kept;
    if (at + count <= int32.length) return int32.subarray(at, at + count);
    return new Int32Array(this.view(offset, count * Int32Array.BYTES_PER_ELEMENT));
  }

  /** The 64-bit word at byte `offset`, within the first GiB. */
  word(offset: number): bigint {
    const value = this.#kept.int64[offset / BigInt64Array.BYTES_PER_ELEMENT];
    if (value === undefined) throw new RangeError(`no word begins at byte ${offset}`);
    return value;
  }

  get #kept() {
    this.#views ??= viewsOf(this.view(0, Math.min(this.bytes, VIEW_BYTES)));
    return this.#views;
  }

  protected free(driver: CudaDriver, handle: HostPtr): void {
    this.#views = undefined;
    driver.freePinned(handle);
  }
}

/** Pages are of this size at most, on the machines that GPUs are in. */
const PAGE_BYTES = 1 << 16;

/** Memory of the JavaScript engine, pinned until this is disposed; it stays the engine's. */
export class RegisteredMemory extends Resource<HostPtr> {
  /** Longer than `bytes`, which begin at `offset`. */
  readonly buffer: ArrayBuffer;
  readonly offset: number;
  readonly #start: HostPtr;

  /** @throws CudaError OUT_OF_MEMORY; RangeError for more than an ArrayBuffer holds. */
  constructor(device: CudaDevice, bytes: number) {
    const length = Math.ceil(Math.max(bytes, 1) / PAGE_BYTES) * PAGE_BYTES;
    const buffer = new ArrayBuffer(length + PAGE_BYTES);
    const start = addressOf(new Uint8Array(buffer));
    const offset = (PAGE_BYTES - Number(start % BigInt(PAGE_BYTES))) % PAGE_BYTES;
    const address = (start + BigInt(offset)) as HostPtr;
    const register = (driver: CudaDriver, place: OwnedHandle) => {
      place.write(address);
      driver.registerHost(address, length);
      return address;
    };
    super(device, 'pinned memory', register, bytes, 'registered memory');
    this.buffer = buffer;
    this.offset = offset;
    this.#start = address;
  }

  /** The address of a byte of the buffer. The device reads there while the memory is kept. */
  address(byteOffset: number): HostPtr {
    return (this.#start + BigInt(byteOffset - this.offset)) as HostPtr;
  }

  protected free(driver: CudaDriver, handle: HostPtr): void {
    driver.unregisterHost(handle);
  }
}

/** Elements that a loop copies faster than a call. */
const FEW_ELEMENTS = 8;

function copyInline<A extends HostArray>(to: A, at: number, from: A): void {
  const length = lengthOf(from);
  if (length > FEW_ELEMENTS) {
    to.set(from as never, at);
    return;
  }
  for (let i = 0; i < length; i++) to[at + i] = from[i] as never;
}
