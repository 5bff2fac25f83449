/**
 * Queues from one thread to another: numbers in shared memory, so that handing a request over takes a microsecond and makes no garbage.
 * A queue has one writer and one reader. Entries are written before the tail is stored, and read after it is loaded, both by Atomics,
 * so that the reader sees all of an entry, and of the memory that it speaks of.
 */

/** Numbers of an entry. */
export const ENTRY_NUMBERS = 8;

/** A queue as threads hand it on. */
export interface RingMemory {
  /** int32 [2]: entries read so far, entries written so far, both modulo 2^32. */
  readonly positions: SharedArrayBuffer;
  /** float64 [capacity, ENTRY_NUMBERS]. */
  readonly entries: SharedArrayBuffer;
}

const READ = 0;
const WRITTEN = 1;

/** Room for `capacity` entries. @throws RangeError where that is no power of two: positions would not wrap around at 2^32. */
export function ringMemory(capacity: number): RingMemory {
  if (!(capacity >= 1 && Number.isInteger(Math.log2(capacity))))
    throw new RangeError(`a queue of ${capacity} entries`);
  return {
    positions: new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT),
    entries: new SharedArrayBuffer(capacity * ENTRY_NUMBERS * Float64Array.BYTES_PER_ELEMENT),
  };
}

class Ring {
  protected readonly positions: Int32Array;
  protected readonly entries: Float64Array;
  protected readonly capacity: number;

  constructor({ positions, entries }: RingMemory) {
    this.positions = new Int32Array(positions);
    this.entries = new Float64Array(entries);
    this.capacity = this.entries.length / ENTRY_NUMBERS;
  }

  /** Where an entry begins. */
  protected placeOf(position: number): number {
    return (position & (this.capacity - 1)) * ENTRY_NUMBERS;
  }
}

export class RingWriter extends Ring {
  /** Appends an entry; false: the queue is full. */
  push(...numbers: readonly number[]): boolean {
    const written = Atomics.load(this.positions, WRITTEN);
    if (((written - Atomics.load(this.positions, READ)) | 0) >= this.capacity) return false;
    const place = this.placeOf(written);
    for (let i = 0; i < numbers.length; i++) this.entries[place + i] = numbers[i] as number;
    Atomics.store(this.positions, WRITTEN, (written + 1) | 0);
    return true;
  }
}

export class RingReader extends Ring {
  /** Takes all entries that are there, in order: `take(entries, place)` reads `entries[place + i]`. Gives back how many. */
  drain(take: (entries: Float64Array, place: number) => void): number {
    const written = Atomics.load(this.positions, WRITTEN);
    const first = Atomics.load(this.positions, READ);
    let read = first;
    while (read !== written) {
      take(this.entries, this.placeOf(read));
      read = (read + 1) | 0;
      Atomics.store(this.positions, READ, read);
    }
    return (read - first) | 0;
  }
}

/** Wakes a thread: others that have something for it ring, it waits on its event loop. */
export class Bell {
  readonly #rung: Int32Array;
  /** How often it had rung when its thread last looked. */
  #seen: number;
  /** Ends the last wait. */
  #wake: () => void = () => {};

  /** `memory`: 4 bytes, which all threads share. */
  constructor(memory: SharedArrayBuffer) {
    this.#rung = new Int32Array(memory);
    this.#seen = Atomics.load(this.#rung, 0);
  }

  ring(): void {
    Atomics.add(this.#rung, 0, 1);
    Atomics.notify(this.#rung, 0);
  }

  /** Ends the wait of this bell, in its own thread: unlike ringing, which wakes a thread through the system, that takes no time. */
  wake(): void {
    this.#wake();
  }

  /** Call it before looking for work: what comes after it rings. */
  look(): void {
    this.#seen = Atomics.load(this.#rung, 0);
  }

  /** Resolves when it has rung since `look`, at once (undefined) where it has already; after `timeoutMs`; or with `wake`. */
  wait(timeoutMs?: number): Promise<unknown> | undefined {
    const { async, value } = Atomics.waitAsync(this.#rung, 0, this.#seen, timeoutMs);
    if (!async) return undefined;
    return new Promise<unknown>((resolve) => {
      this.#wake = () => resolve('woken');
      value.then(resolve);
    });
  }
}
