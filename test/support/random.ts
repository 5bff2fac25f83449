/** Seeded random numbers for tests (mulberry32): the same on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer in [low, high], both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  pick<T>(list: readonly T[]): T {
    return list[this.integer(0, list.length - 1)] as T;
  }

  /** `count` values uniform in [-1, 1). */
  reals(count: number): Float32Array {
    return Float32Array.from({ length: count }, () => this.next() * 2 - 1);
  }

  /** `count` float32 of any bits: infinities, subnormal numbers and every kind of NaN among them. */
  bits(count: number): Float32Array {
    const words = Uint32Array.from({ length: count }, () => this.integer(0, 2 ** 32 - 1));
    return new Float32Array(words.buffer);
  }

  /** `count` integers in [-limit, limit]: sums and products of them are exact in float32, whatever their order. */
  integers(count: number, limit: number): Float32Array {
    return Float32Array.from({ length: count }, () => this.integer(-limit, limit));
  }
}
