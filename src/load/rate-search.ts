/** The highest rate that a server keeps a promise at. */

export interface SearchLimits {
  readonly startRate: number;
  /** The search ends where the rates that passed and failed are within this share of each other. */
  readonly resolution: number;
  /** Runs more that the rate found must pass. */
  readonly confirmations: number;
  /** Runs that a rate must fail until it counts: one may have met with something else on the machine. */
  readonly failures: number;
  readonly mostRuns: number;
}

export const SEARCH_LIMITS: SearchLimits = {
  startRate: 100,
  resolution: 0.05,
  confirmations: 2,
  failures: 2,
  mostRuns: 40,
};

/** Requests per second below which nothing is looked for. */
const LEAST_RATE = 0.1;

/**
 * Doubles the rate while runs pass, or halves it until one does; then halves the bracket; then runs the rate found again. Where it
 * fails there, the bracket lies below it. Knows nothing of clocks: it is asked for the next rate and told how the run went.
 */
export class RateSearch {
  readonly #limits: SearchLimits;
  /** Rates that passed and did not fail later, ascending, and how often each passed. */
  readonly #passed = new Map<number, number>();
  /** Failures of each rate. */
  readonly #failures = new Map<number, number>();
  #failed = Number.POSITIVE_INFINITY;
  #rate: number;
  #runs = 0;
  #found: number | undefined;
  #isDone = false;

  constructor(limits: Partial<SearchLimits> = {}) {
    this.#limits = { ...SEARCH_LIMITS, ...limits };
    this.#rate = this.#limits.startRate;
  }

  /** The rate of the next run; undefined: the search has ended. */
  get next(): { readonly rate: number; readonly step: 'bracket' | 'confirm' } | undefined {
    if (this.#isDone) return undefined;
    return { rate: this.#rate, step: this.#passed.has(this.#rate) ? 'confirm' : 'bracket' };
  }

  /** Requests per second: the highest rate that passed and was confirmed. Undefined: there is none. */
  get found(): number | undefined {
    return this.#found;
  }

  /** How the run at `next` went. */
  tell(passed: boolean): void {
    this.#runs += 1;
    if (passed) this.#passed.set(this.#rate, (this.#passed.get(this.#rate) ?? 0) + 1);
    else {
      const failures = (this.#failures.get(this.#rate) ?? 0) + 1;
      this.#failures.set(this.#rate, failures);
      if (failures < this.#limits.failures && this.#runs < this.#limits.mostRuns) return;
      this.#failed = Math.min(this.#failed, this.#rate);
      for (const rate of [...this.#passed.keys()]) if (rate >= this.#failed) this.#passed.delete(rate);
    }
    this.#advance();
  }

  #advance(): void {
    const best = Math.max(0, ...this.#passed.keys());
    const { resolution, confirmations, mostRuns } = this.#limits;
    if (best > 0 && this.#failed <= best * (1 + resolution)) {
      this.#rate = best;
      if ((this.#passed.get(best) as number) > confirmations) this.#end(best);
    } else if (this.#failed === Number.POSITIVE_INFINITY) this.#rate = best * 2;
    else if (best === 0) this.#rate = this.#failed / 2;
    else this.#rate = Math.sqrt(best * this.#failed);
    if (this.#runs >= mostRuns || this.#rate < LEAST_RATE) this.#end(this.#found);
  }

  #end(found: number | undefined): void {
    this.#found = found;
    this.#isDone = true;
  }
}
