import type { BlockPool } from '../../cuda/block-pool.ts';
import type { PinnedMemory } from '../../cuda/memory.ts';
import { addressOf, copyBytes, type HostPtr } from '../../ffi/cpu-library.ts';
import type { DownloadOperation, Operation, UploadOperation } from '../backend.ts';
import { FLOAT_BYTES } from './buffer.ts';

const WORD_BYTES = 8;

type HostOperation = UploadOperation | DownloadOperation;

/**
 * Pinned memory between the caller's arrays and the device, for one program: what is uploaded, what is downloaded, and
 * how many findings each check has. Results reach the caller's arrays only by `deliver`.
 */
export class Staging implements Disposable {
  readonly #pool: BlockPool<PinnedMemory>;
  readonly #block: PinnedMemory;
  readonly #offsets = new Map<Operation, number>();
  readonly #totals: BigInt64Array;

  /** `checks`: operations whose bags are checked. */
  constructor(program: readonly Operation[], checks: number, pool: BlockPool<PinnedMemory>) {
    let end = checks * WORD_BYTES;
    for (const operation of program) {
      if (operation.op !== 'upload' && operation.op !== 'download') continue;
      this.#offsets.set(operation, end);
      end += hostArray(operation).length * FLOAT_BYTES;
    }
    this.#pool = pool;
    this.#block = pool.borrow(end);
    this.#totals = new BigInt64Array(this.#block.view(0, checks * WORD_BYTES));
  }

  /** Where element `element` of an upload or download lies. */
  address(operation: HostOperation, element = 0): HostPtr {
    return this.#block.address((this.#offsets.get(operation) as number) + element * FLOAT_BYTES);
  }

  /** Where the total of a check goes. */
  totalAddress(check: number): HostPtr {
    return this.#block.address(check * WORD_BYTES);
  }

  total(check: number): bigint {
    return this.#totals[check] as bigint;
  }

  /** Copies what is to be uploaded. */
  async fill(): Promise<void> {
    const copies = [...this.#offsets.keys()].map((operation) => {
      if (operation.op !== 'upload') return undefined;
      return copyBytes(this.address(operation), addressOf(operation.source), operation.source.byteLength);
    });
    await Promise.all(copies);
  }

  /** Copies what was downloaded to the caller's arrays. */
  async deliver(): Promise<void> {
    const copies = [...this.#offsets.keys()].map((operation) => {
      if (operation.op !== 'download') return undefined;
      return copyBytes(addressOf(operation.target), this.address(operation), operation.target.byteLength);
    });
    await Promise.all(copies);
  }

  [Symbol.dispose](): void {
    this.#pool.giveBack(this.#block);
  }
}

function hostArray(operation: HostOperation): Float32Array {
  return operation.op === 'upload' ? operation.source : operation.target;
}
