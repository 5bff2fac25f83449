/**
 * A batch of bags in device memory: everything in one block. Arrays in memory that the device reads by itself come over from there,
 * neighbours together; all else is staged, and one copy brings it.
 */

import { arrayName, lengthOf, offsetOf } from '../../../checks/array.ts';
import type { DeviceMemory, HostArray, PinnedMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { type BagBatch, type Bags, bagCount, type EmbeddingTable } from '../../../embedding/bag.ts';
import { changedLength, checkOffsetCount } from '../../../embedding/check-bags.ts';
import { arraysChanged, DeviceError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { copyAll, type HostCopy } from '../../../ffi/host-memory.ts';
import type { PlacedBags } from '../../backend.ts';
import { holdAll } from '../../hold-all.ts';
import { type UserRows, userRows, usersOf } from '../../user-rows.ts';
import { putWord } from '../../words.ts';
import { addCopy, type DirectCopy } from '../memory/direct-copies.ts';
import { homeOf } from '../memory/host-memory.ts';
import type { MemoryPools } from '../memory/pools.ts';
import { Space } from '../memory/space.ts';
import type { BagKinds } from './bag-kinds.ts';
import { NotesRoom } from './bag-notes.ts';
import { BagsReport, type CheckBagsParams, CheckedBags } from './check-bags-params.ts';
import { type FusedLayout, fusedLayout } from './fused-layout.ts';
import { FusedSegment, FusedTable } from './fused-params.ts';
import { ColumnSpan } from './spread-rows-params.ts';
import type { CudaTables, FusedTableConstants } from './tables.ts';

/** Of the total of findings. */
const TOTAL_BYTES = 8;

/** Where a table's arrays begin in the block; of weights, if there are any. */
interface ArrayPlaces {
  indices: number;
  offsets: number;
  weights: number;
  readonly lookups: number;
  readonly offsetCount: number;
}

/** A table's bags on the device, by their addresses. */
export interface DeviceBags {
  readonly bags: Bags;
  readonly indices: DevicePtr;
  readonly offsets: DevicePtr;
  /** 0: none. */
  readonly weights: bigint;
  /** How many there are. */
  readonly count: number;
}

/** Addresses of what tables with a bag per user need. */
export interface DeviceUsers {
  readonly rows: UserRows;
  /** [U, rows.width], of at most 4 bytes an element: their pooled rows … */
  readonly pooled: number;
  /** … and the same in 8 bits. */
  readonly rounded: number;
  /** int32 [B]: the user of each sample. */
  readonly userOf: number;
  /** hotrow::ColumnSpans. */
  readonly spans: number;
}

/** What the fused kernel needs of a batch: its layout, and the addresses of its arrays. */
export interface FusedBatch {
  readonly layout: FusedLayout;
  readonly tables: number;
  readonly segments: number;
  readonly arrivals: number;
  readonly partials: number;
}

export class CudaBags implements PlacedBags {
  readonly batchSize: number;
  readonly lookups: number;
  /** Of one table. */
  readonly mostLookups: number;
  readonly tableCount: number;
  readonly kinds: BagKinds;
  readonly #tables: CudaTables;
  readonly #pools: MemoryPools;
  readonly #places: readonly ArrayPlaces[];
  readonly #direct: DirectCopy[] = [];
  /** What is staged begins here. */
  readonly #stagedAt: number;
  /** What is uploaded, at the start of the block; then come what checks need, which few batches do, and partial sums. */
  readonly uploadedBytes: number;
  readonly #checkedAt: number;
  readonly #checkedEnd: number;
  /** A total and hotrow::BagsReports. */
  readonly #findingsAt: number;
  readonly fused: FusedBatch;
  /** Undefined: no table has a bag per user. */
  readonly users: DeviceUsers | undefined;
  /** For kernels that note what they pool. */
  readonly notes: NotesRoom;
  readonly #batch: BagBatch;
  readonly #userOfAt: number;
  readonly #spansAt: number;
  readonly #fusedTablesAt: number;
  readonly #segmentsAt: number;
  readonly #arrivalsAt: number;
  readonly #block: DeviceMemory;
  /** The block's address. */
  readonly #start: number;
  #staging: Promise<void> | undefined;
  #pinned: PinnedMemory | undefined;
  #uploaded = false;
  /** The stream of the upload, until no run is left that may have begun before its end. */
  #uploading: CudaStream | undefined;
  #checkUploaded = false;
  #users = 0;
  #disposed = false;

  constructor(tables: CudaTables, batch: BagBatch, pools: MemoryPools) {
    const { batchSize, bags } = batch;
    this.#batch = batch;
    this.batchSize = batchSize;
    this.tableCount = bags.length;
    let lookups = 0;
    let mostLookups = 0;
    for (const { indices } of bags) {
      const own = lengthOf(indices);
      lookups += own;
      mostLookups = Math.max(mostLookups, own);
    }
    this.lookups = lookups;
    this.mostLookups = mostLookups;
    this.#tables = tables;
    this.#pools = pools;
    const space = new Space();
    this.#places = bags.map((own, t) => {
      const lookups = lengthOf(own.indices);
      const offsetCount = lengthOf(own.offsets);
      checkOffsetCount(offsetCount, own, t, batch);
      if (own.weights !== undefined && lengthOf(own.weights) !== lookups) throw changedLength();
      return { indices: 0, offsets: 0, weights: 0, lookups, offsetCount };
    });
    this.#reserveArrays(space, true);
    this.#stagedAt = space.end;
    this.#reserveArrays(space, false);
    this.kinds = tables.kindsOf(bags);
    const layout = fusedLayout(batch, this.kinds.shapes, tables.multiprocessors);
    const users = userRows(batch, tables.tables);
    const { segments, arrivals, slots, partialWidth } = layout;
    this.#fusedTablesAt = space.reserve(bags.length * FusedTable.bytes);
    this.#segmentsAt = space.reserve(segments.length * FusedSegment.bytes);
    this.#arrivalsAt = space.reserve(arrivals * Uint32Array.BYTES_PER_ELEMENT);
    this.#userOfAt = space.reserve(users === undefined ? 0 : batchSize * Int32Array.BYTES_PER_ELEMENT);
    this.#spansAt = space.reserve((users?.spans.length ?? 0) * ColumnSpan.bytes);
    this.uploadedBytes = space.end;
    this.#checkedAt = space.reserve(bags.length * CheckedBags.bytes);
    this.#checkedEnd = space.end;
    this.#findingsAt = space.reserve(this.findingsBytes);
    const partialsAt = space.reserve(slots * partialWidth * Float32Array.BYTES_PER_ELEMENT);
    const pooledElements = users === undefined ? 0 : users.count * users.width;
    const pooledAt = space.reserve(pooledElements * Float32Array.BYTES_PER_ELEMENT);
    const roundedAt = space.reserve(pooledElements);
    this.#block = pools.device.borrow(space.end);
    this.notes = new NotesRoom(pools, mostLookups, Math.max(batchSize, users?.count ?? 0));
    const start = Number(this.#address(0));
    this.#start = start;
    this.fused = {
      layout,
      tables: start + this.#fusedTablesAt,
      segments: start + this.#segmentsAt,
      arrivals: start + this.#arrivalsAt,
      partials: start + partialsAt,
    };
    this.users = users && {
      rows: users,
      pooled: start + pooledAt,
      rounded: start + roundedAt,
      userOf: start + this.#userOfAt,
      spans: start + this.#spansAt,
    };
  }

  /** Batches of one kind have the same kernels, as a rule: bags of many lookups are cut by kernels of their own. */
  get kind(): BagKinds {
    return this.kinds;
  }

  /** Bytes of the findings: the total, then a report a table. */
  get findingsBytes(): number {
    return TOTAL_BYTES + this.tableCount * BagsReport.bytes;
  }

  /** How many findings there are; the `stop` word of kernels. */
  get total(): DevicePtr {
    return this.#address(this.#findingsAt);
  }

  /** What checks the bags of `count` tables from `first` on. */
  checkParameters(first = 0, count = this.tableCount): CheckBagsParams {
    return {
      tables: this.#address(this.#checkedAt + first * CheckedBags.bytes),
      reports: this.#address(this.#findingsAt + TOTAL_BYTES + first * BagsReport.bytes),
      total: this.total,
      tableCount: count,
    };
  }

  /** The caller's. */
  bagsOf(t: number): Bags {
    return this.#batch.bags[t] as Bags;
  }

  of(t: number): DeviceBags {
    const { indices, offsets, weights } = this.#places[t] as ArrayPlaces;
    const bags = this.#batch.bags[t] as Bags;
    return {
      bags,
      indices: this.#address(indices),
      offsets: this.#address(offsets),
      weights: bags.weights === undefined ? 0n : this.#address(weights),
      count: bagCount(bags, this.#batch),
    };
  }

  /** The memory stays until what is given back is disposed, whatever else is meanwhile. @throws DeviceError DISPOSED. */
  hold(): Disposable {
    if (this.#disposed) throw new DeviceError('DISPOSED', 'bags were used after they were disposed');
    const homes = holdAll(this.#direct.map(({ home }) => home));
    this.#users += 1;
    return {
      [Symbol.dispose]: () => {
        homes[Symbol.dispose]();
        this.#users -= 1;
        if (this.#users === 0) this.#uploading = undefined;
        if (this.#disposed) this.#giveBack();
      },
    };
  }

  /** Copies the caller's arrays to memory that the device reads, the first time. */
  stage(): Promise<void> {
    this.#staging ??= this.#copyToPinned();
    return this.#staging;
  }

  /**
   * Puts the copy of what was staged into the stream, the first time. Returns the stream that it went into, then or before;
   * undefined: it is over.
   */
  upload(stream: CudaStream): CudaStream | undefined {
    if (this.#uploaded) return this.#uploading;
    if (this.#pinned === undefined) throw new TypeError('bags are staged before they are uploaded');
    this.#uploaded = true;
    this.#uploading = stream;
    for (const { home, from, to, bytes } of this.#direct) {
      stream.copyToDevice(this.#address(to), home.address(from), bytes);
    }
    const stagedBytes = this.uploadedBytes - this.#stagedAt;
    stream.copyToDevice(this.#address(this.#stagedAt), this.#pinned.address(), stagedBytes);
    return stream;
  }

  /** Puts what checks need into the stream, the first time. */
  uploadChecked(stream: CudaStream): void {
    if (this.#checkUploaded) return;
    if (this.#pinned === undefined) throw new TypeError('bags are staged before they are checked');
    this.#checkUploaded = true;
    const bytes = this.#checkedEnd - this.#checkedAt;
    const staged = this.#checkedAt - this.#stagedAt;
    new BigInt64Array(this.#pinned.view(staged, this.tableCount * CheckedBags.bytes)).set(
      this.#describeChecked(),
    );
    stream.copyToDevice(this.#address(this.#checkedAt), this.#pinned.address(staged), bytes);
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
    const pinned = this.#pools.pinned.borrow(this.#checkedEnd - this.#stagedAt);
    this.#pinned = pinned;
    const later: HostCopy[] = [];
    const stagedAt = this.#stagedAt;
    const put = (offset: number, array: HostArray, length = array.length) => {
      // What is described to the device are the lengths that there is room for.
      if (lengthOf(array) !== length) throw arraysChanged('changed its length');
      if (offset >= stagedAt) pinned.put(offset - stagedAt, array, later);
    };
    for (let t = 0; t < this.tableCount; t++) {
      const own = this.#batch.bags[t] as Bags;
      const at = this.#places[t] as ArrayPlaces;
      put(at.indices, own.indices, at.lookups);
      put(at.offsets, own.offsets, at.offsetCount);
      if (own.weights !== undefined) put(at.weights, own.weights, at.lookups);
    }
    const { segments, arrivals } = this.fused.layout;
    const order = longestFirst(this.#batch.bags);
    const describedWords = 2 * this.tableCount * FusedTable.words;
    this.#describeFused(order, pinned.int32(this.#fusedTablesAt - stagedAt, describedWords));
    if (segments.length > 0) {
      const placed = segments.map((own) => ({ ...own, table: order.indexOf(own.table) }));
      put(this.#segmentsAt, FusedSegment.encodeAll(placed));
      put(this.#arrivalsAt, new Int32Array(arrivals));
    }
    if (this.users !== undefined) {
      put(this.#userOfAt, usersOf(this.users.rows));
      put(this.#spansAt, ColumnSpan.encodeAll(this.users.rows.spans));
    }
    await copyAll(later);
  }

  /** Gives places to the arrays that the device reads by itself, or to all others. */
  #reserveArrays(space: Space, direct: boolean): void {
    const place = (array: HostArray): number | undefined => {
      const home = homeOf(array);
      if ((home !== undefined) !== direct) return undefined;
      const bytes = lengthOf(array) * elementBytes(array);
      const to = space.reserve(bytes);
      if (home !== undefined) addCopy(this.#direct, { home, from: offsetOf(array), to, bytes });
      return to;
    };
    for (let t = 0; t < this.tableCount; t++) {
      const { indices, offsets, weights } = this.#batch.bags[t] as Bags;
      const at = this.#places[t] as ArrayPlaces;
      at.indices = place(indices) ?? at.indices;
      at.offsets = place(offsets) ?? at.offsets;
      if (weights !== undefined) at.weights = place(weights) ?? at.weights;
    }
  }

  #describeChecked(): BigInt64Array {
    return CheckedBags.encodeAll(
      this.#batch.bags.map(({ indices, offsets }, t) => {
        const at = this.#places[t] as ArrayPlaces;
        const { rows, pruned = false } = this.#tables.tables[t] as EmbeddingTable;
        return {
          indices: this.#address(at.indices),
          offsets: this.#address(at.offsets),
          indexBytes: elementBytes(indices),
          offsetBytes: elementBytes(offsets),
          lookups: at.lookups,
          offsetCount: at.offsetCount,
          rowCount: rows,
          firstIndex: pruned ? -1 : 0,
        };
      }),
    );
  }

  /** `order`: the tables, in the order of their blocks. Word by word: many tables' are written for each batch. */
  #describeFused(order: readonly number[], described: Int32Array): void {
    const { at } = FusedTable;
    const block = this.#start;
    const tables = this.#tables.fusedConstants;
    const columns = this.users?.rows.columns;
    for (let place = 0; place < order.length; place++) {
      const t = order[place] as number;
      const { weights } = this.#batch.bags[t] as Bags;
      const own = this.#places[t] as ArrayPlaces;
      const { rows, rowCount, rowWeights, paddingIndex, column } = tables[t] as FusedTableConstants;
      const start = place * FusedTable.words;
      putWord(described, start + at.rows, rows);
      putWord(described, start + at.rowCount, rowCount);
      putWord(described, start + at.indices, block + own.indices);
      putWord(described, start + at.lookups, own.lookups);
      putWord(described, start + at.offsets, block + own.offsets);
      putWord(described, start + at.offsetCount, own.offsetCount);
      putWord(described, start + at.weights, weights === undefined ? 0 : block + own.weights);
      putWord(described, start + at.rowWeights, rowWeights);
      putWord(described, start + at.paddingIndex, paddingIndex);
      putWord(described, start + at.column, columns?.[t] ?? column);
      putWord(described, start + at.kind, this.kinds.numbers[t] as number);
      putWord(described, start + at.unused, 0);
    }
  }

  #giveBack(): void {
    if (this.#users > 0) return;
    this.#pools.device.giveBack(this.#block);
    this.notes.giveBack();
    if (this.#pinned !== undefined) this.#pools.pinned.giveBack(this.#pinned);
  }
}

function elementBytes(array: HostArray): number {
  return arrayName(array) === 'BigInt64Array' ? 8 : 4;
}

/** The tables, those with the most lookups first: what takes long starts early, and the short work fills up behind it. */
function longestFirst(bags: readonly Bags[]): number[] {
  const order = bags.map((_, t) => t);
  const lookups = (t: number) => lengthOf((bags[t] as Bags).indices);
  return order.sort((a, b) => lookups(b) - lookups(a));
}
