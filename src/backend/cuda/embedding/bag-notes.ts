/** Device memory where kernels note what they pooled of a table, for families that do; the next table's notes overwrite it. */
import type { DeviceMemory } from '../../../cuda/memory.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { MemoryPools } from '../memory/pools.ts';
import { Space } from '../memory/space.ts';

export interface BagNotes {
  /** int64 [lookups of the table]: the bag of each lookup. */
  readonly offsetToBag: DevicePtr;
  /** int64 [bags of the table]: the lookups that were pooled. */
  readonly bagSize: DevicePtr;
}

/** Room for the notes on one batch, taken when it is first asked for. */
export class NotesRoom {
  readonly #pools: MemoryPools;
  readonly #bytes: number;
  readonly #bagSizeAt: number;
  #memory: DeviceMemory | undefined;

  /** `lookups`, `bags`: the most of a table. */
  constructor(pools: MemoryPools, lookups: number, bags: number) {
    this.#pools = pools;
    const space = new Space();
    space.reserve(lookups * BigInt64Array.BYTES_PER_ELEMENT);
    this.#bagSizeAt = space.reserve(bags * BigInt64Array.BYTES_PER_ELEMENT);
    this.#bytes = space.end;
  }

  /** @throws CudaError OUT_OF_MEMORY. */
  take(): BagNotes {
    this.#memory ??= this.#pools.device.borrow(this.#bytes);
    return { offsetToBag: this.#memory.address(0), bagSize: this.#memory.address(this.#bagSizeAt) };
  }

  giveBack(): void {
    if (this.#memory !== undefined) this.#pools.device.giveBack(this.#memory);
    this.#memory = undefined;
  }
}
