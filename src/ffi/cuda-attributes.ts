/** Numbers of CUDA's driver API that callers name by words. */

/** CUdevice_attribute. */
export const DEVICE_ATTRIBUTE = {
  maxThreadsPerBlock: 1,
  sharedBytesPerBlock: 8,
  warpThreads: 10,
  clockKilohertz: 13,
  multiprocessors: 16,
  memoryClockKilohertz: 36,
  memoryBusBits: 37,
  l2Bytes: 38,
  maxThreadsPerMultiprocessor: 39,
  computeMajor: 75,
  computeMinor: 76,
  sharedBytesPerMultiprocessor: 81,
  registersPerMultiprocessor: 82,
  sharedBytesPerBlockOptIn: 97,
  blocksPerMultiprocessor: 106,
  maxPersistingL2Bytes: 108,
  maxAccessPolicyWindowBytes: 109,
} as const;

/** CUfunction_attribute. */
export const FUNCTION_ATTRIBUTE = {
  maxThreadsPerBlock: 0,
  sharedBytes: 1,
  constantBytes: 2,
  localBytes: 3,
  registers: 4,
  binaryVersion: 6,
  maxDynamicSharedBytes: 8,
  sharedCarveoutPercent: 9,
} as const;
