/** SIGHUP: a server is to read its files again. */
export class HangUps implements Disposable {
  #renew: (() => void) | undefined;
  #wasHeard = false;
  readonly #hear = () => {
    this.#wasHeard = true;
    this.#renew?.();
  };

  /** From now on it does not end the process. */
  constructor() {
    process.on('SIGHUP', this.#hear);
  }

  /** Calls `renew` each time from now on, and once for what was heard before. */
  heed(renew: () => void): void {
    this.#renew = renew;
    if (this.#wasHeard) renew();
  }

  /** Nothing is read any more. */
  ignore(): void {
    this.#renew = undefined;
  }

  [Symbol.dispose](): void {
    process.off('SIGHUP', this.#hear);
  }
}
