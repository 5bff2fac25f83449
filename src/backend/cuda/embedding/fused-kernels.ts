/** The kernels that pool some tables' bags in one launch, found again faster than they are launched. */
import type { CudaKernel } from '../../../cuda/module.ts';
import { type CudaPlan, kernelSettings } from '../../../plan/plan.ts';
import type { KernelUse } from '../../backend.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import type { BagKinds } from './bag-kinds.ts';
import { type FusedShape, fusedShape, fusedSource } from './fused-source.ts';
import { KnownByKinds } from './known-by-kinds.ts';
import { type CallOptions, type FusedPaths, fusedVariant } from './plan-kernels.ts';

/** A variant of the kernel, with the blocks that it runs in. */
export interface FusedKernel {
  readonly kernel: CudaKernel;
  readonly threads: number;
  /** How lanes share the rows of ordinary bags: one a kind of bags. */
  readonly shapes: readonly FusedShape[];
  /** Shared memory that a block takes for no other purpose than to keep others out. */
  readonly reservedBytes: number;
  readonly uses: readonly KernelUse[];
}

/** As long as the tables are placed; the library keeps what was compiled. */
export class FusedKernels {
  readonly #library: KernelLibrary;
  /** Naming a variant in full takes longer than launching it. */
  readonly #known = new KnownByKinds<FusedKernel>();

  constructor(library: KernelLibrary) {
    this.#library = library;
  }

  /** The kernel for bags of these kinds. @throws CudaError KERNEL_COMPILE_FAILED, OUT_OF_MEMORY. */
  async get(plan: CudaPlan, kinds: BagKinds, call: CallOptions, paths: FusedPaths): Promise<FusedKernel> {
    const known = this.#known.of(plan, kinds);
    const key = `${call.checking} ${call.output} ${call.rounds} ${paths.splits} ${paths.several}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const variant = fusedVariant(plan, kinds.distinct, call, paths);
    const { mostWarps } = kernelSettings(plan);
    const { threads } = variant;
    const kernel = await this.#library.get(fusedSource(variant));
    const reservedBytes = mostWarps === undefined ? 0 : sharedBytesFor(kernel, threads, mostWarps);
    const uses = [this.#library.use(kernel, threads, reservedBytes)];
    const made = { kernel, threads, shapes: variant.kinds.map(fusedShape), reservedBytes, uses };
    known.set(key, made);
    return made;
  }
}

/**
 * Shared memory of a block that leaves room for `warps` warps on a multiprocessor at most. Fewer warps read fewer tables at
 * once, whose hot rows then stay in L2: a register cap lets more of them in, this keeps them out.
 */
function sharedBytesFor(kernel: CudaKernel, threads: number, warps: number): number {
  const { properties } = kernel.module.device;
  const blocks = Math.max(1, Math.floor((warps * properties.warpThreads) / threads));
  if (kernel.activeBlocks(threads) <= blocks) return 0;
  const { sharedBytesPerMultiprocessor, sharedBytesPerBlockOptIn } = properties;
  // One more block would not fit.
  const share = Math.floor(sharedBytesPerMultiprocessor / (blocks + 1)) + 1;
  const bytes = Math.min(share, sharedBytesPerBlockOptIn - kernel.resources.sharedBytes);
  kernel.allowDynamicShared(bytes);
  return bytes;
}
