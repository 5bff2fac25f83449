/**
 * The variants of the fused embedding-bag kernel: what the tables of a collection need of it → legality, id, source text,
 * compile options. Pure. kernels/cuda/fused_bags.cuh says what every member means.
 */

import type { ElementFormat } from '../../../device.ts';
import type { RowFormat } from '../../../embedding/bag.ts';
import { isQuantized, rowLayout } from '../../../embedding/row-format.ts';
import { GPU_FAMILIES } from '../../../plan/kernel-families.ts';
import { DEVICE_LIMITS } from '../../../plan/occupancy.ts';
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
import { type BagKind, lookupParts } from './bag-kind.ts';

/** How a group asks for rows before it adds them. */
export interface FusedFlight {
  /** Rows of a bag that a group asks for at once: a power of two. */
  readonly rows: number;
  /** Whether one more is asked for as each is added, instead of as many again when all are added. */
  readonly pipelined: boolean;
}

/** What one template instance is made for: a kind of bags, and what the plan says of such rows. */
export interface FusedKind extends BagKind {
  /** Where that is not the variant's. */
  readonly flight?: FusedFlight;
  /** Bytes of a row that a lane holds at most; default: MOST_LANE_BYTES. */
  readonly laneBytes?: number;
  /** Lookups that a group reads the indices of at once, a power of two; its lanes where those are more. Default: its lanes. */
  readonly turn?: number;
}

export interface FusedVariant extends CompiledThreads {
  readonly kinds: readonly FusedKind[];
  /** `stop`: bad indices and offsets are counted and read as nothing; `repair`: they read row 0, bags are clamped. */
  readonly checking: 'none' | 'stop' | 'repair';
  /** How pooled rows are stored; default: float32. */
  readonly output?: ElementFormat;
  /** Whether long bags are cut into segments. */
  readonly splits: boolean;
  /** Whether a group walks several bags, one after the other. */
  readonly several: boolean;
  /** Whether pooled rows are written in 8 bits too; default: false. */
  readonly rounds?: boolean;
  readonly flight: FusedFlight;
}

const { id: FAMILY, mostInFlight: MOST_IN_FLIGHT } = GPU_FAMILIES.fused;
const CHECKING_NAMES = { none: 'None', stop: 'Stop', repair: 'Repair' } as const;
const WARP_LANES = 32;
const MOST_VECTORS = 4;
const MOST_LANE_BYTES = 64;

/** How a kind's rows are shared by lanes: `fused::Shape` of the kernel. */
export interface FusedShape {
  /** Lanes that walk a bag together. */
  readonly lanes: number;
  /** Parts that a row is cut into. */
  readonly tiles: number;
  /** Floats of a tile, those past the row included. */
  readonly tileElements: number;
}

export function fusedShape({
  rowFormat,
  dim,
  laneBytes = MOST_LANE_BYTES,
}: Pick<FusedKind, 'rowFormat' | 'dim' | 'laneBytes'>): FusedShape {
  const { elementBits: bits } = rowLayout(rowFormat);
  const vector = Math.min(vectorBytes(rowFormat, dim), laneBytes);
  const elements = (vector * 8) / bits;
  const rowVectors = Math.ceil(dim / elements);
  const lanes = Math.min(WARP_LANES, 2 ** Math.ceil(Math.log2(rowVectors)));
  const vectors = Math.min(MOST_VECTORS, laneBytes / vector, Math.ceil(rowVectors / lanes));
  const tileVectors = lanes * vectors;
  return { lanes, tiles: Math.ceil(rowVectors / tileVectors), tileElements: tileVectors * elements };
}

/** Bytes that a lane loads at once, at most: `vector_bytes` of the row formats in kernels/cuda/rows.cuh. */
export function vectorBytes(rowFormat: RowFormat, dim: number): number {
  if (isQuantized(rowFormat)) return 16;
  return [16, 8, 4].find((width) => ((dim * rowLayout(rowFormat).elementBits) / 8) % width === 0) ?? 2;
}

/** Why a variant cannot be; undefined: it is legal. */
export function refuseFused(variant: FusedVariant): string | undefined {
  const { kinds, flight, threads } = variant;
  const limits = DEVICE_LIMITS;
  const all = [flight, ...kinds.map((kind) => kind.flight ?? flight)].map(({ rows }) => rows);
  const odd = all.find((rows) => !(rows >= 1 && rows <= MOST_IN_FLIGHT && Number.isInteger(Math.log2(rows))));
  if (odd !== undefined) {
    return `rows in flight are a power of two from 1 to ${MOST_IN_FLIGHT}, not ${odd}`;
  }
  if (!(threads >= WARP_LANES && threads <= limits.threadsPerBlock && threads % WARP_LANES === 0)) {
    return `a block has whole warps, up to ${limits.threadsPerBlock} threads, not ${threads}`;
  }
  return refuseCap(variant);
}

