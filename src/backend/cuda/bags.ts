/** A batch of bags in device memory: everything in one block, that one copy brings there. */
import type { BlockPool } from '../../cuda/block-pool.ts';
import type { DeviceMemory, PinnedMemory } from '../../cuda/memory.ts';
import type { CudaStream } from '../../cuda/stream.ts';
import type { BagBatch, Bags, EmbeddingTable } from '../../embedding/bag.ts';
import { DeviceError } from '../../errors.ts';
import { addressOf, copyBytes } from '../../ffi/cpu-library.ts';
import type { DevicePtr } from '../../ffi/cuda-symbols.ts';
import type { PlacedBags } from '../backend.ts';
import {
  BAGS_REPORT_WORDS,
  CHECKED_BAGS_WORDS,
  type CheckBagsParams,
  encodeCheckedBags,
} from './kernel-params.ts';

/** Arrays start at multiples of this. */
const ALIGNMENT = 16;
const WORD_BYTES = 8;
const REPORT_BYTES = WORD_BYTES * BAGS_REPORT_WORDS;
const CHECKED_BYTES = WORD_BYTES * CHECKED_BAGS_WORDS;

export interface BagPools {
  readonly device: BlockPool<DeviceMemory>;
  readonly pinned: BlockPool<PinnedMemory>;
}

/** Where the arrays of one table lie. */
interface BagsLayout {
  readonly indices: number;
  readonly offsets: number;
  readonly weights: number | undefined;
}

/** A table's bags on the device. */
export interface DeviceBags {
  readonly bags: Bags;
  readonly indices: DevicePtr;
  readonly offsets: DevicePtr;
  /** 0: none. */
  readonly weights: bigint;
}

export class CudaBags implements PlacedBags {
  readonly batchSize: number;
  readonly lookups: number;
  readonly tableCount: number;
  readonly #tables: readonly EmbeddingTable[];
  readonly #bags: readonly Bags[];
  readonly #pools: BagPools;
  readonly #layout: readonly BagsLayout[];
  /** The block: the tables' arrays, their hotrow::CheckedBags, then the findings: a total and hotrow::BagsReports. */
  readonly #checkedAt: number;
  readonly #findingsAt: number;
  readonly #block: DeviceMemory;
  #staging: Promise<void> | undefined;
  #pinned: PinnedMemory | undefined;
  #uploaded = false;
  #users = 0;
  #disposed = false;

  constructor(tables: readonly EmbeddingTable[], { batchSize, bags }: BagBatch, pools: BagPools) {
    this.batchSize = batchSize;
    this.tableCount = bags.length;
    this.lookups = bags.reduce((sum, { indices }) => sum + indices.length, 0);
    this.#tables = tables;
    this.#bags = bags;
    this.#pools = pools;
    let end = 0;
    const reserve = (bytes: number) => {
      const start = end;
      end = Math.ceil((start + bytes) / ALIGNMENT) * ALIGNMENT;
      return start;
    };
    this.#layout = bags.map(({ indices, offsets, weights }) => ({
      indices: reserve(indices.byteLength),
      offsets: reserve(offsets.byteLength),
      weights: weights === undefined ? undefined : reserve(weights.byteLength),
    }));
    this.#checkedAt = reserve(bags.length * CHECKED_BYTES);
    this.#findingsAt = reserve(this.findingsBytes);
    this.#block = pools.device.borrow(end);
  }

  /** Bytes of the findings: the total, then a report a table. */
  get findingsBytes(): number {
    return WORD_BYTES + this.tableCount * REPORT_BYTES;
  }

  /** How many findings there are; the `stop` word of kernels. */
  get total(): DevicePtr {
    return this.#address(this.#findingsAt);
  }

  /** What checks the bags of `count` tables from `first` on. */
  checkParameters(first = 0, count = this.tableCount): CheckBagsParams {
    return {
      tables: this.#address(this.#checkedAt + first * CHECKED_BYTES),
      reports: this.#address(this.#findingsAt + WORD_BYTES + first * REPORT_BYTES),
      total: this.total,
      tableCount: count,
    };
  }

  of(t: number): DeviceBags {
    const { indices, offsets, weights } = this.#layout[t] as BagsLayout;
    return {
      bags: this.#bags[t] as Bags,
      indices: this.#address(indices),
      offsets: this.#address(offsets),
      weights: weights === undefined ? 0n : this.#address(weights),
    };
  }

  /** Runs `work`; the memory stays until it is over, whatever is disposed meanwhile. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    if (this.#disposed) throw new DeviceError('DISPOSED', 'bags were used after they were disposed');
    this.#users += 1;
    try {
      return await work();
    } finally {
      this.#users -= 1;
      if (this.#disposed) this.#giveBack();
    }
  }

  /** Copies the caller's arrays to memory that the device reads, the first time. */
  async stage(): Promise<void> {
    this.#staging ??= this.#copyToPinned();
    await this.#staging;
  }

  /** Puts the copy of what was staged into the stream, the first time. */
  upload(stream: CudaStream): void {
    if (this.#uploaded) return;
    if (this.#pinned === undefined) throw new TypeError('bags are staged before they are uploaded');
    this.#uploaded = true;
    stream.copyToDevice(this.#address(0), this.#pinned.address(), this.#findingsAt);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#giveBack();
  }

  #address(offset: number): DevicePtr {
    return this.#block.address(offset);
  }

  async #copyToPinned(): Promise<void> {
    const pinned = this.#pools.pinned.borrow(this.#findingsAt);
    this.#pinned = pinned;
    const copies: (Promise<unknown> | undefined)[] = [];
    const put = (offset: number, array: ArrayBufferView) => {
      copies.push(copyBytes(pinned.address(offset), addressOf(array), array.byteLength));
    };
    this.#bags.forEach(({ indices, offsets, weights }, t) => {
      const at = this.#layout[t] as BagsLayout;
      put(at.indices, indices);
      put(at.offsets, offsets);
      if (weights !== undefined && at.weights !== undefined) put(at.weights, weights);
    });
    const checked = this.#describe();
    put(this.#checkedAt, checked);
    await Promise.all(copies);
  }

  #describe(): BigInt64Array {
    return encodeCheckedBags(
      this.#bags.map(({ indices, offsets }, t) => {
        const at = this.#layout[t] as BagsLayout;
        return {
          indices: this.#address(at.indices),
          offsets: this.#address(at.offsets),
          indexBytes: indices.BYTES_PER_ELEMENT,
          offsetBytes: offsets.BYTES_PER_ELEMENT,
          lookups: indices.length,
          offsetCount: offsets.length,
          rowCount: (this.#tables[t] as EmbeddingTable).rows,
        };
      }),
    );
  }

  #giveBack(): void {
    if (this.#users > 0) return;
    this.#pools.device.giveBack(this.#block);
    if (this.#pinned !== undefined) this.#pools.pinned.giveBack(this.#pinned);
  }
}
