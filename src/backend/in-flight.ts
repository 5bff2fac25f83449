import { DeviceError } from '../errors.ts';

/** Counts calls under way, so that what they use is given back only after the last of them. */
export class InFlight {
  readonly #what: string;
  readonly #giveBack: () => void;
  /** What every call ends with. */
  readonly #call: Disposable = { [Symbol.dispose]: () => this.#leave() };
  #running = 0;
  #open = true;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** `what` is named in the error of a call that comes after the end; `giveBack` is called once. */
  constructor(what: string, giveBack: () => void) {
    this.#what = what;
    this.#giveBack = giveBack;
  }

  /** @throws DeviceError DISPOSED after the end. */
  checkOpen(): void {
    if (!this.#open) throw new DeviceError('DISPOSED', `${this.#what} was used after it was closed`);
  }

  /** Counts a call, until what is given back is disposed. @throws DeviceError DISPOSED after the end. */
  enter(): Disposable {
    this.checkOpen();
    this.#running += 1;
    return this.#call;
  }

  #leave(): void {
    this.#running -= 1;
    if (this.#running === 0) this.#idle?.();
  }

  /** Refuses new calls, and returns at once: what is used is given back now, or after the last call under way. */
  end(): void {
    if (!this.#open) return;
    if (this.#running > 0) void this.close();
    else {
      this.#open = false;
      this.#closing = Promise.resolve();
      this.#giveBack();
    }
  }

  /** Refuses new calls; resolves when all is given back, however often it is called. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#open = false;
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    this.#giveBack();
  }
}