/** `f32.d128.i64.o64.sum`: what is off is left out. */
export function kindId(kind: FusedKind): string {
  return [
    rowLayout(kind.rowFormat).id,
    `d${kind.dim}`,
    ...lookupParts(kind),
    ...(kind.wideRows ? ['wide'] : []),
    ...(kind.perUser ? ['user'] : []),
    ...(kind.laneBytes === undefined ? [] : [`lane${kind.laneBytes}`]),
    ...(kind.turn === undefined ? [] : [`turn${kind.turn}`]),
    ...(kind.flight === undefined ? [] : [flightId(kind.flight)]),
  ].join('.');
}

function flightId({ rows, pipelined }: FusedFlight): string {
  return `${pipelined ? 'pipe' : 'u'}${rows}`;
}

/** Kinds that are named in full; of collections of more, the id has their number and a digest. */
const NAMED_KINDS = 2;

/** `fused_bags.f32.d128.i64.o64.sum.stop.u8`. */
export function fusedId(variant: FusedVariant): string {
  const { kinds, checking, output, splits, several, rounds = false, flight, threads } = variant;
  const ids = kinds.map(kindId);
  const named = ids.length <= NAMED_KINDS ? ids.join('+') : `${ids.length}kinds-${digest(ids.join('+'))}`;
  return [
    FAMILY,
    named,
    ...(checking === 'none' ? [] : [checking]),
    ...outputId(output),
    ...(rounds ? ['toe4m3'] : []),
    ...(splits ? ['split'] : []),
    ...(several ? ['several'] : []),
    flightId(flight),
    `t${threads}`,
    ...capId(variant),
  ].join('.');
}

/** FNV-1a, 32 bits: enough to tell the few collections of a process apart; the cache compares whole sources. */
function digest(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/**
 * The translation unit of a variant.
 * @throws TypeError for a variant that is not legal: plans are checked before they come here.
 */
export function fusedSource(variant: FusedVariant): KernelSource {
  const refusal = refuseFused(variant);
  if (refusal !== undefined) throw new TypeError(refusal);
  const { kinds, checking, output = 'float32', splits, several, rounds = false, flight, threads } = variant;
  const id = fusedId(variant);
  const kernel = kernelFunction(id);
  const params = `hotrow::${rounds ? 'Rounded' : 'Fused'}BagsParams`;
  const cases = kinds.map((_, i) => `      case ${i}: return visitor(${kernel}_kind_${i}{});`);
  const source = `#include "fused_bags.cuh"

${kinds.map((kind, i) => kindSource(`${kernel}_kind_${i}`, kind, kind.flight ?? flight, output)).join('\n')}
struct ${kernel}_kinds {
  template <class Visitor>
  static __device__ __forceinline__ void visit(hotrow::int64 kind, Visitor visitor) {
${kinds.length === 1 ? `    (void)kind;\n    visitor(${kernel}_kind_0{});` : `    switch (kind) {\n${cases.join('\n')}\n    }`}
  }
};

struct ${kernel}_launch {
  static constexpr int threads = ${threads};
  static constexpr hotrow::Checking checking = hotrow::Checking::${CHECKING_NAMES[checking]};
  static constexpr bool splits = ${splits};
  static constexpr bool several = ${several};
  static constexpr bool rounds = ${rounds};
  using Params = ${params};
};

extern "C" __global__ void ${launchBounds(variant)}${kernel}(const ${params} params) {
  hotrow::fused_bags<${kernel}_launch, ${kernel}_kinds>(params);
}
`;
  return { id, kernel, source, options: capOptions(variant) };
}

function kindSource(name: string, kind: FusedKind, flight: FusedFlight, output: ElementFormat): string {
  return `struct ${name} {
  using Row = hotrow::${ROW_TYPES[kind.rowFormat]};
  using Index = hotrow::${kind.index};
  using Offset = hotrow::${kind.offset};
  using Output = hotrow::${ROW_TYPES[output]};
  static constexpr hotrow::Pooling pooling = hotrow::Pooling::${POOLING_NAMES[kind.pooling]};
  static constexpr hotrow::Weights weights = hotrow::Weights::${WEIGHTS_NAMES[kind.weights]};
  static constexpr bool padding = ${kind.padding};
  static constexpr bool pruned = ${kind.pruned};
  static constexpr bool wide_rows = ${kind.wideRows};
  static constexpr bool per_user = ${kind.perUser};
  static constexpr int dim = ${kind.dim};
  static constexpr int lane_bytes = ${kind.laneBytes ?? MOST_LANE_BYTES};
  static constexpr int turn = ${kind.turn ?? 1};
  static constexpr int in_flight = ${flight.rows};
  static constexpr bool pipelined = ${flight.pipelined};
};
`;
}
