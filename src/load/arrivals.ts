/** When requests arrive. */
import { createRandom, type Random } from '../workload/random.ts';

/**
 * Arrivals of a Poisson process from time 0 on: gaps are exponential and independent. Processes of rates a and b, seeded apart,
 * make one of rate a + b together.
 */
export class PoissonArrivals {
  readonly #random: Random;
  readonly #meanGapMs: number;
  #atMs = 0;

  constructor(ratePerSecond: number, seed: number) {
    this.#random = createRandom(seed);
    this.#meanGapMs = 1000 / ratePerSecond;
  }

  /** When the next one arrives, in ms from the start. */
  next(): number {
    this.#atMs -= Math.log1p(-this.#random.float()) * this.#meanGapMs;
    return this.#atMs;
  }
}
