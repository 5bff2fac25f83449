/**
 * The variants of the embedding-bag kernels that are launched table by table: description → legality, variant id, source
 * text, compile options. Pure. kernels/cuda/standard_bag.cuh says what every parameter means.
 */

import type { ElementFormat } from '../../../device.ts';
import { rowLayout } from '../../../embedding/row-format.ts';
import { GPU_FAMILIES, type PrefetchBuffer } from '../../../plan/kernel-families.ts';
import { DEVICE_LIMITS } from '../../../plan/occupancy.ts';
import type { KernelFamily } from '../../../plan/plan-context.ts';
import {
  type CompiledThreads,
  capId,
  capOptions,
  type KernelSource,
  kernelFunction,
  launchBounds,
  outputId,
  POOLING_NAMES,
  ROW_TYPES,
  refuseCap,
  WEIGHTS_NAMES,
} from '../kernels/source.ts';
import { ArtifactBagParams } from './artifact-params.ts';
import { type BagKind, lookupParts } from './bag-kind.ts';
import { StandardBagParams } from './standard-params.ts';

/** The kernel families that are launched table by table. */
export type TableKernelFamily = Exclude<KernelFamily, 'fused'>;

/** Their parameters, which stand in the header of their kernel. */
const PARAMS = { standard: StandardBagParams, artifact: ArtifactBagParams } as const;

/** One compiled version of the standard embedding-bag kernel, or of the artifact's, which is described alike. */
export interface StandardBagVariant extends CompiledThreads, Omit<BagKind, 'dim' | 'perUser'> {
  /** Whether bad indices and offsets are repaired (checking `warn` and `ignore`). */
  readonly repair: boolean;
  /** How pooled rows are stored; default: float32. */
  readonly output?: ElementFormat;
  readonly prefetch?: { readonly into: PrefetchBuffer; readonly distance: number };
}

export const DEFAULT_BLOCK = GPU_FAMILIES.standard.block;

/** float32 rows, int64 indices and offsets, sum, the default block; no technique. What variants are made from. */
export const PLAIN_VARIANT: StandardBagVariant = {
  rowFormat: 'float32',
  index: 'int64',
  offset: 'int64',
  pooling: 'sum',
  weights: 'none',
  padding: false,
  pruned: false,
  repair: false,
  wideRows: false,
  threads: DEFAULT_BLOCK.x * DEFAULT_BLOCK.y,
};

const PREFETCH_TYPES = {
  registers: { name: 'Registers', id: 'rpf' },
  shared: { name: 'Shared', id: 'smpf' },
  local: { name: 'Local', id: 'lmpf' },
  l1: { name: 'L1', id: 'l1dpf' },
  pipelined: { name: 'Pipelined', id: 'pipe' },
} as const;

/** Shared memory of a block. */
export function sharedBytes({ prefetch, threads }: Pick<StandardBagVariant, 'prefetch' | 'threads'>): number {
  return prefetch?.into === 'shared' ? threads * prefetch.distance * 4 : 0;
}

/** Why a variant cannot be; undefined: it is legal. */
export function refuseVariant(
  variant: StandardBagVariant,
  family: TableKernelFamily = 'standard',
): string | undefined {
  const { prefetch, threads, weights, pooling } = variant;
  const limits = DEVICE_LIMITS;
  if (!Number.isInteger(threads) || threads < 1 || threads > limits.threadsPerBlock) {
    return `a block has 1 to ${limits.threadsPerBlock} threads, not ${threads}`;
  }
  if (weights !== 'none' && pooling !== 'sum') return `weights need sum, not ${pooling}`;
  if (prefetch !== undefined) {
    const { into, distance } = prefetch;
    const { mostInFlight } = GPU_FAMILIES[family];
    if (!Number.isInteger(distance) || distance < 1 || distance > mostInFlight) {
      return `a prefetch distance is 1 to ${mostInFlight}, not ${distance}`;
    }
    if (into === 'pipelined' && family === 'artifact') return 'the artifact kernel has no pipelined prefetch';
    const bytes = sharedBytes(variant);
    if (bytes > limits.sharedBytesPerBlock) {
      return `${threads} threads × distance ${distance} need ${bytes} bytes of shared memory, a block has ${limits.sharedBytesPerBlock}`;
    }
  }
  return refuseCap(variant);
}

