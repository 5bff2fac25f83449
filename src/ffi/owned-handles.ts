/**
 * Handles of other libraries that are given back when the JavaScript thread that made them ends with them open, as a worker does
 * that is terminated; and counts of what the native library holds.
 */
import type { LibraryHandle } from 'koffi';
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

/** What this thread owes a library; dispose it when the handle was given back. */
export class OwnedHandle implements Disposable {
  readonly #entry: bigint;
  #live = true;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(handle: bigint | number, { setCurrent = 0n, context = 0n, wait = 0n, giveBack }: HandleCalls) {
    const calls = BigUint64Array.of(setCurrent, context, wait, giveBack, BigInt(handle));
    this.#entry = BigInt(library().ownHandle(calls));
    if (this.#entry === 0n) throw new DeviceError('OUT_OF_MEMORY', 'no memory to keep a handle in mind');
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    library().disownHandle(this.#entry);
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
