/** Which registers, shared memory and block shapes let how many warps live on a multiprocessor at once. Pure arithmetic. */

/** Limits of a device that decide what is legal; the same for sm_80, sm_90 and sm_100. */
export const DEVICE_LIMITS = {
  threadsPerBlock: 1024,
  registersPerThread: 255,
  registersPerMultiprocessor: 65536,
  warpsPerMultiprocessor: 64,
  blocksPerMultiprocessor: 32,
  /** What a block may take statically; more needs an opt-in. */
  sharedBytesPerBlock: 48 * 1024,
  warpThreads: 32,
  /** A warp's registers are given out in units of 8 per thread. */
  registerUnit: 8,
} as const;

/** Fewer are never enough for a kernel with pointers: nvcc refuses or ignores lower caps. */
export const MIN_REGISTER_CAP = 16;

/**
 * The register cap that lets `warps` warps live on a multiprocessor at once, blocks of `threads` threads: the largest
 * that does. Undefined when no cap reaches it.
 */
export function capForWarps(warps: number, threads: number): number | undefined {
  const { registerUnit, registersPerThread } = DEVICE_LIMITS;
  for (
    let cap = registersPerThread - (registersPerThread % registerUnit);
    cap >= MIN_REGISTER_CAP;
    cap -= registerUnit
  ) {
    if (warpsPerMultiprocessor({ registers: cap, threads }) >= warps) return cap;
  }
  return undefined;
}

/** What a kernel takes of a multiprocessor. */
export interface KernelFootprint {
  /** Per thread. */
  readonly registers: number;
  /** Per block. */
  readonly threads: number;
  /** Per block; default: none. */
  readonly sharedBytes?: number;
}

/** What a multiprocessor has, and in what units it gives it. */
export interface MultiprocessorLimits {
  readonly warps: number;
  readonly blocks: number;
  /** The largest part of L1 that can be shared memory. */
  readonly sharedBytes: number;
  /** Of that, what a block may have. */
  readonly sharedBytesPerBlock: number;
  /** Taken from every block by the system. */
  readonly reservedSharedBytes: number;
  readonly sharedUnit: number;
}

const KIB = 1024;

/**
 * By compute capability: the CUDA C++ Programming Guide's table of technical specifications; units as in NVIDIA's occupancy
 * calculator. A minor version that is not named has what the one before it has.
 */
const LIMITS: readonly (readonly [capability: number, warps: number, blocks: number, sharedKib: number])[] = [
  [7.0, 64, 32, 96],
  [7.5, 32, 16, 64],
  [8.0, 64, 32, 164],
  [8.6, 48, 16, 100],
  [8.7, 48, 16, 164],
  [8.9, 48, 24, 100],
  [9.0, 64, 32, 228],
  [10.0, 64, 32, 228],
  [12.0, 48, 24, 100],
];

/** @throws RangeError for a compute capability before 7.0 or after 12.x. */
export function multiprocessorLimits([major, minor]: readonly [
  major: number,
  minor: number,
]): MultiprocessorLimits {
  const capability = major + minor / 10;
  const row = LIMITS.findLast(([from]) => Math.floor(from) === major && from <= capability);
  if (row === undefined) throw new RangeError(`compute capability ${major}.${minor} is not known`);
  const [, warps, blocks, sharedKib] = row;
  const reserved = major >= 8 ? 1 : 0;
  return {
    warps,
    blocks,
    sharedBytes: sharedKib * KIB,
    sharedBytesPerBlock: (sharedKib - reserved) * KIB,
    reservedSharedBytes: reserved * KIB,
    sharedUnit: major >= 8 ? 128 : 256,
  };
}

/** Registers are given to a warp in units of 256, to four warps at a time. */
const REGISTERS_PER_WARP_UNIT = 256;
const WARP_UNIT = 4;

export interface Occupancy {
  /** On a multiprocessor at once. */
  readonly blocks: number;
  readonly warps: number;
  /** Of the warps that a multiprocessor holds. */
  readonly share: number;
  /** What keeps more out; of several, the first of warps, registers, shared memory, blocks. */
  readonly limiter: 'registers' | 'shared memory' | 'warps' | 'blocks';
}

/** How many blocks of a kernel live on a multiprocessor at once, and what keeps more out. */
export function occupancyOf(
  { registers, threads, sharedBytes = 0 }: KernelFootprint,
  limits: MultiprocessorLimits,
): Occupancy {
  const { registersPerMultiprocessor, warpThreads } = DEVICE_LIMITS;
  const warps = Math.ceil(threads / warpThreads);
  const upTo = (value: number, unit: number) => Math.ceil(value / unit) * unit;
  const registersPerWarp = upTo(Math.max(1, registers) * warpThreads, REGISTERS_PER_WARP_UNIT);
  const warpsByRegisters = Math.floor(registersPerMultiprocessor / registersPerWarp / WARP_UNIT) * WARP_UNIT;
  const shared = upTo(sharedBytes + limits.reservedSharedBytes, limits.sharedUnit);
  const most = {
    warps: Math.floor(limits.warps / warps),
    registers: Math.floor(warpsByRegisters / warps),
    'shared memory':
      sharedBytes > limits.sharedBytesPerBlock ? 0 : Math.floor(limits.sharedBytes / Math.max(1, shared)),
    blocks: limits.blocks,
  } as const;
  const blocks = Math.min(...Object.values(most));
  const names = Object.keys(most) as (keyof typeof most)[];
  const limiter = names.find((name) => most[name] === blocks) ?? 'warps';
  return { blocks, warps: blocks * warps, share: (blocks * warps) / limits.warps, limiter };
}

/** Warps that live on a multiprocessor of 64 at once. `sharedBytesPerMultiprocessor`: default, not a limit. */
export function warpsPerMultiprocessor(
  use: KernelFootprint & { readonly sharedBytesPerMultiprocessor?: number },
): number {
  const sharedBytes = use.sharedBytesPerMultiprocessor ?? Number.POSITIVE_INFINITY;
  const { warpsPerMultiprocessor: warps, blocksPerMultiprocessor: blocks } = DEVICE_LIMITS;
  const limits = { warps, blocks, sharedBytes, sharedBytesPerBlock: sharedBytes };
  return occupancyOf(use, { ...limits, reservedSharedBytes: 0, sharedUnit: 1 }).warps;
}
