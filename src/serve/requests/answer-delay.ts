/**
 * How long answers take from an engine to their clients: a thread that receives large bodies comes to them late. Engines are told
 * earlier deadlines by so much, so that what they finish in time is in time where it counts.
 */

/** The share of answers that take no longer than what is said. */
const QUANTILE = 0.95;
/** Answers from one estimate to the next. */
const WINDOW = 64;
/** Of the time that a request has, at most so much is kept back. */
const MOST_SHARE = 0.25;

export class AnswerDelay {
  readonly #last = new Float64Array(WINDOW);
  #count = 0;
  #ms = 0;

  /** An answer was on its way so many ms after the engine had given it. */
  observe(ms: number): void {
    this.#last[this.#count++] = ms;
    if (this.#count < WINDOW) return;
    this.#count = 0;
    this.#ms = Math.max(0, this.#last.sort()[Math.floor(QUANTILE * (WINDOW - 1))] as number);
  }

  /** When an engine must be done with a request that arrived at `arrivedMs` and is due at `deadlineMs`. */
  engineDeadlineMs(arrivedMs: number, deadlineMs: number): number {
    if (deadlineMs === Number.POSITIVE_INFINITY) return deadlineMs;
    return deadlineMs - Math.min(this.#ms, MOST_SHARE * Math.max(0, deadlineMs - arrivedMs));
  }
}
