/** Memory that batches are merged into, one after the other. */
import type { Backend, HostMemory } from '../../backend/backend.ts';
import { addressOf, type HostPtr } from '../../ffi/host-memory.ts';

/** The block starts at a multiple of this. */
const ALIGNMENT = 16;
/** Registering memory with a device takes long: it grows by half at least. */
const GROWTH = 1.5;
/** Most batches fit from the first one on, which a model that has just been loaded need not register memory for while they wait. */
const LEAST_BYTES = 1 << 20;

/** One block of a backend's host memory: it holds one batch, and grows with the largest. */
export class BatchMemory implements Disposable {
  readonly #backend: Pick<Backend, 'allocateHost'>;
  #memory: HostMemory | undefined;
  #block: { readonly buffer: ArrayBuffer; readonly start: number; readonly address: HostPtr } | undefined;
  #bytes = 0;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(backend: Pick<Backend, 'allocateHost'>, bytes = LEAST_BYTES) {
    this.#backend = backend;
    this.#allocate(bytes);
  }

  /** Of the block. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Where the block is. Not to be used after it has grown. @throws TypeError after disposal. */
  get block(): { readonly buffer: ArrayBuffer; readonly start: number; readonly address: HostPtr } {
    if (this.#block === undefined) throw new TypeError('memory of batches was used after it was disposed');
    return this.#block;
  }

  /**
   * Makes the block so large at least. What is in it is lost where it grows, so nothing may read it any more.
   * @throws DeviceError OUT_OF_MEMORY; the block stays then.
   */
  reserve(bytes: number): void {
    if (bytes > this.#bytes) this.#allocate(Math.max(bytes, Math.ceil(GROWTH * this.#bytes)));
  }

  [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
    this.#memory = undefined;
    this.#block = undefined;
    this.#bytes = 0;
  }

  #allocate(bytes: number): void {
    const elements = Math.ceil((bytes + ALIGNMENT) / Int32Array.BYTES_PER_ELEMENT);
    const memory = this.#backend.allocateHost(elements * Int32Array.BYTES_PER_ELEMENT);
    const all = memory.int32(elements);
    const begin = addressOf(all);
    const skipped = (ALIGNMENT - Number(begin % BigInt(ALIGNMENT))) % ALIGNMENT;
    this.#memory?.[Symbol.dispose]();
    this.#memory = memory;
    this.#block = {
      buffer: all.buffer as ArrayBuffer,
      start: all.byteOffset + skipped,
      address: (begin + BigInt(skipped)) as HostPtr,
    };
    this.#bytes = bytes;
  }
}
