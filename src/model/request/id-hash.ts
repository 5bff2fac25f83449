/** Ids to rows by a hash: row = hash(id, seed) mod modulus, the hash read as an unsigned number. */
import xxhash, { type XXHashAPI } from 'xxhash-wasm';
import { UsageError } from '../../errors.ts';
import type { IdHash } from '../inputs.ts';
import { murmur3OfBytes, murmur3OfWords } from './murmur3.ts';

export interface IdHashRule {
  readonly hash: IdHash;
  /** 0 to 2^53 - 1; of murmur3_32 below 2^32. `modulo` has none: 0. */
  readonly seed: number;
  /** 1 to 2^31: the rows of the table, as a rule. */
  readonly modulus: number;
}

/** Rows 0 to modulus - 1 of ids. */
export interface IdHasher {
  /** The row of a signed integer of 64 bits; a number must be a safe integer. */
  ofInteger(id: bigint | number): number;
  /** The row of a string; undefined where `modulo` meets one that is no decimal integer of 64 bits. */
  ofString(id: string): number | undefined;
  /** The rows of many integers, each as `ofInteger` gives it. */
  ofIntegers(ids: BigInt64Array | Int32Array): Int32Array;
}

/** One kind of hash: rows of integers, given as two signed words, and of strings. */
interface RowOf {
  words(low: number, high: number): number;
  string(id: string): number | undefined;
}

/**
 * The hasher of a rule.
 *
 * `modulo`: the remainder that is never negative. `xxhash64` and `murmur3_32` (MurmurHash3_x86_32): of an integer's 8 bytes
 * in two's complement, little-endian; of a string's UTF-8 bytes.
 * @throws UsageError USAGE for a seed or a modulus outside their ranges.
 */
export async function idHasher(rule: IdHashRule): Promise<IdHasher> {
  checkRule(rule);
  const rowOf = await openHash(rule);
  const whole = new BigInt64Array(1);
  const words = new Int32Array(whole.buffer);
  return {
    ofInteger: (id) => {
      whole[0] = BigInt(id);
      return rowOf.words(words[0] as number, words[1] as number);
    },
    ofString: rowOf.string,
    ofIntegers: (ids) => rowsOf(ids, rowOf),
  };
}

function rowsOf(ids: BigInt64Array | Int32Array, { words }: RowOf): Int32Array {
  if (ids instanceof Int32Array) return ids.map((id) => words(id, id >> 31));
  const halves = new Int32Array(ids.buffer, ids.byteOffset, 2 * ids.length);
  const rows = new Int32Array(ids.length);
  for (let i = 0; i < rows.length; i++) rows[i] = words(halves[2 * i] as number, halves[2 * i + 1] as number);
  return rows;
}

function checkRule({ hash, seed, modulus }: IdHashRule): void {
  const seeds = { modulo: 1, xxhash64: 2 ** 53, murmur3_32: 2 ** 32 }[hash];
  if (!Number.isSafeInteger(seed) || seed < 0 || seed >= seeds) {
    throw new UsageError('USAGE', `${hash} takes no seed of ${seed}`, {
      value: seed,
      hint: hash === 'modulo' ? 'its seed is 0' : `seeds are integers from 0 to ${seeds - 1}`,
    });
  }
  if (!Number.isSafeInteger(modulus) || modulus < 1 || modulus > 2 ** 31) {
    throw new UsageError('USAGE', `ids are hashed to ${modulus} rows`, {
      value: modulus,
      hint: 'the modulus is an integer from 1 to 2147483648, as a rule the rows of the table',
    });
  }
}

async function openHash({ hash, seed, modulus }: IdHashRule): Promise<RowOf> {
  switch (hash) {
    case 'modulo':
      return modulo(modulus);
    case 'murmur3_32':
      return murmur3(seed, modulus);
    case 'xxhash64':
      return xxhash64(await xxhash(), BigInt(seed), BigInt(modulus));
    default:
      return hash satisfies never;
  }
}

function modulo(modulus: number): RowOf {
  /** Adding 0 makes the row 0 of -0. */
  const positive = (rest: number) => (rest < 0 ? rest + modulus : rest + 0);
  return {
    words: (low, high) => {
      const id = high * 2 ** 32 + (low >>> 0);
      if (Number.isSafeInteger(id)) return positive(id % modulus);
      const exact = BigInt(high) * 2n ** 32n + BigInt(low >>> 0);
      return positive(Number(exact % BigInt(modulus)));
    },
    string: (text) => {
      if (!/^[+-]?\d+$/.test(text)) return undefined;
      const id = BigInt(text.replace('+', ''));
      return BigInt.asIntN(64, id) === id ? positive(Number(id % BigInt(modulus))) : undefined;
    },
  };
}

const utf8 = new TextEncoder();

function murmur3(seed: number, modulus: number): RowOf {
  const pair = new Int32Array(2);
  return {
    words: (low, high) => {
      pair[0] = low;
      pair[1] = high;
      return murmur3OfWords(pair, seed) % modulus;
    },
    string: (id) => murmur3OfBytes(utf8.encode(id), seed) % modulus,
  };
}

function xxhash64({ h64, h64Raw }: XXHashAPI, seed: bigint, modulus: bigint): RowOf {
  const pair = new Int32Array(2);
  const bytes = new Uint8Array(pair.buffer);
  return {
    words: (low, high) => {
      pair[0] = low;
      pair[1] = high;
      return Number(h64Raw(bytes, seed) % modulus);
    },
    string: (id) => Number(h64(id, seed) % modulus),
  };
}
