import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { FunctionHandle, ModuleHandle } from '../ffi/cuda-symbols.ts';
import type { CudaDevice } from './device.ts';
import { Resource } from './resource.ts';

/** Compiled kernels, loaded. */
export class CudaModule extends Resource<ModuleHandle> {
  /** @throws CudaError with the driver's log. */
  constructor(device: CudaDevice, cubin: Uint8Array) {
    super(device, 'module', (driver, place) => driver.loadModule(cubin, place), cubin.length);
  }

  /** @throws CudaError when the module has no such kernel. */
  kernel(name: string): CudaKernel {
    return new CudaKernel(this, name);
  }

  protected free(driver: CudaDriver, handle: ModuleHandle): void {
    driver.unloadModule(handle);
  }
}

/** What a kernel takes of a multiprocessor. */
export interface KernelResources {
  readonly registers: number;
  /** Per thread: stack and spilled registers. */
  readonly localBytes: number;
  /** Per block, declared by the kernel. */
  readonly sharedBytes: number;
  readonly constantBytes: number;
  readonly maxThreadsPerBlock: number;
}

/** A kernel of a module; it lives as long as the module. */
export class CudaKernel {
  readonly name: string;
  readonly module: CudaModule;
  /** Read when the kernel is looked up, which also makes a lazy driver load it: a capture must not have to. */
  readonly resources: KernelResources;
  readonly #handle: FunctionHandle;

  /** For CudaModule.kernel. */
  constructor(module: CudaModule, name: string) {
    const driver = module.device.enter();
    this.name = name;
    this.module = module;
    const handle = driver.moduleFunction(module.handle, name);
    this.#handle = handle;
    this.resources = {
      registers: driver.functionAttribute(handle, 'registers'),
      localBytes: driver.functionAttribute(handle, 'localBytes'),
      sharedBytes: driver.functionAttribute(handle, 'sharedBytes'),
      constantBytes: driver.functionAttribute(handle, 'constantBytes'),
      maxThreadsPerBlock: driver.functionAttribute(handle, 'maxThreadsPerBlock'),
    };
  }

  /** @throws DeviceError DISPOSED when the module was disposed. */
  get handle(): FunctionHandle {
    // Asking the module is what checks that it lives.
    void this.module.handle;
    return this.#handle;
  }

  /** Lets launches take more dynamic shared memory than the 48 KiB that need no leave. */
  allowDynamicShared(bytes: number): void {
    this.module.device.enter().setFunctionAttribute(this.handle, 'maxDynamicSharedBytes', bytes);
  }

  /** The share of the L1 that is preferred to be shared memory, 0 to 100. */
  preferSharedCarveout(percent: number): void {
    this.module.device.enter().setFunctionAttribute(this.handle, 'sharedCarveoutPercent', percent);
  }

  /** Blocks of so many threads that live on a multiprocessor at once. */
  activeBlocks(blockThreads: number, dynamicSharedBytes = 0): number {
    return this.module.device.enter().activeBlocks(this.handle, blockThreads, dynamicSharedBytes);
  }

  /** Warps that live on a multiprocessor at once, of those that it has room for: 0 to 1. */
  occupancy(blockThreads: number, dynamicSharedBytes = 0): number {
    const { warpThreads, maxThreadsPerMultiprocessor } = this.module.device.properties;
    const warps = this.activeBlocks(blockThreads, dynamicSharedBytes) * Math.ceil(blockThreads / warpThreads);
    return warps / (maxThreadsPerMultiprocessor / warpThreads);
  }
}
