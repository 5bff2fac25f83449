/**
 * Handles of other libraries that are given back when the JavaScript thread that made them ends with them open, as a worker does
 * that is terminated; and counts of what the native library holds.
 */
import koffi, { type LibraryHandle } from 'koffi';
import { DeviceError } from '../errors.ts';
import { library } from './native-library.ts';

/** An address of a function `int (*)(void *)`. */
type FunctionAddress = bigint;

/** The library's `hr_handle_calls`: how a handle is given back. */
export interface HandleCalls {
  /** Called before each of the others, and with what; default: nothing. */
  readonly setCurrent?: FunctionAddress;
  readonly context?: bigint;
  /** What waits for the handle, before anything is given back; default: nothing. */
  readonly wait?: FunctionAddress;
  readonly giveBack: FunctionAddress;
}

/** Where a function writes the handle that it makes. */
export interface HandlePlace {
  readonly address: bigint;
  /** What was written. */
  readonly handle: bigint;
}

/** The first word of an array, for handles that nobody keeps in mind. */
export function placeIn(words: BigUint64Array, address: bigint): HandlePlace {
  return {
    address,
    get handle() {
      return words[0] as bigint;
    },
  };
}

/**
 * What this thread owes a library. It is there before the handle is, which the function that makes it writes to `address`: a
 * worker may be terminated as soon as that returns. Dispose it just before the handle is given back.
 */
export class OwnedHandle implements HandlePlace, Disposable {
  readonly #entry: bigint;
  #live = true;

  /** `known`: what is given back, where it is not what is made. @throws DeviceError OUT_OF_MEMORY. */
  constructor({ setCurrent = 0n, context = 0n, wait = 0n, giveBack }: HandleCalls, known?: bigint | number) {
    const handle = known === undefined ? [0n, 0n] : [1n, BigInt(known)];
    const calls = BigUint64Array.of(setCurrent, context, wait, giveBack, ...handle);
    this.#entry = BigInt(library().ownHandle(calls));
    if (this.#entry === 0n) throw new DeviceError('OUT_OF_MEMORY', 'no memory to keep a handle in mind');
  }

  get address(): bigint {
    return this.#entry;
  }

  get handle(): bigint {
    return BigInt(koffi.decode(this.#entry, 'uint64_t'));
  }

  /** Writes what stands for the handle, where no function does. */
  write(made: bigint): void {
    koffi.encode(this.#entry, 'uint64_t', made);
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    library().disownHandle(this.#entry);
  }
}

/** Runs `make`, which writes a handle to its place; what it throws means that there is none. */
export function ownWhile<T>(owned: OwnedHandle, make: (place: OwnedHandle) => T): T {
  try {
    return make(owned);
  } catch (error) {
    owned[Symbol.dispose]();
    throw error;
  }
}

/** The address of a library's function. */
export function functionAddress(opened: LibraryHandle, name: string): FunctionAddress {
  return opened.symbol(name) as bigint;
}

/** What all threads opened in the native library and have not closed: its `hr_counts`. */
export interface NativeCounts {
  readonly pools: number;
  /** Threads that pools have started. */
  readonly poolThreads: number;
  readonly allocations: number;
  readonly allocatedBytes: number;
  readonly mappedFiles: number;
  readonly mappedBytes: number;
  readonly handles: number;
}

export function nativeCounts(): NativeCounts {
  const words = new BigInt64Array(7);
  library().getCounts(words);
  const at = (word: number) => Number(words[word]);
  return {
    pools: at(0),
    poolThreads: at(1),
    allocations: at(2),
    allocatedBytes: at(3),
    mappedFiles: at(4),
    mappedBytes: at(5),
    handles: at(6),
  };
}
