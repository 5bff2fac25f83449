/** What plans are checked and chosen against. */
import type { RecordedDevice } from '../device.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';

/**
 * How the embedding stage is computed: `standard`, the plain kernel of a device, one launch per table on a GPU; `fused`, one
 * launch for all tables; `artifact`, a kernel of the shape that the paper measured, one launch per table, to compare with.
 */
export type KernelFamily = 'standard' | 'fused' | 'artifact';
export const KERNELS: readonly KernelFamily[] = Object.freeze(['standard', 'fused', 'artifact'] as const);

/** What a plan is checked and chosen against. */
export interface PlanContext {
  readonly device: RecordedDevice;
  /** The plan's kernel family; default: `standard`. */
  readonly kernel?: KernelFamily;
  /** Threads of a block of that kernel on a GPU; default: the family's. */
  readonly blockThreads?: number;
  readonly tables: readonly (Pick<EmbeddingTable, 'rows' | 'dim' | 'rowFormat'> &
    Partial<Pick<EmbeddingTable, 'weight'>>)[];
}
