/**
 * Typed binding of CUDA's driver API. Statuses end here: a failing call throws a CudaError with the call, the status
 * and what to do. Calls are synchronous, short and on the JavaScript thread, except `waitForEvent`.
 *
 * Handles and small results come back through one scratch array: no call is entered again before it returned.
 */
import koffi from 'koffi';
import { DeviceError } from '../errors.ts';
import { cString } from './c-string.ts';
import { DEVICE_ATTRIBUTE, FUNCTION_ATTRIBUTE } from './cuda-attributes.ts';
import { OwnedByThread } from './cuda-owned.ts';
import { CUDA_ERROR_NOT_READY, CUDA_SUCCESS } from './cuda-status.ts';
import {
  type AccessPolicyWindow,
  emptyTensorMap,
  encodeAccessPolicyWindow,
  encodeCopyRows,
  encodeCopyRowsToPeer,
  encodeKernelNodeParams,
  type LaunchShape,
  type PeerAddress,
  type PeerRows,
  type PitchedRows,
  type RowsShape,
  type TiledMatrix,
  tensorMapArguments,
} from './cuda-structs.ts';
import {
  type ContextHandle,
  type DevicePtr,
  DriverFunctions,
  type EventHandle,
  type FunctionHandle,
  type GraphExecHandle,
  type GraphHandle,
  type GraphNodeHandle,
  type ModuleHandle,
  type StreamHandle,
} from './cuda-symbols.ts';
import { type LibraryLocation, openLibrary, type SearchPlaces } from './find-libraries.ts';
import { addressOf, type HostPtr } from './host-memory.ts';
import { waitInContext } from './native-library.ts';
import { type HandlePlace, placeIn } from './owned-handles.ts';

const OLDEST_VERSION = 12000;
const LIMIT_PERSISTING_L2_BYTES = 6;
const STREAM_NON_BLOCKING = 1;
const EVENT_BLOCKING_SYNC = 1;
const EVENT_DISABLE_TIMING = 2;
const CAPTURE_THREAD_LOCAL = 1;
const ATTRIBUTE_ACCESS_POLICY_WINDOW = 1;
const JIT_OPTION = { infoLog: 3, infoLogBytes: 4, errorLog: 5, errorLogBytes: 6 } as const;
const JIT_LOG_BYTES = 16384;
const DEVICE_NAME_BYTES = 256;

export interface OpenDriverOptions {
  /** The driver's library; default: wherever it is found. */
  readonly path?: string;
  readonly places?: SearchPlaces;
}

export class CudaDriver {
  readonly location: LibraryLocation;
  /** The newest CUDA that the driver supports: 13000 for 13.0. */
  readonly version: number;
  /** What this thread owes the driver. */
  readonly owned: OwnedByThread;
  readonly #functions: DriverFunctions;
  readonly #call: DriverFunctions['call'];
  readonly #setCurrentAddress: bigint;
  readonly #synchronizeAddress: bigint;
  readonly #out = new BigUint64Array(new ArrayBuffer(64));
  readonly #outInt = new Int32Array(this.#out.buffer);
  readonly #outFloat = new Float32Array(this.#out.buffer);
  readonly #o = addressOf(this.#out);
  /** Of handles that nobody keeps in mind. */
  readonly #place: HandlePlace = placeIn(this.#out, this.#o);
  readonly #o1 = (this.#o + 8n) as HostPtr;
  #current: ContextHandle | undefined;

