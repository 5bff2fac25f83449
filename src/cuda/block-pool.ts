import type { CudaDevice } from './device.ts';
import { DeviceMemory, PinnedMemory } from './memory.ts';

/** Smaller blocks are all of this size. */
const SMALLEST_BYTES = 1 << 12;
/** Up to here sizes are powers of two: batches that grow and grow, as while a model is warmed up, ask the driver seldom. */
const COARSE_BYTES = 1 << 26;

type Block = DeviceMemory | PinnedMemory;

/**
 * Blocks of memory kept for the next batch: the driver takes up to milliseconds to give one (pinned, hundreds for a GiB),
 * and waits for the device when it takes one back. Batches of similar size share blocks.
 */
export class BlockPool<B extends Block> implements Disposable {
  readonly #make: (bytes: number) => B;
  /** The most bytes that lie idle. */
  readonly #idleLimit: number;
  /** What came back last stands last, and is lent first. */
  readonly #idle: B[] = [];
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
    const size = blockBytes(bytes);
    const known = this.#idle.findLastIndex((block) => block.bytes >= size && block.bytes <= 2 * size);
    if (known < 0) return this.#allocate(size);
    const [block] = this.#idle.splice(known, 1) as [B];
    this.#idleBytes -= block.bytes;
    return block;
  }

  /** Takes a block back that no work needs any more. What lay idle longest makes room for it. */
  giveBack(block: B): void {
    if (block.bytes > this.#idleLimit) {
      block[Symbol.dispose]();
      return;
    }
    this.#idle.push(block);
    this.#idleBytes += block.bytes;
    while (this.#idleBytes > this.#idleLimit) {
      const oldest = this.#idle.shift() as B;
      this.#idleBytes -= oldest.bytes;
      oldest[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    for (const block of this.#idle.splice(0)) block[Symbol.dispose]();
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

/** A power of two; of large blocks an eighth of one times a whole number, at most an eighth more than asked for. */
function blockBytes(bytes: number): number {
  const power = 2 ** Math.ceil(Math.log2(Math.max(bytes, SMALLEST_BYTES)));
  if (power <= COARSE_BYTES) return power;
  const step = power / 16;
  return Math.ceil(bytes / step) * step;
}
