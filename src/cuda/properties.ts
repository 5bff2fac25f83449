import type { CudaDriver } from '../ffi/cuda-driver.ts';

/** What a GPU is. */
export interface DeviceProperties {
  readonly ordinal: number;
  readonly name: string;
  readonly uuid: string;
  readonly computeCapability: readonly [major: number, minor: number];
  /** What kernels are compiled for: `sm_90`. */
  readonly architecture: string;
  readonly memoryBytes: number;
  readonly multiprocessors: number;
  readonly clockMegahertz: number;
  /** Of the memory's wires: double data rates count once. 0: the driver does not say. */
  readonly memoryClockMegahertz: number;
  readonly memoryBusBits: number;
  readonly l2Bytes: number;
  /** The most that persisting accesses can have of L2; 0: none. */
  readonly maxPersistingL2Bytes: number;
  /** The longest access-policy window of a stream. */
  readonly maxAccessPolicyWindowBytes: number;
  readonly warpThreads: number;
  readonly maxThreadsPerBlock: number;
  readonly maxThreadsPerMultiprocessor: number;
  readonly blocksPerMultiprocessor: number;
  readonly registersPerMultiprocessor: number;
  readonly sharedBytesPerMultiprocessor: number;
  readonly sharedBytesPerBlock: number;
  /** With `CudaKernel.allowDynamicShared`. */
  readonly sharedBytesPerBlockOptIn: number;
}

/** @throws CudaError DEVICE_UNAVAILABLE for an ordinal that is not there. */
export function deviceProperties(driver: CudaDriver, ordinal: number): DeviceProperties {
  const device = driver.device(ordinal);
  const attribute = (name: Parameters<CudaDriver['deviceAttribute']>[1]) =>
    driver.deviceAttribute(device, name);
  const major = attribute('computeMajor');
  const minor = attribute('computeMinor');
  return {
    ordinal,
    name: driver.deviceName(device),
    uuid: driver.deviceUuid(device),
    computeCapability: [major, minor],
    architecture: `sm_${major}${minor}`,
    memoryBytes: driver.totalMemoryBytes(device),
    multiprocessors: attribute('multiprocessors'),
    clockMegahertz: attribute('clockKilohertz') / 1000,
    memoryClockMegahertz: attribute('memoryClockKilohertz') / 1000,
    memoryBusBits: attribute('memoryBusBits'),
    l2Bytes: attribute('l2Bytes'),
    maxPersistingL2Bytes: attribute('maxPersistingL2Bytes'),
    maxAccessPolicyWindowBytes: attribute('maxAccessPolicyWindowBytes'),
    warpThreads: attribute('warpThreads'),
    maxThreadsPerBlock: attribute('maxThreadsPerBlock'),
    maxThreadsPerMultiprocessor: attribute('maxThreadsPerMultiprocessor'),
    blocksPerMultiprocessor: attribute('blocksPerMultiprocessor'),
    registersPerMultiprocessor: attribute('registersPerMultiprocessor'),
    sharedBytesPerMultiprocessor: attribute('sharedBytesPerMultiprocessor'),
    sharedBytesPerBlock: attribute('sharedBytesPerBlock'),
    sharedBytesPerBlockOptIn: attribute('sharedBytesPerBlockOptIn'),
  };
}
