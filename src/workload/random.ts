/**
 * A small seeded generator, the same on every machine: xoshiro128** (Blackman and Vigna, 2018), its state filled by
 * splitmix32 from the seed. For workloads and synthetic weights, not for secrets.
 */
export interface Random {
  /** Uniform in [0, 2^32). */
  uint32(): number;
  /** Uniform in [0, 1), 32 bits. */
  float(): number;
  /** Uniform in [0, bound), bound ≤ 2^32. */
  integer(bound: number): number;
}

/** `count` values of `random.float()`. */
export function floats(random: Random, count: number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = random.float();
  return values;
}

const rotateLeft = (x: number, bits: number) => (x << bits) | (x >>> (32 - bits));

/** A generator of its own sequence; equal seeds give equal sequences. */
export function createRandom(seed: number): Random {
  let mixed = seed | 0;
  const splitmix32 = () => {
    mixed = (mixed + 0x9e3779b9) | 0;
    let z = mixed;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return z ^ (z >>> 16);
  };
  let [a, b, c, d] = [splitmix32(), splitmix32(), splitmix32(), splitmix32()];
  const uint32 = () => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotateLeft(d, 11);
    return result;
  };
  const float = () => uint32() / 2 ** 32;
  return { uint32, float, integer: (bound) => Math.floor(float() * bound) };
}
