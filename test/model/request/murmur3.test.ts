/** MurmurHash3_x86_32 against published values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { murmur3OfBytes, murmur3OfWords } from '../../../src/model/request/murmur3.ts';

/** Bytes, seed, hash: published as an answer to "MurmurHash3 Test Vectors", Stack Overflow 14747343. */
const PUBLISHED: readonly (readonly [readonly number[], number, number])[] = [
  [[], 0, 0],
  [[], 1, 0x514e28b7],
  [[], 0xffffffff, 0x81f16f39],
  [[0xff, 0xff, 0xff, 0xff], 0, 0x76293b50],
  [[0x21, 0x43, 0x65, 0x87], 0, 0xf55b516b],
  [[0x21, 0x43, 0x65, 0x87], 0x5082edee, 0x2362f9de],
  [[0x21, 0x43, 0x65], 0, 0x7e4a8634],
  [[0x21, 0x43], 0, 0xa0f7b07a],
  [[0x21], 0, 0x72661cf4],
  [[0, 0, 0, 0], 0, 0x2362f9de],
  [[0, 0, 0], 0, 0x85f0b427],
  [[0, 0], 0, 0x30f4c306],
  [[0], 0, 0x514e28b7],
];

test('murmur3OfBytes gives the published hashes', () => {
  for (const [bytes, seed, hash] of PUBLISHED)
    assert.equal(murmur3OfBytes(Uint8Array.from(bytes), seed), hash, `[${bytes}] with seed ${seed}`);
});

test('murmur3OfBytes gives the verification value of SMHasher', () => {
  // Keys of 0 to 255 bytes 0, 1, 2, …, each with the seed 256 - length; then the hash of those hashes.
  const hashes = new Uint32Array(256);
  const key = Uint8Array.from({ length: 256 }, (_, i) => i);
  for (let length = 0; length < 256; length++)
    hashes[length] = murmur3OfBytes(key.subarray(0, length), 256 - length);
  assert.equal(murmur3OfBytes(new Uint8Array(hashes.buffer), 0), 0xb0f57ee3);
});

test('murmur3OfWords is the hash of the bytes of its words', () => {
  const words = Int32Array.of(-2, 0x12345678, 7);
  for (const seed of [0, 1, 0xffffffff])
    assert.equal(murmur3OfWords(words, seed), murmur3OfBytes(new Uint8Array(words.buffer), seed));
});
