/**
 * Rows that all lie in device memory, of each table one behind the other. Features on one table share its memory.
 */
import { at } from '../../../at.ts';
import { throwIfAborted, untilAborted } from '../../../checks/abort.ts';
import { bytesOf } from '../../../checks/array.ts';
import type { CudaDevice } from '../../../cuda/device.ts';
import { DeviceMemory } from '../../../cuda/memory.ts';
import { type EmbeddingTable, type IndexArray, rowBytes } from '../../../embedding/bag.ts';
import { isQuantized, rowLayout } from '../../../embedding/row-format.ts';
import type { RowUpdate } from '../../../embedding/row-values.ts';
import { distinctTables } from '../../../embedding/shared-tables.ts';
import { DeviceError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { isHost, isStored, type Tensor } from '../../../tensor.ts';
import type { PlaceOptions } from '../../backend.ts';
import type { StagedRows } from '../../staged-rows.ts';
import { launchStriding } from '../kernels/launcher.ts';
import type { UtilityKernel } from '../kernels/utilities.ts';
import { FillQuantizedParams, FillUniformParams } from './fill-uniform-params.ts';
import { readRows, stageUpdate } from './move-rows.ts';
import { deviceRowBytes, deviceTableBytes, isScaled } from './row-layout.ts';
import type { RowStore } from './row-store.ts';
import type { RowTools } from './tools.ts';
import { StreamedUpload } from './upload.ts';

/**
 * Bytes of each of the two blocks that host memory and files are streamed through. Batches of other models wait for a copy of so much,
 * 0.1 ms, and for its memory to be pinned, 1 ms; reading a piece takes longer than beginning one.
 */
const STREAM_BYTES = 4 << 20;
/** What an abort ends. */
const PLACING = 'placing tables';

export class ResidentRows implements RowStore {
  readonly bytes: number;
  /** By table, as are the next: those of one table, or with the same row weights, share them. */
  readonly #rows: readonly DeviceMemory[];
  readonly #rowWeights: readonly (DeviceMemory | undefined)[];

  readonly #tools: RowTools;
  readonly #tables: readonly EmbeddingTable[];

  private constructor(
    tools: RowTools,
    tables: readonly EmbeddingTable[],
    rows: readonly DeviceMemory[],
    rowWeights: readonly (DeviceMemory | undefined)[],
  ) {
    this.#tools = tools;
    this.#tables = tables;
    this.#rows = rows;
    this.#rowWeights = rowWeights;
    this.bytes = this.#allocations.reduce((sum, memory) => sum + memory.bytes, 0);
  }

  /**
   * Whatever was placed is given back when one table fails, or the signal is aborted.
   * @throws AbortError; DeviceError OUT_OF_MEMORY, before any work.
   */
  static async place(
    tools: RowTools,
    tables: readonly EmbeddingTable[],
    { onProgress, signal }: Pick<PlaceOptions, 'onProgress' | 'signal'> = {},
  ): Promise<ResidentRows> {
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
        throwIfAborted(signal, PLACING);
        const memory = allocate(deviceTableBytes(table));
        placed.set(table.weight, memory);
        await placeRows(tools, upload, table, memory, signal);
      }
      for (const { rowWeights: learned } of tables) {
        if (learned === undefined || placed.has(learned)) continue;
        const memory = allocate(bytesOf(learned));
        placed.set(learned, memory);
        await upload.array(upload.to(memory.address()), learned);
      }
      throwIfAborted(signal, PLACING);
      await tools.stream.finished();
      const rows = tables.map(({ weight }) => placed.get(weight) as DeviceMemory);
      const rowWeights = tables.map(({ rowWeights: learned }) => learned && placed.get(learned));
      return new ResidentRows(tools, tables, rows, rowWeights);
    } catch (error) {
      for (const memory of allocations) memory[Symbol.dispose]();
      throw error;
    }
  }

  address(t: number, offset = 0): DevicePtr {
    return at(this.#rows, t).address(offset);
  }

  rowWeights(t: number): bigint {
    return this.#rowWeights[t]?.address() ?? 0n;
  }

  stage(t: number, update: RowUpdate): Promise<StagedRows> {
    return stageUpdate(this.#tools, at(this.#tables, t), this.address(t), update);
  }

  read(t: number, rows: IndexArray): Promise<Uint8Array<ArrayBuffer>> {
    return readRows(this.#tools, at(this.#tables, t), this.address(t), rows);
  }

  [Symbol.dispose](): void {
    for (const memory of this.#allocations) memory[Symbol.dispose]();
  }

  get #allocations(): DeviceMemory[] {
    return [...new Set([...this.#rows, ...this.#rowWeights])].filter((memory) => memory !== undefined);
  }
}

async function placeRows(
  { stream, kernels }: RowTools,
  upload: StreamedUpload,
  table: EmbeddingTable,
  memory: DeviceMemory,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { weight, rowFormat, rows, dim } = table;
  // A compilation that nobody waits for any more goes on for those to come.
  const kernel = (name: UtilityKernel) => untilAborted(kernels.utility(name), signal, PLACING);
  const target = async () =>
    isScaled(table)
      ? upload.toScaled(table, memory, await kernel('split_rows'))
      : upload.to(memory.address());
  if (isStored(weight)) {
    await upload.stored(await target(), weight);
  } else if (isHost(weight)) {
    await upload.array(await target(), weight.data);
  } else if (isQuantized(rowFormat)) {
    const fill = await kernel('fill_quantized');
    const rowStrideBytes = deviceRowBytes(table);
    const { seed } = weight;
    const words = FillQuantizedParams.encode({
      target: memory.address(),
      rowFormat: rowLayout(rowFormat).number,
      rows,
      dim,
      rowStrideBytes,
      fileStrideBytes: rowBytes(table),
      seed,
    });
    launchStriding(stream, fill, words, (rows * rowStrideBytes) / 8);
  } else {
    const count = rows * dim;
    const fill = await kernel('fill_uniform');
    const words = FillUniformParams.encode({
      target: memory.address(),
      rowFormat: rowLayout(rowFormat).number,
      count,
      seed: weight.seed,
    });
    launchStriding(stream, fill, words, count / 2);
  }
}

/** Bytes of a piece that is uploaded at once: no more than the largest table has, and a row of any at least. */
function streamBytes(tables: readonly EmbeddingTable[]): number {
  const largest = tables.reduce((most, table) => Math.max(most, table.rows * rowBytes(table)), 0);
  const widest = tables.reduce((most, table) => Math.max(most, rowBytes(table)), 0);
  return Math.max(widest, Math.min(STREAM_BYTES, largest));
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
