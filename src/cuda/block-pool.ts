import type { CudaDevice } from './device.ts';
import { DeviceMemory, PinnedMemory } from './memory.ts';

/** Smaller blocks are all of this size. */
const SMALLEST_BYTES = 1 << 12;

type Block = DeviceMemory | PinnedMemory;

/**
 * Blocks of memory kept for the next batch: the driver takes up to milliseconds to give one, and waits for the device
 * when it takes one back. A block has a power of two of bytes, so that batches of similar size share it.
 */
export class BlockPool<B extends Block> implements Disposable {
  readonly #make: (bytes: number) => B;
  /** The most bytes that lie idle. */
  readonly #idleLimit: number;
  /** By size; what came back last is lent first. */
  readonly #idle = new Map<number, B[]>();
  #idleBytes = 0;

  private constructor(make: (bytes: number) => B, idleLimit: number) {
    this.#make = make;
    this.#idleLimit = idleLimit;
  }

  static ofDevice(device: CudaDevice, idleLimit: number): BlockPool<DeviceMemory> {
    return new BlockPool((bytes) => new DeviceMemory(device, bytes), idleLimit);
  }

  static ofPinned(device: CudaDevice, idleLimit: number): BlockPool<PinnedMemory> {
    return new BlockPool((bytes) => new PinnedMemory(device, bytes), idleLimit);
  }

  /** A block of at least `bytes`, with whatever it held before. @throws CudaError OUT_OF_MEMORY. */
  borrow(bytes: number): B {
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, SMALLEST_BYTES)));
    const block = this.#idle.get(size)?.pop();
    if (block === undefined) return this.#allocate(size);
    this.#idleBytes -= size;
    return block;
  }

  /** Takes a block back that no work needs any more. */
  giveBack(block: B): void {
    const { bytes } = block;
    if (this.#idleBytes + bytes > this.#idleLimit) {
      block[Symbol.dispose]();
      return;
    }
    const alike = this.#idle.get(bytes) ?? [];
    alike.push(block);
    this.#idle.set(bytes, alike);
    this.#idleBytes += bytes;
  }

  [Symbol.dispose](): void {
    for (const blocks of this.#idle.values()) for (const block of blocks.splice(0)) block[Symbol.dispose]();
    this.#idleBytes = 0;
  }

  /** When memory is short, idle blocks of other sizes make room. */
  #allocate(size: number): B {
    try {
      return this.#make(size);
    } catch (error) {
      if (this.#idleBytes === 0) throw error;
      this[Symbol.dispose]();
      return this.#make(size);
    }
  }
}
