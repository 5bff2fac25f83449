/**
 * Embedding tables in device memory. Tables in files are streamed through two pinned blocks, never read whole. Features on one
 * table share its memory.
 */
import { bytesOf } from '../../../checks/array.ts';
import type { CudaDevice } from '../../../cuda/device.ts';
import { CudaEvent } from '../../../cuda/event.ts';
import { DeviceMemory, PinnedMemory } from '../../../cuda/memory.ts';
import type { CudaKernel } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { type Bags, type EmbeddingTable, rowBytes } from '../../../embedding/bag.ts';
import { isQuantized } from '../../../embedding/row-format.ts';
import { distinctTables } from '../../../embedding/shared-tables.ts';
import { DeviceError, PlanError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { addressOf, copyAll, type HostPtr, readFileTo, viewMemory } from '../../../ffi/host-memory.ts';
import { type CudaPlan, type Plan, placementKey, planFor, planLabel } from '../../../plan/plan.ts';
import type { OnProgress } from '../../../progress.ts';
import {
  isHost,
  isInFile,
  isStored,
  type StoredTensor,
  type Tensor,
  type TensorData,
} from '../../../tensor.ts';
import type { PlacedTables } from '../../backend.ts';
import { type BagKinds, BagKindsCache } from '../embedding/bag-kinds.ts';
import { launchStriding } from '../kernels/launcher.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import {
  encodeFillQuantized,
  encodeFillUniform,
  encodeSplitRows,
  type FusedTable,
} from '../kernels/params.ts';
import { HotRows } from './hot-rows.ts';
import { deviceRowBytes, deviceTableBytes, isScaled } from './row-layout.ts';

/** Bytes of each of the two blocks that host memory and files are streamed through. */
const STREAM_BYTES = 32 << 20;
const WORD_BYTES = 4;

/** What placing tables needs of the backend. */
export interface PlacementTools {
  readonly device: CudaDevice;
  readonly stream: CudaStream;
  readonly kernels: KernelLibrary;
}

/** What is the same in every batch's description of a table. */
export type DescribedTable = Pick<FusedTable, 'rows' | 'rowCount' | 'rowWeights' | 'paddingIndex' | 'column'>;

/** The memory of placed tables. */
class TableMemory implements Disposable {
  readonly columns: readonly number[];
  readonly kinds: BagKindsCache;
  readonly widestRowBytes: number;
  readonly described: readonly DescribedTable[];

  constructor(
    tables: readonly EmbeddingTable[],
    /** By table, as are the next: those of one table, or with the same row weights, share them. */
    readonly rows: readonly DeviceMemory[],
    readonly rowWeights: readonly (DeviceMemory | undefined)[],
    readonly hotRows: HotRows,
  ) {
    this.kinds = new BagKindsCache(tables);
    this.widestRowBytes = tables.reduce((widest, table) => Math.max(widest, rowBytes(table)), 0);
    let next = 0;
    this.columns = tables.map(({ dim }) => {
      next += dim;
      return next - dim;
    });
    this.described = tables.map((table, t) => ({
      rows: Number((rows[t] as DeviceMemory).address()),
      rowCount: table.rows,
      rowWeights: Number(rowWeights[t]?.address() ?? 0),
      paddingIndex: table.paddingIdx ?? -1,
      column: this.columns[t] as number,
    }));
  }

  [Symbol.dispose](): void {
    for (const memory of new Set([...this.rows, ...this.rowWeights])) memory?.[Symbol.dispose]();
    this.hotRows[Symbol.dispose]();
  }
}

/** Tables placed by the CUDA backend. */
export class CudaTables implements PlacedTables {
  readonly #memory: TableMemory;
  readonly #owner: boolean;

  constructor(
    readonly tables: readonly EmbeddingTable[],
    readonly plan: CudaPlan,
    readonly allocatedBytes: number,
    memory: TableMemory,
    owner = true,
  ) {
    this.#memory = memory;
    this.#owner = owner;
  }

  get notes(): readonly string[] {
    return [];
  }

  get hotRows(): HotRows {
    return this.#memory.hotRows;
  }

  get widestRowBytes(): number {
    return this.#memory.widestRowBytes;
  }

  /** The column of the pooled output where each table starts. */
  get columns(): readonly number[] {
    return this.#memory.columns;
  }

  /** What kernels must be compiled for to pool these bags. */
  kindsOf(bags: readonly Bags[]): BagKinds {
    return this.#memory.kinds.of(bags);
  }

