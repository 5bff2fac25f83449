/**
 * Polling for work. A thread that sleeps is woken in some 20 µs on a busy machine, and in over 100 µs on one whose cores have gone to
 * sleep with it, which is longer than a small batch takes on a GPU. So a thread polls for a while after there was something to do.
 */
import { nowMs } from './clock.ts';

/** How long a thread polls by default, where the machine has cores for it. */
export const POLL_MS = 2;

export class BusyPoll {
  readonly #ms: number;
  #untilMs = Number.NEGATIVE_INFINITY;

  /** `ms`: how long after there was something to do; 0: never. */
  constructor(ms: number) {
    this.#ms = ms;
  }

  /** There was something to do. */
  extend(): void {
    if (this.#ms > 0) this.#untilMs = nowMs() + this.#ms;
  }

  /** Whether the thread should look again instead of sleeping. */
  get isOn(): boolean {
    return this.#ms > 0 && nowMs() < this.#untilMs;
  }
}

/** The next turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
