/** Which variants of the kernels a plan asks for. Pure: a described GPU is enough. */

import type { ElementFormat } from '../../../device.ts';
import type { IndexChecking } from '../../../embedding/bag.ts';
import type { KernelSettings } from '../../../plan/kernel-families.ts';
import { type CudaPlan, kernelSettings } from '../../../plan/plan.ts';
import type { BagKind } from './bag-kind.ts';
import type { FusedFlight, FusedVariant } from './fused-source.ts';
import type { StandardBagVariant } from './standard-source.ts';

/** What a call asks for beside the plan. */
export interface CallOptions {
  readonly checking: IndexChecking;
  readonly output?: ElementFormat | undefined;
  /** Whether the fused kernel writes pooled rows in 8 bits too; default: false. */
  readonly rounds?: boolean;
}

/** The kernel for a table's bags, of a family that is launched table by table. */
export function tableVariant(
  plan: CudaPlan,
  { dim, perUser: _, ...kind }: BagKind,
  { checking, output }: CallOptions,
): StandardBagVariant {
  const { threads, prefetch, maxRegisters } = kernelSettings(plan, { dim, rowFormat: kind.rowFormat });
  return {
    ...kind,
    repair: checking === 'warn' || checking === 'ignore',
    threads,
    ...(output === undefined ? {} : { output }),
    ...(prefetch === undefined ? {} : { prefetch }),
    ...(maxRegisters === undefined ? {} : { maxRegisters }),
  };
}

const CHECKING = { error: 'stop', warn: 'repair', ignore: 'repair', none: 'none' } as const;

/** The paths that a batch's bags take through the fused kernel: long ones are cut, short ones go several to a group, of wide lanes. */
export interface FusedPaths {
  readonly splits: boolean;
  readonly several: boolean;
}

/** The fused kernel for the bags of all tables. */
export function fusedVariant(
  plan: CudaPlan,
  kinds: readonly BagKind[],
  { checking, output = 'float32', rounds = false }: CallOptions,
  { splits, several }: FusedPaths,
): FusedVariant {
  const { threads, prefetch, maxRegisters } = kernelSettings(plan);
  const flight = flightOf(prefetch);
  return {
    // A group's rows are alike, and so every kind lies in one group.
    kinds: kinds.map((kind) => {
      const { prefetch: ownPrefetch, laneBytes, turn } = kernelSettings(plan, kind);
      const own = flightOf(ownPrefetch);
      const same = own.rows === flight.rows && own.pipelined === flight.pipelined;
      return {
        ...kind,
        // Short bags are mostly what a group does once a bag: more groups would do it once more each.
        ...(laneBytes === undefined || several ? {} : { laneBytes }),
        ...(turn === undefined ? {} : { turn }),
        ...(same ? {} : { flight: own }),
      };
    }),
    checking: CHECKING[checking],
    output,
    splits,
    several,
    rounds,
    flight,
    threads,
    ...(maxRegisters === undefined ? {} : { maxRegisters }),
  };
}

function flightOf(prefetch: KernelSettings['prefetch']): FusedFlight {
  return { rows: prefetch?.distance ?? 1, pipelined: prefetch?.into === 'pipelined' };
}
