import { deepFrozen } from '../checks/value.ts';
import type { DeviceDescription } from '../device.ts';
import { CudaError, DeviceError } from '../errors.ts';
import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { ContextHandle } from '../ffi/cuda-symbols.ts';
import { type OwnedHandle, ownWhile } from '../ffi/owned-handles.ts';
import { describe } from './discover.ts';
import { type DeviceProperties, deviceProperties } from './properties.ts';

export type ResourceKind =
  | 'memory'
  | 'pinned memory'
  | 'stream'
  | 'event'
  | 'module'
  | 'graph'
  | 'matrix products';

/** What a device counts of a resource, and how it has it given back. */
export interface OwnedResource extends Disposable {
  readonly kind: ResourceKind;
  readonly bytes: number;
}

/** What is not yet given back. */
export interface LiveResources {
  readonly counts: Readonly<Record<ResourceKind, number>>;
  readonly deviceBytes: number;
  readonly pinnedBytes: number;
}

export interface CudaDeviceOptions {
  /** Whether the thread rests after calls that keep others out of the driver, as one does beside threads that serve. Default: false. */
  readonly letsOthersIn?: boolean;
}

/** Of a call of the driver, from which on it keeps others waiting. */
const LONG_MS = 0.1;
const NOBODY = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/**
 * A GPU, opened: its primary context, and everything that was made in it. Disposing it gives all of that back; it waits
 * for work that runs, so dispose it when the streams are idle.
 */
export class CudaDevice implements Disposable {
  readonly #letsOthersIn: boolean;
  readonly driver: CudaDriver;
  readonly properties: DeviceProperties;
  readonly #device: number;
  readonly #context: ContextHandle;
  readonly #ownedContext: OwnedHandle;
  /** In the order that they were made. */
  readonly #resources = new Set<OwnedResource>();
  #description: DeviceDescription | undefined;
  #disposed = false;
  #released = false;

  /** @throws CudaError DEVICE_UNAVAILABLE, OUT_OF_MEMORY. */
  constructor(driver: CudaDriver, ordinal = 0, { letsOthersIn = false }: CudaDeviceOptions = {}) {
    this.driver = driver;
    this.#letsOthersIn = letsOthersIn;
    this.properties = deviceProperties(driver, ordinal);
    this.#device = driver.device(ordinal);
    this.#ownedContext = driver.owned.own('primary context', undefined, this.#device);
    this.#context = ownWhile(this.#ownedContext, (place) => driver.retainPrimaryContext(this.#device, place));
  }

  /**
   * Ends what took the driver so long, and kept other threads out of it: a device that lets others in blocks its thread for as long,
   * or they would wait for call after call.
   */
  rest(ms: number): void {
    if (this.#letsOthersIn && ms >= LONG_MS) Atomics.wait(NOBODY, 0, 0, ms);
  }

  /** As `--device` takes it. */
  get id(): string {
    return `cuda:${this.properties.ordinal}`;
  }

  /** What it is and what it can do. */
  get description(): DeviceDescription {
    this.#description ??= deepFrozen(describe(this.driver, this.properties));
    return this.#description;
  }

  get context(): ContextHandle {
    return this.#context;
  }

  /** The driver, with this device's context current. @throws DeviceError DISPOSED. */
  enter(): CudaDriver {
    if (this.#disposed) throw new DeviceError('DISPOSED', `${this.id} was used after it was closed`);
    this.driver.makeCurrent(this.#context);
    return this.driver;
  }

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    return this.enter().memoryInfo();
  }

  /** Sets aside a part of L2 for persisting accesses, at most what the device has; returns the bytes set aside. */
  setPersistingL2Bytes(bytes: number): number {
    return this.enter().setPersistingL2Bytes(Math.min(bytes, this.properties.maxPersistingL2Bytes));
  }

  /** Makes every persisting line of L2 a line like any other. */
  resetPersistingL2(): void {
    this.enter().resetPersistingL2();
  }

  /** Runs `work` as the part that a profiler records, if one listens (`ncu --profile-from-start off`). */
  profiled(work: () => void): void {
    this.enter().startProfiler();
    try {
      work();
    } finally {
      this.enter().stopProfiler();
    }
  }

  live(): LiveResources {
    const counts: Record<ResourceKind, number> = {
      memory: 0,
      'pinned memory': 0,
      stream: 0,
      event: 0,
      module: 0,
      graph: 0,
      'matrix products': 0,
    };
    const bytes = { ...counts };
    for (const resource of this.#resources) {
      counts[resource.kind] += 1;
      bytes[resource.kind] += resource.bytes;
    }
    return { counts, deviceBytes: bytes.memory, pinnedBytes: bytes['pinned memory'] };
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const resource of [...this.#resources].reverse()) resource[Symbol.dispose]();
    this.#releaseWhenEmpty();
  }

  /** For resources alone: counts one in. */
  adopt(resource: OwnedResource): void {
    this.#resources.add(resource);
  }

  /** For resources alone: counts one out. */
  forget(resource: OwnedResource): void {
    this.#resources.delete(resource);
    if (this.#disposed) this.#releaseWhenEmpty();
  }

  /** For resources alone, which give themselves back also when the device is closed already. */
  whileCurrent<T>(work: (driver: CudaDriver) => T): T {
    this.driver.makeCurrent(this.#context);
    return work(this.driver);
  }

  #releaseWhenEmpty(): void {
    if (this.#released || this.#resources.size > 0) return;
    this.#released = true;
    this.#ownedContext[Symbol.dispose]();
    ignoringLostContext(() => this.driver.releasePrimaryContext(this.#device));
  }
}

/** Gives something back; a lost context has taken everything in it along. */
export function ignoringLostContext(giveBack: () => void): void {
  try {
    giveBack();
  } catch (error) {
    if (!(error instanceof CudaError && error.contextLost)) throw error;
  }
}
