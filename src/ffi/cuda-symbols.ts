/** The functions of CUDA's driver API that Hotrow calls, and the handles that they deal in. */
import koffi, { type LibraryHandle } from 'koffi';
import { type CudaError, DeviceError } from '../errors.ts';
import { CUDA_SUCCESS, cudaStatusError } from './cuda-status.ts';
import { addressOf } from './host-memory.ts';

/** An address in device memory. */
export type DevicePtr = bigint & { readonly __brand: 'DevicePtr' };
export type ContextHandle = bigint & { readonly __brand: 'CudaContext' };
export type StreamHandle = bigint & { readonly __brand: 'CudaStream' };
export type EventHandle = bigint & { readonly __brand: 'CudaEvent' };
export type ModuleHandle = bigint & { readonly __brand: 'CudaModule' };
export type FunctionHandle = bigint & { readonly __brand: 'CudaFunction' };
export type GraphHandle = bigint & { readonly __brand: 'CudaGraph' };
export type GraphNodeHandle = bigint & { readonly __brand: 'CudaGraphNode' };
export type GraphExecHandle = bigint & { readonly __brand: 'CudaGraphExec' };

/** Arguments by name → C parameters. `out` parameters are addresses that the driver writes to. */
const PARAMETERS = {
  cuGetErrorName: 'int status, uintptr_t out',
  cuGetErrorString: 'int status, uintptr_t out',
  cuDriverGetVersion: 'uintptr_t out',
  cuInit: 'uint32_t flags',
  cuDeviceGetCount: 'uintptr_t out',
  cuDeviceGet: 'uintptr_t out, int ordinal',
  cuDeviceGetName: 'void *out, int bytes, int device',
  cuDeviceGetUuid_v2: 'uintptr_t out, int device',
  cuDeviceGetAttribute: 'uintptr_t out, int attribute, int device',
  cuDeviceTotalMem_v2: 'uintptr_t out, int device',
  cuDevicePrimaryCtxRetain: 'uintptr_t out, int device',
  cuDevicePrimaryCtxRelease_v2: 'int device',
  cuCtxSetCurrent: 'uintptr_t context',
  cuCtxGetCurrent: 'uintptr_t out',
  cuCtxSetLimit: 'int limit, size_t value',
  cuCtxGetLimit: 'uintptr_t out, int limit',
  cuCtxResetPersistingL2Cache: '',
  cuProfilerStart: '',
  cuProfilerStop: '',
  cuMemGetInfo_v2: 'uintptr_t free, uintptr_t total',
  cuMemAlloc_v2: 'uintptr_t out, size_t bytes',
  cuMemFree_v2: 'uintptr_t memory',
  cuMemHostAlloc: 'uintptr_t out, size_t bytes, uint32_t flags',
  cuMemFreeHost: 'uintptr_t memory',
  cuMemHostRegister_v2: 'uintptr_t memory, size_t bytes, uint32_t flags',
  cuMemHostUnregister: 'uintptr_t memory',
  cuMemcpyHtoDAsync_v2: 'uintptr_t target, uintptr_t source, size_t bytes, uintptr_t stream',
  cuMemcpyDtoHAsync_v2: 'uintptr_t target, uintptr_t source, size_t bytes, uintptr_t stream',
  cuMemcpyDtoDAsync_v2: 'uintptr_t target, uintptr_t source, size_t bytes, uintptr_t stream',
  cuMemcpy2DAsync_v2: 'void *copy, uintptr_t stream',
  cuMemcpyPeerAsync:
    'uintptr_t target, uintptr_t target_context, uintptr_t source, uintptr_t source_context, size_t bytes, uintptr_t stream',
  cuMemcpy3DPeerAsync: 'void *copy, uintptr_t stream',
  cuMemsetD8Async: 'uintptr_t target, uint8_t value, size_t count, uintptr_t stream',
  cuMemsetD32Async: 'uintptr_t target, uint32_t value, size_t count, uintptr_t stream',
  cuStreamCreateWithPriority: 'uintptr_t out, uint32_t flags, int priority',
  cuStreamDestroy_v2: 'uintptr_t stream',
  cuStreamQuery: 'uintptr_t stream',
  cuStreamSynchronize: 'uintptr_t stream',
  cuStreamWaitEvent: 'uintptr_t stream, uintptr_t event, uint32_t flags',
  cuStreamSetAttribute: 'uintptr_t stream, int attribute, void *value',
  cuStreamBeginCapture_v2: 'uintptr_t stream, int mode',
  cuStreamEndCapture: 'uintptr_t stream, uintptr_t out',
  cuStreamGetCaptureInfo_v2:
    'uintptr_t stream, uintptr_t status, uintptr_t id, uintptr_t graph, uintptr_t dependencies, uintptr_t count',
  cuCtxGetStreamPriorityRange: 'uintptr_t least, uintptr_t greatest',
  cuEventCreate: 'uintptr_t out, uint32_t flags',
  cuEventDestroy_v2: 'uintptr_t event',
  cuEventRecord: 'uintptr_t event, uintptr_t stream',
  cuEventQuery: 'uintptr_t event',
  cuEventSynchronize: 'uintptr_t event',
  cuEventElapsedTime: 'uintptr_t out, uintptr_t start, uintptr_t end',
  cuModuleLoadDataEx: 'uintptr_t out, void *image, uint32_t option_count, void *options, void *values',
  cuModuleUnload: 'uintptr_t module',
  cuModuleGetFunction: 'uintptr_t out, uintptr_t module, const char *name',
  cuFuncGetAttribute: 'uintptr_t out, int attribute, uintptr_t function',
  cuFuncSetAttribute: 'uintptr_t function, int attribute, int value',
  cuOccupancyMaxActiveBlocksPerMultiprocessor:
    'uintptr_t out, uintptr_t function, int block_threads, size_t dynamic_shared_bytes',
  cuLaunchKernel:
    'uintptr_t function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z, uint32_t shared_bytes, uintptr_t stream, uintptr_t parameters, uintptr_t extra',
  cuTensorMapEncodeTiled:
    'uintptr_t map, int type, uint32_t rank, uintptr_t address, void *sizes, void *strides, void *tile, void *steps, int interleave, int swizzle, int promotion, int fill',
  cuGraphInstantiateWithFlags: 'uintptr_t out, uintptr_t graph, uint64_t flags',
  cuGraphDestroy: 'uintptr_t graph',
  cuGraphLaunch: 'uintptr_t exec, uintptr_t stream',
  cuGraphExecDestroy: 'uintptr_t exec',
  cuGraphExecKernelNodeSetParams_v2: 'uintptr_t exec, uintptr_t node, void *params',
} as const;

