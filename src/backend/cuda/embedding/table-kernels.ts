/** The kernels that pool the bags of one table each, found again faster than they are launched. */
import type { CudaKernel } from '../../../cuda/module.ts';
import type { CudaPlan } from '../../../plan/plan.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import type { BagKinds } from './bag-kinds.ts';
import { KnownByKinds } from './known-by-kinds.ts';
import { type CallOptions, tableVariant } from './plan-kernels.ts';
import { type StandardBagVariant, tableBagSource } from './standard-source.ts';
import { tableKernelFamily } from './table-families.ts';

/** A variant, and the kernel that it becomes. */
export interface TableKernel {
  readonly variant: StandardBagVariant;
  /** Compiles and loads the kernel, if that has not been done. @throws CudaError KERNEL_COMPILE_FAILED, OUT_OF_MEMORY. */
  load(): Promise<CudaKernel>;
}

/** As long as the tables are placed; the library keeps what was compiled. */
export class TableKernels {
  readonly #library: Pick<KernelLibrary, 'get'>;
  readonly #known = new KnownByKinds<readonly TableKernel[]>();

  constructor(library: Pick<KernelLibrary, 'get'>) {
    this.#library = library;
  }

  /** One a kind of bags, in the order of the distinct ones. @throws TypeError for a plan that is not legal. */
  get(plan: CudaPlan, kinds: BagKinds, call: CallOptions): readonly TableKernel[] {
    const known = this.#known.of(plan, kinds);
    const key = `${call.checking} ${call.output}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const family = tableKernelFamily(plan.kernel);
    const made = kinds.distinct.map((kind) => {
      const variant = tableVariant(plan, kind, call);
      const source = tableBagSource(family, variant);
      return { variant, load: () => this.#library.get(source) };
    });
    known.set(key, made);
    return made;
  }
}
