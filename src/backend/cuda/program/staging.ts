import type { BlockPool } from '../../../cuda/block-pool.ts';
import type { PinnedMemory } from '../../../cuda/memory.ts';
import { copyAll, type HostCopy, type HostPtr } from '../../../ffi/host-memory.ts';
import { type BoundOperation, type Operation, packedBytes } from '../../backend.ts';
import { isOnHost, rowsFromHost, rowsToHost } from './transfers.ts';

const WORD_BYTES = 8;

/**
 * Pinned memory between the caller's arrays and the device, for the runs of one program: what is uploaded, what is
 * downloaded, and how many findings each check of bags has. Results reach the caller's arrays only by `deliver`.
 * Operations are known by their place in the program.
 */
export class Staging implements Disposable {
  readonly #pool: BlockPool<PinnedMemory>;
  readonly #block: PinnedMemory;
  readonly #offsets = new Map<number, number>();

  constructor(program: readonly Operation[], pool: BlockPool<PinnedMemory>) {
    // Totals stand first, where they are read as words.
    let end = program.length * WORD_BYTES;
    program.forEach((operation, place) => {
      if (operation.op === 'embeddingBags') this.#offsets.set(place, place * WORD_BYTES);
      const bytes = stagedBytes(operation);
      if (bytes === undefined) return;
      this.#offsets.set(place, end);
      end += Math.ceil(bytes / WORD_BYTES) * WORD_BYTES;
    });
    this.#pool = pool;
    this.#block = pool.borrow(end);
  }

  /** Where the values of an upload or download, or the total of a check, lie. */
  address(place: number): HostPtr {
    return this.#block.address(this.#offsetOf(place));
  }

  /** How many findings the check of an operation's bags had. */
  total(place: number): bigint {
    return this.#block.word(this.#offsetOf(place));
  }

  /** Copies what is to be uploaded, and what is transferred from host memory. Undefined: all is done already. */
  fill(program: readonly BoundOperation[]): Promise<void> | undefined {
    const later: HostCopy[] = [];
    program.forEach((operation, place) => {
      if (operation.op === 'upload') this.#block.put(this.#offsetOf(place), operation.source, later);
      if (operation.op === 'transfer' && isOnHost(operation.input))
        later.push(rowsFromHost(operation.input, this.address(place)));
    });
    return copyAll(later);
  }

  /** Copies what was downloaded to the caller's arrays, and what was transferred to host memory to its place. As `fill`. */
  deliver(program: readonly BoundOperation[]): Promise<void> | undefined {
    const later: HostCopy[] = [];
    program.forEach((operation, place) => {
      if (operation.op === 'download') this.#block.take(this.#offsetOf(place), operation.target, later);
      if (operation.op === 'transfer' && isOnHost(operation.output))
        later.push(rowsToHost(operation.output, this.address(place)));
    });
    return copyAll(later);
  }

  [Symbol.dispose](): void {
    this.#pool.giveBack(this.#block);
  }

  #offsetOf(place: number): number {
    const offset = this.#offsets.get(place);
    if (offset === undefined) throw new TypeError(`operation ${place} exchanges nothing with the host`);
    return offset;
  }
}

/** Bytes of the rows that an operation exchanges with the host, at most; undefined: it has none. */
function stagedBytes(operation: Operation): number | undefined {
  switch (operation.op) {
    case 'upload':
      return packedBytes(operation.output);
    case 'download':
      return packedBytes(operation.input);
    case 'transfer':
      return isOnHost(operation.input) || isOnHost(operation.output)
        ? packedBytes(operation.input)
        : undefined;
    default:
      return undefined;
  }
}
