import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type {
  AccessPolicyWindow,
  LaunchShape,
  PeerAddress,
  PeerRows,
  PitchedRows,
  RowsShape,
} from '../ffi/cuda-structs.ts';
import type { DevicePtr, GraphNodeHandle, StreamHandle } from '../ffi/cuda-symbols.ts';
import type { HostPtr } from '../ffi/host-memory.ts';
import { ownWhile } from '../ffi/owned-handles.ts';
import type { ParameterBlock } from '../ffi/parameter-block.ts';
import type { CudaDevice } from './device.ts';
import { CudaEvent } from './event.ts';
import { CudaGraph } from './graph.ts';
import type { CudaKernel } from './module.ts';
import { Resource } from './resource.ts';

export interface StreamOptions {
  /** `high` goes before other streams' work that waits for a multiprocessor. */
  readonly priority?: 'normal' | 'high';
}

/** A queue of work on a device. Its work runs in order, beside that of other streams. */
export class CudaStream extends Resource<StreamHandle> {
  /** Events of waits that are over, for those to come. */
  readonly #idleEvents: CudaEvent[] = [];

  constructor(device: CudaDevice, { priority = 'normal' }: StreamOptions = {}) {
    super(device, 'stream', (driver, place) =>
      driver.createStream(priority === 'high' ? driver.streamPriorities().greatest : 0, place),
    );
  }

  /** The parameters are read during the call: the block may be written again at once. */
  launch(kernel: CudaKernel, shape: LaunchShape, parameters: ParameterBlock): void {
    this.device.enter().launch(kernel.handle, shape, this.handle, parameters.pointers);
  }

  /** The source must stay, unchanged, until the stream has passed the copy. Pinned memory is copied without staging. */
  copyToDevice(target: DevicePtr, source: HostPtr, bytes: number): void {
    if (bytes > 0) this.device.enter().copyToDevice(target, source, bytes, this.handle);
  }

  /** The target must stay until the stream has passed the copy. */
  copyToHost(target: HostPtr, source: DevicePtr, bytes: number): void {
    if (bytes > 0) this.device.enter().copyToHost(target, source, bytes, this.handle);
  }

  copyOnDevice(target: DevicePtr, source: DevicePtr, bytes: number): void {
    if (bytes > 0) this.device.enter().copyOnDevice(target, source, bytes, this.handle);
  }

  /** Rows that lie apart, in this device's memory or in pinned memory; what `copyToDevice` and `copyToHost` say of both. */
  copyRows(target: PitchedRows, source: PitchedRows, shape: RowsShape): void {
    this.device.enter().copyRows(target, source, shape, this.handle);
  }

  /** Between this device and another, which need not reach each other's memory. Cannot be captured. */
  copyToPeer(target: PeerAddress, source: PeerAddress, bytes: number): void {
    if (bytes > 0) this.device.enter().copyToPeer(target, source, bytes, this.handle);
  }

  /** The same, of rows that lie apart. Cannot be captured. */
  copyRowsToPeer(target: PeerRows, source: PeerRows, shape: RowsShape): void {
    this.device.enter().copyRowsToPeer(target, source, shape, this.handle);
  }

  fillBytes(target: DevicePtr, value: number, count: number): void {
    if (count > 0) this.device.enter().fillBytes(target, value, count, this.handle);
  }

  /** `count` 32-bit words. */
  fillWords(target: DevicePtr, value: number, count: number): void {
    if (count > 0) this.device.enter().fillWords(target, value, count, this.handle);
  }

  /** Work put in from now on starts when the event is done. */
  waitFor(event: CudaEvent): void {
    this.device.enter().streamWaitEvent(this.handle, event.handle);
  }

  /** For the kernels launched from now on: memory whose lines persist in L2. Undefined: none. */
  setAccessPolicyWindow(window: AccessPolicyWindow | undefined): void {
    this.device.enter().setAccessPolicyWindow(this.handle, window);
  }

  /** Whether all work is done. @throws CudaError KERNEL_FAILED when it failed. */
  get done(): boolean {
    return this.device.enter().streamDone(this.handle);
  }

  /**
   * Resolves when all work that is in the stream now is done; `expectedMs`: as in CudaEvent.wait.
   * @throws CudaError KERNEL_FAILED when it failed.
   */
  async finished(expectedMs = 0): Promise<void> {
    const event = this.#idleEvents.pop() ?? new CudaEvent(this.device);
    let reusable = false;
    try {
      event.record(this);
      await event.wait(expectedMs);
      reusable = !this.disposed;
    } finally {
      if (reusable) this.#idleEvents.push(event);
      else event[Symbol.dispose]();
    }
  }

  /** Blocks until all work is done: for measurements and tests. */
  synchronize(): void {
    this.device.enter().synchronizeStream(this.handle);
  }

  /**
   * Records what `body` puts into this stream, instead of running it.
   * @throws what `body` throws; CudaError when something in it cannot be captured (allocating, for one).
   */
  capture(body: () => void): CudaGraph {
    const driver = this.device.enter();
    driver.beginCapture(this.handle);
    try {
      body();
    } catch (error) {
      abandonCapture(driver, this.handle);
      throw error;
    }
    const owned = driver.owned.own('graph template', this.device.context);
    const template = ownWhile(owned, (place) => driver.endCapture(this.handle, place));
    return new CudaGraph(this.device, template, owned);
  }

  /** What was captured last: right after a launch inside `capture`, the node for `CudaGraph.updateKernel`. */
  lastCapturedNode(): GraphNodeHandle | undefined {
    return this.device.enter().lastCapturedNodes(this.handle)[0];
  }

  protected free(driver: CudaDriver, handle: StreamHandle): void {
    for (const event of this.#idleEvents.splice(0)) event[Symbol.dispose]();
    driver.destroyStream(handle);
  }
}

/** Ends a capture whose graph nobody wants; the error that led here is the one to tell. */
function abandonCapture(driver: CudaDriver, stream: StreamHandle): void {
  try {
    const graph = driver.endCapture(stream);
    if (graph !== 0n) driver.destroyGraph(graph);
  } catch {
    // An invalid capture has no graph.
  }
}
