/** The time that a characterization may take, and who asks it to end before. */

/** Why something was left out. */
export type Stopped = 'interrupted' | 'out of time';

export interface BudgetOptions {
  /** From the beginning of `now` on. */
  readonly seconds: number;
  /** Aborted by an interrupt. */
  readonly signal?: AbortSignal;
  /** ms; default: since this process began. */
  readonly now?: () => number;
}

export class Budget {
  readonly signal: AbortSignal;
  readonly #endMs: number;
  readonly #now: () => number;

  constructor({
    seconds,
    signal = new AbortController().signal,
    now = () => performance.now(),
  }: BudgetOptions) {
    this.signal = signal;
    this.#endMs = seconds * 1e3;
    this.#now = now;
  }

  /** 0 after an interrupt. */
  get leftMs(): number {
    return this.signal.aborted ? 0 : Math.max(0, this.#endMs - this.#now());
  }

  /** Undefined: work may go on. */
  get stopped(): Stopped | undefined {
    if (this.signal.aborted) return 'interrupted';
    return this.leftMs === 0 ? 'out of time' : undefined;
  }
}
