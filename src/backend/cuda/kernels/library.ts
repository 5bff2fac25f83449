import type { CudaDevice } from '../../../cuda/device.ts';
import { type CudaKernel, CudaModule } from '../../../cuda/module.ts';
import { type Compiler, compileKernel } from '../../../jit/compile-kernel.ts';
import type { KernelCache } from '../../../jit/kernel-cache.ts';
import type { KernelUse } from '../../backend.ts';
import { KERNELS_FOLDER, type KernelSource } from './source.ts';
import { type UtilityKernel, utilitySource } from './utilities.ts';

/** The kernels of a device: compiled, or taken from the cache, when they are first asked for; loaded until it closes. */
export class KernelLibrary {
  readonly #device: CudaDevice;
  readonly #compiler: Compiler;
  readonly #cache: KernelCache;
  readonly #kernels = new Map<string, Promise<CudaKernel>>();
  readonly #ids = new Map<CudaKernel, string>();
  readonly #uses = new Map<string, KernelUse>();

  constructor(device: CudaDevice, compiler: Compiler, cache: KernelCache) {
    this.#device = device;
    this.#compiler = compiler;
    this.#cache = cache;
  }

  /** @throws CudaError KERNEL_COMPILE_FAILED, OUT_OF_MEMORY. */
  get(source: KernelSource): Promise<CudaKernel> {
    const known = this.#kernels.get(source.id);
    if (known !== undefined) return known;
    const loading = this.#load(source);
    this.#kernels.set(source.id, loading);
    // What failed, for want of memory say, may be tried again.
    loading.catch(() => this.#kernels.delete(source.id));
    return loading;
  }

  /** What a kernel takes of a multiprocessor in blocks of `threads`. @throws TypeError for a kernel of another library. */
  use(kernel: CudaKernel, threads: number, dynamicSharedBytes = 0): KernelUse {
    const id = this.#ids.get(kernel);
    if (id === undefined) throw new TypeError(`${kernel.name} was not loaded by this library`);
    const key = `${id} ${threads} ${dynamicSharedBytes}`;
    const known = this.#uses.get(key) ?? useOf(id, kernel, threads, dynamicSharedBytes);
    this.#uses.set(key, known);
    return known;
  }

  utility(name: UtilityKernel): Promise<CudaKernel> {
    return this.get(utilitySource(name));
  }

  async #load(source: KernelSource): Promise<CudaKernel> {
    const { architecture } = this.#device.properties;
    const request = { ...source, includeFolder: KERNELS_FOLDER, architecture };
    const { cubin, kernel } = await compileKernel(request, { compiler: this.#compiler, cache: this.#cache });
    const loaded = new CudaModule(this.#device, cubin).kernel(kernel);
    this.#ids.set(loaded, source.id);
    return loaded;
  }
}

function useOf(id: string, kernel: CudaKernel, threads: number, dynamicSharedBytes: number): KernelUse {
  const { registers, localBytes, sharedBytes } = kernel.resources;
  const { warpThreads } = kernel.module.device.properties;
  return {
    id,
    registers,
    localBytes,
    sharedBytes: sharedBytes + dynamicSharedBytes,
    warps: kernel.activeBlocks(threads, dynamicSharedBytes) * Math.ceil(threads / warpThreads),
    occupancy: kernel.occupancy(threads, dynamicSharedBytes),
  };
}
