import { DeviceError } from '../errors.ts';

/** Counts calls under way, so that memory is freed only after the last of them. */
export class InFlight {
  readonly #what: string;
  #running = 0;
  #closed = false;
  #idle: (() => void) | undefined;

  /** `what` is named in the error of a call that comes after `close`. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Runs `call`, counted. @throws DeviceError DISPOSED after `close`. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new DeviceError('DISPOSED', `${this.#what} was used after it was closed`);
    this.#running += 1;
    try {
      return await call();
    } finally {
      this.#running -= 1;
      if (this.#running === 0) this.#idle?.();
    }
  }

  /** Refuses new calls and waits for those under way. `false`: it was closed before. */
  async close(): Promise<boolean> {
    if (this.#closed) return false;
    this.#closed = true;
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    return true;
  }
}
