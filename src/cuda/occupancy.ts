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
  /** A warp's registers are given out in units of 8 a thread. */
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

/** Warps that live on a multiprocessor at once, as registers, shared memory and block slots allow. */
export function warpsPerMultiprocessor(use: {
  readonly registers: number;
  readonly threads: number;
  readonly sharedBytes?: number;
  /** Shared memory of a multiprocessor; default: not a limit. */
  readonly sharedBytesPerMultiprocessor?: number;
}): number {
  const limits = DEVICE_LIMITS;
  const warps = Math.ceil(use.threads / limits.warpThreads);
  const registers = Math.ceil(use.registers / limits.registerUnit) * limits.registerUnit;
  const byRegisters = Math.floor(
    limits.registersPerMultiprocessor / (registers * limits.warpThreads) / warps,
  );
  const byWarps = Math.floor(limits.warpsPerMultiprocessor / warps);
  const byShared = use.sharedBytes
    ? Math.floor((use.sharedBytesPerMultiprocessor ?? Number.POSITIVE_INFINITY) / use.sharedBytes)
    : Number.POSITIVE_INFINITY;
  return warps * Math.min(byRegisters, byWarps, byShared, limits.blocksPerMultiprocessor);
}