  /**
   * Opens and initialises the driver.
   * @throws DeviceError CUDA_LIBRARY_MISSING, NATIVE_LIBRARY_INCOMPATIBLE; CudaError DEVICE_UNAVAILABLE (no GPU).
   */
  constructor(options: OpenDriverOptions = {}) {
    const { library, location } = openLibrary('driver', options);
    this.location = location;
    this.#functions = new DriverFunctions(library, location.path);
    this.#call = this.#functions.call;
    this.owned = new OwnedByThread(library);
    this.#setCurrentAddress = library.symbol('cuCtxSetCurrent') as bigint;
    this.#synchronizeAddress = library.symbol('cuEventSynchronize') as bigint;
    this.#call.cuDriverGetVersion(this.#o);
    this.version = this.#outInt[0] as number;
    if (this.version < OLDEST_VERSION) {
      throw new DeviceError(
        'NATIVE_LIBRARY_INCOMPATIBLE',
        `the NVIDIA driver (${location.path}) supports CUDA ${versionText(this.version)}, Hotrow needs ${versionText(OLDEST_VERSION)}`,
        { hint: 'update the NVIDIA driver to version 525 or newer' },
      );
    }
    this.#call.cuInit(0);
  }

  // Devices and contexts.

  deviceCount(): number {
    this.#call.cuDeviceGetCount(this.#o);
    return this.#outInt[0] as number;
  }

  /** A CUdevice. */
  device(ordinal: number): number {
    this.#call.cuDeviceGet(this.#o, ordinal);
    return this.#outInt[0] as number;
  }

  deviceName(device: number): string {
    const name = new Uint8Array(new ArrayBuffer(DEVICE_NAME_BYTES));
    this.#call.cuDeviceGetName(name, DEVICE_NAME_BYTES, device);
    return cString(name);
  }