export type CudaCall = keyof typeof PARAMETERS;

/** What a native function takes; an array is passed as its address, and kept meanwhile. */
export type Argument = number | bigint | string | ArrayBufferView;
/** A native function; its result is a CUresult. */
export type NativeCall = (...args: readonly Argument[]) => number;
/** The same, throwing a CudaError for every status but success. */
export type CheckedCall = (...args: readonly Argument[]) => void;

/** The driver's functions, and how their failures are told. */
export class DriverFunctions {
  /** Checked. */
  readonly call: Readonly<Record<CudaCall, CheckedCall>>;
  /** Unchecked, for statuses that are no failure, for failures with more to tell, and for the hot path. */
  readonly raw: Readonly<Record<CudaCall, NativeCall>>;
  readonly #out = new BigUint64Array(new ArrayBuffer(8));

  /** @throws DeviceError NATIVE_LIBRARY_INCOMPATIBLE, which names what the library lacks. */
  constructor(library: LibraryHandle, path: string) {
    const missing: string[] = [];
    const raw: Partial<Record<CudaCall, NativeCall>> = {};
    const checked: Partial<Record<CudaCall, CheckedCall>> = {};
    for (const [name, parameters] of Object.entries(PARAMETERS) as [CudaCall, string][]) {
      let native: NativeCall;
      try {
        native = library.func(`int ${name}(${parameters === '' ? 'void' : parameters})`);
      } catch {
        missing.push(name);
        continue;
      }
      raw[name] = native;
      checked[name] = (...args) => {
        const status = native(...args);
        if (status !== CUDA_SUCCESS) throw this.failure(name, status);
      };
    }
    if (missing.length > 0) {
      throw new DeviceError('NATIVE_LIBRARY_INCOMPATIBLE', `${path} lacks ${missing.join(', ')}`, {
        hint: 'update the NVIDIA driver; Hotrow needs one for CUDA 12 or newer',
      });
    }
    this.raw = raw as Record<CudaCall, NativeCall>;
    this.call = checked as Record<CudaCall, CheckedCall>;
  }

  /** What to throw for a failing call; `more` is put under the message. */
  failure(call: CudaCall, status: number, more?: string): CudaError {
    const name = this.#text('cuGetErrorName', status);
    const text = this.#text('cuGetErrorString', status);
    return cudaStatusError(call.replace(/_v\d$/, ''), status, name, text, more);
  }

  #text(call: 'cuGetErrorName' | 'cuGetErrorString', status: number): string {
    const known = this.raw[call](status, addressOf(this.#out)) === CUDA_SUCCESS && this.#out[0] !== 0n;
    return known ? koffi.decode.string(this.#out[0]) : 'a status that the driver has no words for';
  }
}
