/** Blocks of memory that batches, updates and programs borrow. */
import type { BlockPool } from '../../../cuda/block-pool.ts';
import type { DeviceMemory, PinnedMemory } from '../../../cuda/memory.ts';

export interface MemoryPools {
  readonly device: BlockPool<DeviceMemory>;
  readonly pinned: BlockPool<PinnedMemory>;
}
