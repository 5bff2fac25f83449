import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { EventHandle } from '../ffi/cuda-symbols.ts';
import type { CudaDevice } from './device.ts';
import { Resource } from './resource.ts';
import type { CudaStream } from './stream.ts';

/**
 * How long a wait asks the driver at every turn of the event loop before it sleeps. Asking notices the end of work within
 * some microseconds and lets other callbacks run between; it costs a core, so it does not go on. Waking up takes some
 * 0.2 ms (the driver's thread, then the event loop), which is a small part of work that takes longer than this.
 */
const POLL_MS = 5;

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A point in a stream. */
export class CudaEvent extends Resource<EventHandle> {
  /** `timing`: for `msSince`. */
  constructor(device: CudaDevice, options: { readonly timing?: boolean } = {}) {
    super(device, 'event', device.enter().createEvent(options.timing ?? false));
  }

  /** Puts the event behind all work of the stream. */
  record(stream: CudaStream): void {
    this.device.enter().recordEvent(this.handle, stream.handle);
  }

  /** Whether the work before the last record is done. @throws CudaError KERNEL_FAILED when it failed. */
  get done(): boolean {
    return this.device.enter().eventDone(this.handle);
  }

  /**
   * Resolves when the work before the last record is done; the event loop stays free.
   *
   * Two stages: at first the event loop polls (see POLL_MS); then one of libuv's threads sleeps in the driver, which
   * costs latency and no processor.
   * @throws CudaError KERNEL_FAILED when the work failed.
   */
  wait(): Promise<void> {
    return this.hold(async (handle) => {
      const { device } = this;
      const sleepAt = performance.now() + POLL_MS;
      do {
        if (device.whileCurrent((driver) => driver.eventDone(handle))) return;
        await nextTurn();
      } while (performance.now() < sleepAt);
      await device.driver.waitForEvent(device.context, handle);
    });
  }

  /** Device time from `start` to this event, both with timing and done. */
  msSince(start: CudaEvent): number {
    return this.device.enter().elapsedMs(start.handle, this.handle);
  }

  protected free(driver: CudaDriver, handle: EventHandle): void {
    driver.destroyEvent(handle);
  }
}
