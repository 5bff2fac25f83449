/** Kernel source → machine code for one architecture, from the cache when it was compiled before. */
import type { Nvrtc } from '../ffi/nvrtc.ts';
import { collectHeaders } from './headers.ts';
import { cacheKey, type KernelCache } from './kernel-cache.ts';
import { type CompiledResources, readResources } from './ptxas-log.ts';

/** The part of NVRTC that compiling needs. */
export type Compiler = Pick<Nvrtc, 'identity' | 'compile'>;

/** What to compile. A KernelSource of the CUDA backend, and where for. */
export interface KernelRequest {
  /** The variant's name in the cache, the logs and the compiler's messages. */
  readonly id: string;
  /** The kernel's name in the module (extern "C"). */
  readonly kernel: string;
  readonly source: string;
  /** Beyond those that every kernel is compiled with, e.g. `--maxrregcount=32`, `-DROWS=8`. */
  readonly options: readonly string[];
  /** The folder of the headers that the source includes in quotes. */
  readonly includeFolder: string;
  /** `sm_90`. */
  readonly architecture: string;
}

export interface CompiledKernel {
  readonly id: string;
  readonly kernel: string;
  readonly cubin: Uint8Array;
  /** What the assembler says that the kernel takes; undefined when its log does not say. */
  readonly resources: CompiledResources | undefined;
  readonly log: string;
  /** Whether it came from the cache. */
  readonly cached: boolean;
  /** The folder with the binary, the source, the options and the log; undefined when the cache cannot be written. */
  readonly cachePath: string | undefined;
}

/** @throws CudaError KERNEL_COMPILE_FAILED with the compiler's log. */
export async function compileKernel(
  request: KernelRequest,
  { compiler, cache }: { readonly compiler: Compiler; readonly cache: KernelCache },
): Promise<CompiledKernel> {
  const { id, kernel, source, architecture } = request;
  // The compiler gets the very texts that the key covers, so a header that changes meanwhile does no harm.
  const headers = collectHeaders(source, request.includeFolder);
  const options = [
    `--gpu-architecture=${architecture}`,
    '--std=c++17',
    '--ptxas-options=-v',
    ...request.options,
  ];
  const inputs = { id, source, headers, options, compiler: compiler.identity };
  const { cubin, log, cached, path } = await cache.fetch(inputs, cacheKey(inputs), () =>
    compiler.compile({ source, fileName: `${id}.cu`, headers, options }),
  );
  return { id, kernel, cubin, log, resources: readResources(log, kernel), cached, cachePath: path };
}
