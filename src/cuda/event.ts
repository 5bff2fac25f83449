import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { EventHandle, StreamHandle } from '../ffi/cuda-symbols.ts';
import type { CudaDevice } from './device.ts';
import { Resource } from './resource.ts';

/**
 * How long a wait asks the driver, between turns of the event loop, before it sleeps. Asking notices the end of work within
 * some microseconds and lets other callbacks run between; it costs a core, so it does not go on. Waking up takes some
 * 0.2 ms (the driver's thread, then the event loop).
 */
const POLL_MS = 5;
/** How much earlier than work is expected to end that begins; until then timers ask, about once a millisecond. */
const LEAD_MS = 2;

/**
 * How long a wait asks again and again before it lets the event loop turn, which takes longer than asking. Whatever else
 * can go on without a turn does so in between.
 */
const ASKING_MS = 0.01;

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));
const nextTimer = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

/** A point in a stream. */
export class CudaEvent extends Resource<EventHandle> {
  /** `timing`: for `msSince`. */
  constructor(device: CudaDevice, options: { readonly timing?: boolean } = {}) {
    super(device, 'event', (driver, place) => driver.createEvent(options.timing ?? false, place));
  }

  /** Puts the event behind all work of the stream. */
  record(stream: Resource<StreamHandle>): void {
    this.device.enter().recordEvent(this.handle, stream.handle);
  }

  /** Whether the work before the last record is done. @throws CudaError KERNEL_FAILED when it failed. */
  get done(): boolean {
    return this.device.enter().eventDone(this.handle);
  }

  /**
   * Resolves when the work before the last record is done; the event loop stays free.
   *
   * At first the event loop polls: seldom while the work is expected to last, then in bursts between its turns (see
   * POLL_MS). What takes longer has one of libuv's threads sleep in the driver, which costs latency and no processor.
   * `expectedMs`: how long the wait may be expected to be; 0: nobody knows.
   * @throws CudaError KERNEL_FAILED when the work failed.
   */
  async wait(expectedMs = 0): Promise<void> {
    const { device, handle } = this;
    const held = this.hold();
    try {
      const began = performance.now();
      const seldomMs = Math.max(0, expectedMs - LEAD_MS);
      let turnedAt = began - ASKING_MS;
      let now = began;
      do {
        if (device.whileCurrent((driver) => driver.eventDone(handle))) return;
        if (now - turnedAt < ASKING_MS) await undefined;
        else {
          await (now - began < seldomMs ? nextTimer() : nextTurn());
          turnedAt = performance.now();
        }
        now = performance.now();
      } while (now - began < seldomMs + POLL_MS);
      await device.driver.waitForEvent(device.context, handle);
    } finally {
      held[Symbol.dispose]();
    }
  }

  /** Device time from `start` to this event, both with timing and done. */
  msSince(start: CudaEvent): number {
    return this.device.enter().elapsedMs(start.handle, this.handle);
  }

  protected free(driver: CudaDriver, handle: EventHandle): void {
    driver.destroyEvent(handle);
  }
}
