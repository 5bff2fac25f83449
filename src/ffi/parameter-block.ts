import { addressOf, type HostPtr } from './host-memory.ts';

/**
 * The parameter of a kernel: every kernel of kernels/cuda takes one struct of 64-bit words. Made once, written before
 * every launch; the driver copies it during the launch. Its addresses stay put for its life.
 */
export class ParameterBlock {
  readonly words: BigInt64Array;
  /** The address of `void *[1]`, which holds the address of `words`: what cuLaunchKernel takes. */
  readonly pointers: HostPtr;
  /** Keeps the memory that `pointers` points to. */
  readonly #pointerArray: BigUint64Array;

  /** `words`: how many, or what they are (copied). */
  constructor(words: number | BigInt64Array) {
    // Arrays over an explicit buffer lie outside the JavaScript heap, so the collector does not move them.
    const count = typeof words === 'number' ? words : words.length;
    this.words = new BigInt64Array(new ArrayBuffer(count * BigInt64Array.BYTES_PER_ELEMENT));
    if (typeof words !== 'number') this.words.set(words);
    this.#pointerArray = new BigUint64Array(new ArrayBuffer(BigUint64Array.BYTES_PER_ELEMENT));
    this.#pointerArray[0] = addressOf(this.words);
    this.pointers = addressOf(this.#pointerArray);
  }
}
