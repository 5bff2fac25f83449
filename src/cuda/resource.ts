import { DeviceError } from '../errors.ts';
import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { CudaHandleKind } from '../ffi/cuda-owned.ts';
import { type HandleCalls, type OwnedHandle, ownWhile } from '../ffi/owned-handles.ts';
import { type CudaDevice, ignoringLostContext, type OwnedResource, type ResourceKind } from './device.ts';

/**
 * Something that the driver made and must be given back to it. Disposing twice is harmless; using it after that throws
 * DISPOSED. What is disposed while a wait needs it is given back when the wait ends; what is not disposed when its JavaScript
 * thread ends, as a worker's that is terminated, is given back then.
 */
export abstract class Resource<H extends bigint = bigint> implements OwnedResource {
  readonly device: CudaDevice;
  readonly kind: ResourceKind;
  readonly bytes: number;
  readonly #handle: H;
  readonly #owned: OwnedHandle;
  /** What every hold ends with. */
  readonly #held: Disposable = { [Symbol.dispose]: () => this.#release() };
  #disposed = false;
  #holds = 0;

  /**
   * `make`: has the driver write the handle to its place, the device's context being current. `calls`: how it is given back when
   * the thread ends, or what the driver calls it, where that is not `kind`.
   */
  protected constructor(
    device: CudaDevice,
    kind: ResourceKind,
    make: (driver: CudaDriver, place: OwnedHandle) => H,
    bytes = 0,
    calls: HandleCalls | CudaHandleKind = kind as CudaHandleKind,
  ) {
    this.device = device;
    this.kind = kind;
    this.bytes = bytes;
    const driver = device.enter();
    const { owned } = driver;
    this.#owned =
      typeof calls === 'string' ? owned.own(calls, device.context) : owned.ownBy(calls, device.context);
    const from = performance.now();
    this.#handle = ownWhile(this.#owned, (place) => make(driver, place));
    device.adopt(this);
    device.rest(performance.now() - from);
  }

  /** @throws DeviceError DISPOSED. */
  get handle(): H {
    if (this.#disposed)
      throw new DeviceError('DISPOSED', `a CUDA ${this.kind} was used after it was disposed`);
    return this.#handle;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#holds === 0) this.#giveBack();
  }

  /** Gives the handle back to the driver; the device's context is current. */
  protected abstract free(driver: CudaDriver, handle: H): void;

  /** Keeps the handle until what is given back is disposed, whatever else is meanwhile. @throws DeviceError DISPOSED. */
  hold(): Disposable {
    void this.handle;
    this.#holds += 1;
    return this.#held;
  }

  #release(): void {
    this.#holds -= 1;
    if (this.#holds === 0 && this.#disposed) this.#giveBack();
  }

  #giveBack(): void {
    this.#owned[Symbol.dispose]();
    const from = performance.now();
    try {
      ignoringLostContext(() => this.device.whileCurrent((driver) => this.free(driver, this.#handle)));
    } finally {
      this.device.forget(this);
      this.device.rest(performance.now() - from);
    }
  }
}