  /** Byte `offset` of table t's rows. @throws DeviceError DISPOSED. */
  rows(t: number, offset = 0): DevicePtr {
    return (this.#memory.rows[t] as DeviceMemory).address(offset);
  }

  /** Where table t's learned weights start; 0: it has none. */
  rowWeights(t: number): bigint {
    return this.#memory.rowWeights[t]?.address() ?? 0n;
  }

  /** What the fused kernel is told of each table, whatever the batch. @throws DeviceError DISPOSED. */
  get described(): readonly DescribedTable[] {
    if (this.tables.length > 0) this.rows(0);
    return this.#memory.described;
  }

  withPlan(plan: Plan): CudaTables {
    if (plan.device !== 'cuda' || placementKey(plan) !== placementKey(this.plan)) {
      throw new PlanError(
        'PLAN_ILLEGAL',
        `tables placed for "${planLabel(this.plan)}" cannot serve "${planLabel(plan)}"`,
      );
    }
    return new CudaTables(this.tables, planFor('cuda', plan), 0, this.#memory, false);
  }

  [Symbol.dispose](): void {
    if (this.#owner) this.#memory[Symbol.dispose]();
  }
}

/** Places tables. Whatever was placed is given back when one fails. */
export async function placeTables(
  tools: PlacementTools,
  tables: readonly EmbeddingTable[],
  plan: CudaPlan,
  onProgress?: OnProgress,
): Promise<CudaTables> {
  const distinct = distinctTables(tables);
  const pieceBytes = streamBytes(tables);
  checkMemory(tools.device, distinct, tables.some(isPassedOn) ? pieceBytes : 0);
  const allocations: DeviceMemory[] = [];
  const allocate = (bytes: number) => {
    const memory = new DeviceMemory(tools.device, bytes);
    allocations.push(memory);
    return memory;
  };
  using upload = new StreamedUpload(tools, pieceBytes);
  try {
    const placed = new Map<Tensor | Float32Array, DeviceMemory>();
    for (const [d, table] of distinct.entries()) {
      onProgress?.('placing tables', d + 1, distinct.length);
      const memory = allocate(deviceTableBytes(table));
      placed.set(table.weight, memory);
      await placeRows(tools, upload, table, memory);
    }
    for (const { rowWeights: learned } of tables) {
      if (learned === undefined || placed.has(learned)) continue;
      const memory = allocate(bytesOf(learned));
      placed.set(learned, memory);
      await upload.array(upload.to(memory.address()), learned);
    }
    await tools.stream.finished();
    const rows = tables.map(({ weight }) => placed.get(weight) as DeviceMemory);
    const rowWeights = tables.map(({ rowWeights: learned }) => learned && placed.get(learned));
    const hotRows = new HotRows(tools, tables);
    const bytes = allocations.reduce((sum, memory) => sum + memory.bytes, 0);
    return new CudaTables(tables, plan, bytes, new TableMemory(tables, rows, rowWeights, hotRows));
  } catch (error) {
    for (const memory of allocations) memory[Symbol.dispose]();
    throw error;
  }
}

async function placeRows(
  { stream, kernels }: PlacementTools,
  upload: StreamedUpload,
  table: EmbeddingTable,
  memory: DeviceMemory,
): Promise<void> {
  const { weight, rowFormat, rows, dim } = table;
  const target = async () =>
    isScaled(table)
      ? upload.toScaled(table, memory, await kernels.utility('split_rows'))
      : upload.to(memory.address());
  if (isStored(weight)) {
    await upload.stored(await target(), weight);
  } else if (isHost(weight)) {
    await upload.array(await target(), weight.data);
  } else if (isQuantized(rowFormat)) {
    const fill = await kernels.utility('fill_quantized');
    const rowStrideBytes = deviceRowBytes(table);
    const { seed } = weight;
    const words = encodeFillQuantized({
      target: memory.address(),
      rowFormat,
      rows,
      dim,
      rowStrideBytes,
      fileStrideBytes: rowBytes(table),
      seed,
    });
    launchStriding(stream, fill, words, (rows * rowStrideBytes) / 8);
  } else {
    const count = rows * dim;
    const fill = await kernels.utility('fill_uniform');
    const words = encodeFillUniform({ target: memory.address(), rowFormat, count, seed: weight.seed });
    launchStriding(stream, fill, words, count / 2);
  }
}

/** Bytes of a piece that is uploaded at once: no more than the largest table has. */
function streamBytes(tables: readonly EmbeddingTable[]): number {
  const largest = tables.reduce((most, table) => Math.max(most, table.rows * rowBytes(table)), 0);
  return Math.min(STREAM_BYTES, largest);
}

/** Whether a table's rows pass through device memory of their own on their way. */
function isPassedOn(table: EmbeddingTable): boolean {
  return isScaled(table) && (isStored(table.weight) || isHost(table.weight));
}

/**
 * `passing`: bytes that are needed beside the tables until they are placed.
 * @throws DeviceError OUT_OF_MEMORY, before any work, with what is needed, what there is, and the largest table.
 */
function checkMemory(device: CudaDevice, tables: readonly EmbeddingTable[], passing: number): void {
  const needed = tables.reduce((sum, table) => sum + deviceTableBytes(table), passing);
  const { freeBytes, totalBytes } = device.memoryInfo();
  if (needed <= freeBytes) return;
  const largest = tables.reduce((a, b) => (deviceTableBytes(b) > deviceTableBytes(a) ? b : a));
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  throw new DeviceError(
    'OUT_OF_MEMORY',
    `the tables need ${needed} bytes (${gib(needed)}), ${device.id} has ${gib(freeBytes)} of ${gib(totalBytes)} free; the largest is ${largest.name} with ${gib(deviceTableBytes(largest))}`,
    { value: needed, hint: 'use fewer or smaller tables, or rows of 16 bits' },
  );
}

/** Where an upload goes. */
interface UploadTarget {
  /** Bytes of a piece, at most. */
  readonly pieceBytes: number;
  /** Puts a piece of pinned memory where it belongs, `offset` bytes from the start of what is uploaded. */
  put(piece: HostPtr, offset: number, length: number): void;
}

/** Host memory and files to the device, while the next piece is read. */
class StreamedUpload implements Disposable {
  readonly #tools: PlacementTools;
  readonly #pieceBytes: number;
  /** A piece of scaled rows as files have them; made when first needed. */
  #scaled: DeviceMemory | undefined;
  /** Made when first needed. */
  #blocks: { readonly memory: PinnedMemory; readonly passed: CudaEvent }[] = [];
  #next = 0;

  /** `pieceBytes`: a row of every table at least. */
  constructor(tools: PlacementTools, pieceBytes: number) {
    this.#tools = tools;
    this.#pieceBytes = pieceBytes;
  }

  /** Memory that takes the bytes as they are. */
  to(address: DevicePtr): UploadTarget {
    return {
      pieceBytes: this.#pieceBytes,
      put: (piece, offset, length) =>
        this.#tools.stream.copyToDevice((address + BigInt(offset)) as DevicePtr, piece, length),
    };
  }

  /** The memory of a table of scaled rows; `split`: the kernel that takes files' rows apart. */
  toScaled(table: EmbeddingTable, memory: DeviceMemory, split: CudaKernel): UploadTarget {
    const { device, stream } = this.#tools;
    const fileRowBytes = rowBytes(table);
    const stride = deviceRowBytes(table);
    const headers = table.rows * stride;
    this.#scaled ??= new DeviceMemory(device, this.#pieceBytes);
    const source = this.#scaled.address();
    return {
      pieceBytes: Math.floor(this.#pieceBytes / fileRowBytes) * fileRowBytes,
      put: (piece, offset, length) => {
        const [first, rows] = [offset / fileRowBytes, length / fileRowBytes];
        stream.copyToDevice(source, piece, length);
        const words = encodeSplitRows({
          source,
          elements: memory.address(first * stride),
          headers: memory.address(headers + first * WORD_BYTES),
          rows,
          sourceStride: fileRowBytes / WORD_BYTES,
          stride: stride / WORD_BYTES,
        });
        launchStriding(stream, split, words, length / WORD_BYTES);
      },
    };
  }

  array(target: UploadTarget, array: TensorData): Promise<void> {
    return this.#pieces(target, bytesOf(array), async (piece, offset, length) => {
      const source = (addressOf(array) + BigInt(offset)) as HostPtr;
      await copyAll([{ target: piece, source, bytes: length }]);
    });
  }

  stored(target: UploadTarget, tensor: StoredTensor): Promise<void> {
    return this.#pieces(target, tensor.byteLength, (piece, offset, length) =>
      isInFile(tensor)
        ? readFileTo(piece, tensor.file, tensor.byteOffset + offset, length)
        : tensor.read(new Uint8Array(viewMemory(piece, length)), offset),
    );
  }

  async #pieces(
    { pieceBytes, put }: UploadTarget,
    bytes: number,
    read: (piece: HostPtr, offset: number, length: number) => Promise<void>,
  ): Promise<void> {
    const { device, stream } = this.#tools;
    for (let offset = 0; offset < bytes; offset += pieceBytes) {
      const length = Math.min(pieceBytes, bytes - offset);
      const which = this.#next++ % 2;
      this.#blocks[which] ??= {
        memory: new PinnedMemory(device, this.#pieceBytes),
        passed: new CudaEvent(device),
      };
      const { memory, passed } = this.#blocks[which];
      await passed.wait();
      await read(memory.address(), offset, length);
      put(memory.address(), offset, length);
      passed.record(stream);
    }
  }

  /** The driver gives memory back only when the copies out of it are done. */
  [Symbol.dispose](): void {
    this.#scaled?.[Symbol.dispose]();
    for (const { memory, passed } of this.#blocks) {
      memory[Symbol.dispose]();
      passed[Symbol.dispose]();
    }
  }
}
