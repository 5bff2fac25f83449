/** The kernel families that are launched table by table: what each is told of a table, and in how many blocks it runs. */
import type { KernelFamily } from '../../../plan/plan-context.ts';
import { ArtifactBagParams } from './artifact-params.ts';
import type { BagNotes } from './bag-notes.ts';
import { StandardBagParams } from './standard-params.ts';
import type { TableKernelFamily } from './standard-source.ts';

interface TableFamily {
  /** Blocks of a launch at most: they stride over what is left. */
  readonly mostBlocks: number;
  /** The parameters of a launch. `notes`: where the kernel may note whose each lookup was. */
  encode(launch: StandardBagParams, notes: () => BagNotes): BigInt64Array;
}

export const TABLE_FAMILIES: Readonly<Record<TableKernelFamily, TableFamily>> = {
  standard: {
    mostBlocks: Number.POSITIVE_INFINITY,
    encode: (launch) => StandardBagParams.encode(launch),
  },
  artifact: {
    // PyTorch's.
    mostBlocks: 1024,
    encode: (launch, notes) =>
      ArtifactBagParams.encode({ ...launch, ...notes(), featureStride: 1, weightStride: 1 }),
  },
};

/** The family of a plan that is launched table by table. @throws TypeError for another. */
export function tableKernelFamily(kernel: KernelFamily): TableKernelFamily {
  if (kernel === 'fused') throw new TypeError('the fused kernel serves all tables in one launch');
  return kernel;
}
