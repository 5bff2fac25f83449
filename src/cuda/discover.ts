/** Which GPUs there are, or why there are none. */
import { readFileSync } from 'node:fs';
import type { DeviceCapabilities, DeviceDescription } from '../device.ts';
import { DeviceError, HotrowError } from '../errors.ts';
import { CudaDriver, versionText } from '../ffi/cuda-driver.ts';
import { type LibraryLocation, openLibrary, type SearchPlaces } from '../ffi/find-libraries.ts';
import { type DeviceProperties, deviceProperties } from './properties.ts';

/** What this machine has for CUDA. */
export interface CudaPresent {
  readonly devices: readonly DeviceDescription[];
  readonly libraries: readonly LibraryLocation[];
  /** Libraries that are missing: without `nvrtc` no kernel can be compiled, without `cublasLt` no dense layer runs. */
  readonly missing: readonly MissingLibrary[];
}

export interface MissingLibrary {
  readonly library: (typeof COMPUTE_LIBRARIES)[number];
  readonly reason: DeviceError;
}

/** What kernels are compiled with, and what multiplies matrices. */
const COMPUTE_LIBRARIES = ['nvrtc', 'cublasLt'] as const;

/** Why this machine has no CUDA device. */
export interface CudaAbsent {
  readonly reason: string;
  readonly hint?: string;
}

export interface DiscoverOptions {
  readonly places?: SearchPlaces;
  /** The driver's library; default: wherever it is found. */
  readonly driverPath?: string;
}

let opened: CudaDriver | undefined;

/** The driver of this process: opened once, since it remembers which context is current. */
export function cudaDriver(): CudaDriver {
  opened ??= new CudaDriver();
  return opened;
}

/** Never throws: what goes wrong is the reason. */
export function cudaDevices(options: DiscoverOptions = {}): CudaPresent | CudaAbsent {
  try {
    const driver = openDriver(options);
    const devices = Array.from({ length: driver.deviceCount() }, (_, ordinal) =>
      describe(driver, deviceProperties(driver, ordinal)),
    );
    if (devices.length === 0) return { reason: 'the NVIDIA driver sees no GPU' };
    return { devices, ...computeLibraries(driver, options) };
  } catch (error) {
    if (!(error instanceof HotrowError)) throw error;
    return { reason: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) };
  }
}

function openDriver({ driverPath, places }: DiscoverOptions): CudaDriver {
  if (driverPath === undefined && places === undefined) return cudaDriver();
  return new CudaDriver({
    ...(driverPath === undefined ? {} : { path: driverPath }),
    ...(places === undefined ? {} : { places }),
  });
}

const CAPABILITIES: DeviceCapabilities = {
  // TF32 keeps float32's range, and its error is far below that of click data.
  precisions: ['tf32', 'float32', 'float16', 'bfloat16'],
  hasOwnMemory: true,
  runsBesideHost: true,
  compilesKernels: true,
  launchesTableByTable: true,
  measuresLinear: true,
  exchangesWith: ['cpu', 'cuda'],
};

/** Tensor cores multiply float8 from sm_89 on. */
function hasEightBits({ computeCapability: [major, minor] }: DeviceProperties): boolean {
  return 10 * major + minor >= 89;
}

/** A device as plans and results describe it. */
export function describe(driver: CudaDriver, properties: DeviceProperties): DeviceDescription {
  const { ordinal, name, architecture, memoryBytes, multiprocessors, maxThreadsPerMultiprocessor } =
    properties;
  const { l2Bytes, maxPersistingL2Bytes } = properties;
  const release = driverRelease();
  return {
    kind: 'cuda',
    id: `cuda:${ordinal}`,
    name,
    architecture,
    threads: multiprocessors * maxThreadsPerMultiprocessor,
    memoryBytes,
    versions: {
      node: process.versions.node,
      cuda: versionText(driver.version),
      ...(release === undefined ? {} : { driver: release }),
    },
    gpu: { multiprocessors, l2Bytes, persistingL2Bytes: maxPersistingL2Bytes },
    capabilities: hasEightBits(properties)
      ? { ...CAPABILITIES, precisions: [...CAPABILITIES.precisions, 'float8_e4m3'] }
      : CAPABILITIES,
  };
}

function computeLibraries(driver: CudaDriver, { places }: DiscoverOptions) {
  const libraries: LibraryLocation[] = [driver.location];
  const missing: MissingLibrary[] = [];
  for (const name of COMPUTE_LIBRARIES) {
    try {
      const majorVersion = Math.floor(driver.version / 1000);
      libraries.push(
        openLibrary(name, { majorVersion, ...(places === undefined ? {} : { places }) }).location,
      );
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      missing.push({ library: name, reason: error });
    }
  }
  return { libraries, missing };
}

/** The driver's own version, `580.159.04`; undefined where the kernel does not say. */
function driverRelease(): string | undefined {
  try {
    return /Kernel Module\D*?(\d+(?:\.\d+)+)/.exec(readFileSync('/proc/driver/nvidia/version', 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}