  /** As nvidia-smi prints it, without `GPU-`. */
  deviceUuid(device: number): string {
    this.#call.cuDeviceGetUuid_v2(this.#o, device);
    const hex = Buffer.from(this.#out.buffer, 0, 16).toString('hex');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }

  deviceAttribute(device: number, attribute: keyof typeof DEVICE_ATTRIBUTE): number {
    this.#call.cuDeviceGetAttribute(this.#o, DEVICE_ATTRIBUTE[attribute], device);
    return this.#outInt[0] as number;
  }

  totalMemoryBytes(device: number): number {
    this.#call.cuDeviceTotalMem_v2(this.#o, device);
    return Number(this.#out[0]);
  }

  retainPrimaryContext(device: number, place: HandlePlace = this.#place): ContextHandle {
    this.#call.cuDevicePrimaryCtxRetain(place.address, device);
    return place.handle as ContextHandle;
  }

  releasePrimaryContext(device: number): void {
    this.#current = undefined;
    this.#call.cuDevicePrimaryCtxRelease_v2(device);
  }

  /** Makes a context current on the JavaScript thread; free when it is already. */
  makeCurrent(context: ContextHandle): void {
    if (this.#current === context) return;
    this.#call.cuCtxSetCurrent(context);
    this.#current = context;
  }

  /** 0n: none. */
  currentContext(): ContextHandle {
    this.#call.cuCtxGetCurrent(this.#o);
    return this.#out[0] as ContextHandle;
  }

  /** A profiler that waits for it records from here on. */
  startProfiler(): void {
    this.#call.cuProfilerStart();
  }

  stopProfiler(): void {
    this.#call.cuProfilerStop();
  }

  /** Sets aside so much of L2 for persisting accesses; the driver rounds up. Returns what is set aside. */
  setPersistingL2Bytes(bytes: number): number {
    this.#call.cuCtxSetLimit(LIMIT_PERSISTING_L2_BYTES, bytes);
    this.#call.cuCtxGetLimit(this.#o, LIMIT_PERSISTING_L2_BYTES);
    return Number(this.#out[0]);
  }

  /** Makes every persisting line of L2 a line like any other. */
  resetPersistingL2(): void {
    this.#call.cuCtxResetPersistingL2Cache();
  }

  // Memory.

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    this.#call.cuMemGetInfo_v2(this.#o, this.#o1);
    return { freeBytes: Number(this.#out[0]), totalBytes: Number(this.#out[1]) };
  }

  allocate(bytes: number, place: HandlePlace = this.#place): DevicePtr {
    this.#call.cuMemAlloc_v2(place.address, bytes);
    return place.handle as DevicePtr;
  }

  free(memory: DevicePtr): void {
    this.#call.cuMemFree_v2(memory);
  }

  allocatePinned(bytes: number, place: HandlePlace = this.#place): HostPtr {
    this.#call.cuMemHostAlloc(place.address, bytes, 0);
    return place.handle as HostPtr;
  }

  freePinned(memory: HostPtr): void {
    this.#call.cuMemFreeHost(memory);
  }

  /** Whole pages of memory that is not the driver's. */
  registerHost(memory: HostPtr, bytes: number): void {
    this.#call.cuMemHostRegister_v2(memory, bytes, 0);
  }

  unregisterHost(memory: HostPtr): void {
    this.#call.cuMemHostUnregister(memory);
  }

  /** The host memory must stay, unchanged, until the stream has passed the copy. */
  copyToDevice(target: DevicePtr, source: HostPtr, bytes: number, stream: StreamHandle): void {
    this.#call.cuMemcpyHtoDAsync_v2(target, source, bytes, stream);
  }

  copyToHost(target: HostPtr, source: DevicePtr, bytes: number, stream: StreamHandle): void {
    this.#call.cuMemcpyDtoHAsync_v2(target, source, bytes, stream);
  }

  copyOnDevice(target: DevicePtr, source: DevicePtr, bytes: number, stream: StreamHandle): void {
    this.#call.cuMemcpyDtoDAsync_v2(target, source, bytes, stream);
  }

  /** Rows that lie apart, in device or pinned memory. */
  copyRows(target: PitchedRows, source: PitchedRows, shape: RowsShape, stream: StreamHandle): void {
    this.#call.cuMemcpy2DAsync_v2(encodeCopyRows(target, source, shape), stream);
  }

  /** Between two devices, which need not reach each other's memory. The stream is of either. */
  copyToPeer(target: PeerAddress, source: PeerAddress, bytes: number, stream: StreamHandle): void {
    this.#call.cuMemcpyPeerAsync(
      ...[target.address, target.context, source.address, source.context, bytes, stream],
    );
  }

  /** The same, of rows that lie apart. */
  copyRowsToPeer(target: PeerRows, source: PeerRows, shape: RowsShape, stream: StreamHandle): void {
    this.#call.cuMemcpy3DPeerAsync(encodeCopyRowsToPeer(target, source, shape), stream);
  }

  fillBytes(target: DevicePtr, value: number, count: number, stream: StreamHandle): void {
    this.#call.cuMemsetD8Async(target, value, count, stream);
  }

  /** `count` 32-bit words; the target is aligned to 4 bytes. */
  fillWords(target: DevicePtr, value: number, count: number, stream: StreamHandle): void {
    this.#call.cuMemsetD32Async(target, value, count, stream);
  }

  // Streams.

  /** A stream that does not wait for the default stream. Lower numbers come first; see `streamPriorities`. */
  createStream(priority: number, place: HandlePlace = this.#place): StreamHandle {
    this.#call.cuStreamCreateWithPriority(place.address, STREAM_NON_BLOCKING, priority);
    return place.handle as StreamHandle;
  }

  streamPriorities(): { least: number; greatest: number } {
    this.#call.cuCtxGetStreamPriorityRange(this.#o, this.#o1);
    return { least: this.#outInt[0] as number, greatest: this.#outInt[2] as number };
  }

  destroyStream(stream: StreamHandle): void {
    this.#call.cuStreamDestroy_v2(stream);
  }

  /** Whether all work of the stream is done. */
  streamDone(stream: StreamHandle): boolean {
    return this.#done('cuStreamQuery', stream);
  }

  /** Blocks until all work of the stream is done. */
  synchronizeStream(stream: StreamHandle): void {
    this.#call.cuStreamSynchronize(stream);
  }

  streamWaitEvent(stream: StreamHandle, event: EventHandle): void {
    this.#call.cuStreamWaitEvent(stream, event, 0);
  }

  /** For the kernels launched on the stream from now on; undefined: none. */
  setAccessPolicyWindow(stream: StreamHandle, window: AccessPolicyWindow | undefined): void {
    const value = encodeAccessPolicyWindow(window);
    this.#call.cuStreamSetAttribute(stream, ATTRIBUTE_ACCESS_POLICY_WINDOW, value);
  }

  // Events.

  /** `timing`: for `elapsedMs`; costs a little at each record. */
  createEvent(timing: boolean, place: HandlePlace = this.#place): EventHandle {
    const flags = EVENT_BLOCKING_SYNC | (timing ? 0 : EVENT_DISABLE_TIMING);
    this.#call.cuEventCreate(place.address, flags);
    return place.handle as EventHandle;
  }

  destroyEvent(event: EventHandle): void {
    this.#call.cuEventDestroy_v2(event);
  }

  recordEvent(event: EventHandle, stream: StreamHandle): void {
    this.#call.cuEventRecord(event, stream);
  }

  /** Whether the work before the event's last record is done. */
  eventDone(event: EventHandle): boolean {
    return this.#done('cuEventQuery', event);
  }

  /** Sleeps until the event is done, on one of libuv's threads. The event must live until then. */
  async waitForEvent(context: ContextHandle, event: EventHandle): Promise<void> {
    const status = await waitInContext(this.#setCurrentAddress, context, this.#synchronizeAddress, event);
    if (status !== CUDA_SUCCESS) throw this.#functions.failure('cuEventSynchronize', status);
  }

  /** Between two events with timing that are done. */
  elapsedMs(start: EventHandle, end: EventHandle): number {
    this.#call.cuEventElapsedTime(this.#o, start, end);
    return this.#outFloat[0] as number;
  }

  // Modules and kernels.

  /** Loads a cubin (or NUL-terminated PTX). */
  loadModule(image: Uint8Array, place: HandlePlace = this.#place): ModuleHandle {
    const infoLog = new Uint8Array(new ArrayBuffer(JIT_LOG_BYTES));
    const errorLog = new Uint8Array(new ArrayBuffer(JIT_LOG_BYTES));
    const size = BigInt(JIT_LOG_BYTES);
    const { infoLog: info, infoLogBytes, errorLog: error, errorLogBytes } = JIT_OPTION;
    const options = Int32Array.of(info, infoLogBytes, error, errorLogBytes);
    const values = BigUint64Array.of(addressOf(infoLog), size, addressOf(errorLog), size);
    const status = this.#functions.raw.cuModuleLoadDataEx(
      ...[place.address, image, options.length, options, values],
    );
    if (status !== CUDA_SUCCESS) {
      const log = [cString(infoLog), cString(errorLog)].join('\n').trim();
      throw this.#functions.failure('cuModuleLoadDataEx', status, log);
    }
    return place.handle as ModuleHandle;
  }

  unloadModule(module: ModuleHandle): void {
    this.#call.cuModuleUnload(module);
  }

  moduleFunction(module: ModuleHandle, name: string): FunctionHandle {
    const status = this.#functions.raw.cuModuleGetFunction(this.#o, module, name);
    if (status !== CUDA_SUCCESS) {
      throw this.#functions.failure('cuModuleGetFunction', status, `the kernel asked for is ${name}`);
    }
    return this.#out[0] as FunctionHandle;
  }

  functionAttribute(handle: FunctionHandle, attribute: keyof typeof FUNCTION_ATTRIBUTE): number {
    this.#call.cuFuncGetAttribute(this.#o, FUNCTION_ATTRIBUTE[attribute], handle);
    return this.#outInt[0] as number;
  }

  setFunctionAttribute(
    handle: FunctionHandle,
    attribute: 'maxDynamicSharedBytes' | 'sharedCarveoutPercent',
    value: number,
  ): void {
    this.#call.cuFuncSetAttribute(handle, FUNCTION_ATTRIBUTE[attribute], value);
  }

  /** Blocks that live on a multiprocessor at once. */
  activeBlocks(handle: FunctionHandle, blockThreads: number, dynamicSharedBytes: number): number {
    this.#call.cuOccupancyMaxActiveBlocksPerMultiprocessor(
      ...[this.#o, handle, blockThreads, dynamicSharedBytes],
    );
    return this.#outInt[0] as number;
  }

  /** The CUtensorMap of a matrix, as a kernel's parameters hold it. */
  describeTiles(matrix: TiledMatrix): BigUint64Array {
    const map = emptyTensorMap();
    this.#call.cuTensorMapEncodeTiled(addressOf(map), ...tensorMapArguments(matrix));
    return map;
  }

  /** `parameters`: the address of `void *[]`, one pointer a parameter. The driver has copied them when this returns. */
  launch(
    handle: FunctionHandle,
    { grid, block, dynamicSharedBytes }: LaunchShape,
    stream: StreamHandle,
    parameters: HostPtr,
  ): void {
    const status = this.#functions.raw.cuLaunchKernel(
      handle,
      grid[0],
      grid[1],
      grid[2],
      block[0],
      block[1],
      block[2],
      dynamicSharedBytes,
      stream,
      parameters,
      0,
    );
    if (status === CUDA_SUCCESS) return;
    const what = `grid (${grid}), block (${block}), ${dynamicSharedBytes} bytes of dynamic shared memory`;
    throw this.#functions.failure('cuLaunchKernel', status, what);
  }

  // Graphs.

  /** From now on, work on the stream is recorded, not run. Other threads may go on calling the driver. */
  beginCapture(stream: StreamHandle): void {
    this.#call.cuStreamBeginCapture_v2(stream, CAPTURE_THREAD_LOCAL);
  }

  endCapture(stream: StreamHandle, place: HandlePlace = this.#place): GraphHandle {
    this.#out[0] = 0n;
    this.#call.cuStreamEndCapture(stream, place.address);
    return place.handle as GraphHandle;
  }

  /** The nodes that the next work captured on the stream would depend on: the last captured, on a stream by itself. */
  lastCapturedNodes(stream: StreamHandle): GraphNodeHandle[] {
    const at = (word: number) => this.#o + BigInt(8 * word);
    this.#call.cuStreamGetCaptureInfo_v2(stream, at(0), at(1), at(2), at(3), at(4));
    const count = Number(this.#out[4]);
    if (count === 0) return [];
    const nodes = koffi.view(this.#out[3], count * BigUint64Array.BYTES_PER_ELEMENT);
    return Array.from(new BigUint64Array(nodes)) as GraphNodeHandle[];
  }

  instantiateGraph(graph: GraphHandle, place: HandlePlace = this.#place): GraphExecHandle {
    this.#call.cuGraphInstantiateWithFlags(place.address, graph, 0);
    return place.handle as GraphExecHandle;
  }

  destroyGraph(graph: GraphHandle): void {
    this.#call.cuGraphDestroy(graph);
  }

  launchGraph(exec: GraphExecHandle, stream: StreamHandle): void {
    this.#call.cuGraphLaunch(exec, stream);
  }

  destroyGraphExec(exec: GraphExecHandle): void {
    this.#call.cuGraphExecDestroy(exec);
  }

  /** Changes a kernel of an executable graph, from its next launch on. */
  updateKernelNode(
    exec: GraphExecHandle,
    node: GraphNodeHandle,
    handle: FunctionHandle,
    shape: LaunchShape,
    parameters: HostPtr,
  ): void {
    const params = encodeKernelNodeParams(handle, shape, parameters);
    this.#call.cuGraphExecKernelNodeSetParams_v2(exec, node, params);
  }

  #done(query: 'cuStreamQuery' | 'cuEventQuery', handle: bigint): boolean {
    const status = this.#functions.raw[query](handle);
    if (status === CUDA_ERROR_NOT_READY) return false;
    if (status !== CUDA_SUCCESS) throw this.#functions.failure(query, status);
    return true;
  }
}

/** 13000 → `13.0`. */
export function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}
