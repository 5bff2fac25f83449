import type { BlockPool } from '../../cuda/block-pool.ts';
import type { PinnedMemory } from '../../cuda/memory.ts';
import { addressOf, copyBytes, type HostPtr } from '../../ffi/cpu-library.ts';
import type { DownloadOperation, EmbeddingBagsOperation, Operation, UploadOperation } from '../backend.ts';

const WORD_BYTES = 8;

/** What exchanges values with the host. */
type HostOperation = UploadOperation | DownloadOperation | EmbeddingBagsOperation;

/**
 * Pinned memory between the caller's arrays and the device, for one program: what is uploaded, what is downloaded, and
 * how many findings each check of bags has. Results reach the caller's arrays only by `deliver`.
 */
export class Staging implements Disposable {
  readonly #pool: BlockPool<PinnedMemory>;
  readonly #block: PinnedMemory;
  readonly #offsets = new Map<Operation, number>();

  constructor(program: readonly Operation[], pool: BlockPool<PinnedMemory>) {
    let end = 0;
    for (const operation of program) {
      const bytes = stagedBytes(operation);
      if (bytes === undefined) continue;
      this.#offsets.set(operation, end);
      end += Math.ceil(bytes / WORD_BYTES) * WORD_BYTES;
    }
    this.#pool = pool;
    this.#block = pool.borrow(end);
  }

  /** Where the values of an upload or download, or the total of a check, lie. */
  address(operation: HostOperation): HostPtr {
    return this.#block.address(this.#offsetOf(operation));
  }

  /** How many findings the check of an operation's bags had. */
  total(operation: EmbeddingBagsOperation): bigint {
    return new BigInt64Array(this.#block.view(this.#offsetOf(operation), WORD_BYTES))[0] as bigint;
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

  #offsetOf(operation: HostOperation): number {
    const offset = this.#offsets.get(operation);
    if (offset === undefined) throw new TypeError(`${operation.op} is not of this program`);
    return offset;
  }
}

/** Bytes that an operation exchanges with the host; undefined: none. */
function stagedBytes(operation: Operation): number | undefined {
  switch (operation.op) {
    case 'upload':
      return operation.source.byteLength;
    case 'download':
      return operation.target.byteLength;
    case 'embeddingBags':
      return WORD_BYTES;
    default:
      return undefined;
  }
}