/** What a launch looks like. */
export interface BagLaunch {
  readonly dim: number;
  readonly batch: number;
  readonly lookups: number;
  readonly rows: number;
  readonly block: { readonly x: number; readonly y: number };
}

/** Why a variant cannot be launched so; undefined: it can. */
export function refuseLaunch(variant: StandardBagVariant, launch: BagLaunch): string | undefined {
  const { dim, batch, lookups, rows, block } = launch;
  const most = 2 ** 31;
  if (block.x * block.y > variant.threads) {
    return `block (${block.x}, ${block.y}) has more than the ${variant.threads} threads that the kernel was compiled for`;
  }
  if (lookups >= most) return `${lookups} lookups in one table; at most ${most - 1}`;
  if (batch * Math.ceil(dim / block.x) >= most)
    return `a batch of ${batch} bags of ${dim} features is too large`;
  if (rows > most && !variant.wideRows) return `${rows} rows need the wide-rows variant`;
  return undefined;
}

/** The grid that gives every chunk (one bag, block.x features) to one warp row of a block, as PyTorch's does. */
export function coveringGrid({ dim, batch, block }: Pick<BagLaunch, 'dim' | 'batch' | 'block'>): number {
  return Math.max(1, Math.ceil((batch * Math.ceil(dim / block.x)) / block.y));
}

/** `standard_bag.f32.i64.o64.sum.rpf8.cap64`: what is off is left out. */
export function variantId(variant: StandardBagVariant): string {
  return tableVariantId('standard', variant);
}

/** The same of a family: `artifact_bag.f32.i64.o64.sum`. */
export function tableVariantId(family: TableKernelFamily, variant: StandardBagVariant): string {
  const { prefetch, threads } = variant;
  return [
    GPU_FAMILIES[family].id,
    rowLayout(variant.rowFormat).id,
    ...lookupParts(variant),
    ...(variant.repair ? ['repair'] : []),
    ...(variant.wideRows ? ['wide'] : []),
    ...outputId(variant.output),
    ...(prefetch === undefined ? [] : [`${PREFETCH_TYPES[prefetch.into].id}${prefetch.distance}`]),
    ...(threads === DEFAULT_BLOCK.x * DEFAULT_BLOCK.y ? [] : [`t${threads}`]),
    ...capId(variant),
  ].join('.');
}

/** The translation unit of a variant of the standard kernel. @throws TypeError as tableBagSource. */
export function standardBagSource(variant: StandardBagVariant): KernelSource {
  return tableBagSource('standard', variant);
}

/**
 * The translation unit of a variant of a family.
 * @throws TypeError for a variant that is not legal: plans are checked before they come here.
 */
export function tableBagSource(family: TableKernelFamily, variant: StandardBagVariant): KernelSource {
  const refusal = refuseVariant(variant, family);
  if (refusal !== undefined) throw new TypeError(refusal);
  const { prefetch, threads } = variant;
  const id = tableVariantId(family, variant);
  const kernel = kernelFunction(id);
  const params = PARAMS[family];
  const source = `#include "${params.header}"

struct ${kernel}_variant {
  using Row = hotrow::${ROW_TYPES[variant.rowFormat]};
  using Index = hotrow::${variant.index};
  using Offset = hotrow::${variant.offset};
  using Output = hotrow::${ROW_TYPES[variant.output ?? 'float32']};
  static constexpr hotrow::Pooling pooling = hotrow::Pooling::${POOLING_NAMES[variant.pooling]};
  static constexpr hotrow::Weights weights = hotrow::Weights::${WEIGHTS_NAMES[variant.weights]};
  static constexpr bool padding = ${variant.padding};
  static constexpr bool pruned = ${variant.pruned};
  static constexpr bool repair = ${variant.repair};
  static constexpr bool wide_rows = ${variant.wideRows};
  static constexpr hotrow::Prefetch prefetch = hotrow::Prefetch::${prefetch ? PREFETCH_TYPES[prefetch.into].name : 'None'};
  static constexpr int distance = ${prefetch?.distance ?? 1};
  static constexpr int threads = ${threads};
};

extern "C" __global__ void ${launchBounds(variant)}${kernel}(const hotrow::${params.name} params) {
  hotrow::${GPU_FAMILIES[family].id}<${kernel}_variant>(params);
}
`;
  return { id, kernel, source, options: capOptions(variant) };
}
