/** MurmurHash3_x86_32 by Austin Appleby: 32 bits, of whole words or of bytes. */

/** The hash of little-endian 32-bit words, unsigned; `seed` below 2^32. */
export function murmur3OfWords(words: Int32Array, seed: number): number {
  let hash = seed | 0;
  for (let i = 0; i < words.length; i++) hash = mixWord(hash, words[i] as number);
  return finish(hash, 4 * words.length);
}

/** The hash of bytes, unsigned; `seed` below 2^32. */
export function murmur3OfBytes(bytes: Uint8Array, seed: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole = bytes.length & ~3;
  let hash = seed | 0;
  for (let at = 0; at < whole; at += 4) hash = mixWord(hash, view.getInt32(at, true));
  let rest = 0;
  for (let at = bytes.length - 1; at >= whole; at--) rest = (rest << 8) | (bytes[at] as number);
  // No bytes left: a word of 0 scrambles to 0.
  return finish(hash ^ scramble(rest), bytes.length);
}

function scramble(word: number): number {
  return Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
}

function mixWord(hash: number, word: number): number {
  return (Math.imul(rotate(hash ^ scramble(word), 13), 5) + 0xe6546b64) | 0;
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** Every bit of the result depends on every bit of `hash`. */
function finish(hash: number, length: number): number {
  let h = hash ^ length;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
