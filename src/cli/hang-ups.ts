/** SIGHUP: a server is to read its files again. */
export class HangUps implements Disposable {
  readonly #renewals: Renewal[] = [];
  #wasHeard = false;
  readonly #hear = () => {
    this.#wasHeard = true;
    for (const renewal of this.#renewals) renewal.ask();
  };

  /** From now on it does not end the process. */
  constructor() {
    process.on('SIGHUP', this.#hear);
  }

  /**
   * Calls each of `works`, which do not reject, for all that was heard before, and from now on. One call of a work at a time, so that
   * no older one ends after a newer one: what is heard meanwhile counts as one more.
   */
  heed(...works: readonly (() => Promise<void>)[]): void {
    this.#renewals.push(...works.map((work) => new Renewal(work)));
    if (this.#wasHeard) for (const renewal of this.#renewals) renewal.ask();
  }

  /** Nothing is read any more. */
  ignore(): void {
    for (const renewal of this.#renewals.splice(0)) renewal.end();
  }

  [Symbol.dispose](): void {
    process.off('SIGHUP', this.#hear);
  }
}

class Renewal {
  readonly #work: () => Promise<void>;
  #isAsked = false;
  #isRunning = false;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  async ask(): Promise<void> {
    this.#isAsked = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    while (this.#isAsked) {
      this.#isAsked = false;
      await this.#work();
    }
    this.#isRunning = false;
  }

  end(): void {
    this.#isAsked = false;
  }
}
