/** Rows of a resident table by their numbers: new values for them, and what they hold. */

import { allocated } from '../../../checks/arguments.ts';
import { bytesOf } from '../../../checks/array.ts';
import type { DeviceMemory, PinnedMemory } from '../../../cuda/memory.ts';
import type { CudaKernel } from '../../../cuda/module.ts';
import { type EmbeddingTable, type IndexArray, rowBytes } from '../../../embedding/bag.ts';
import { rowContentBytes, rowLayout } from '../../../embedding/row-format.ts';
import { pieceRows, type RowUpdate, rowNumbers, updatePiece } from '../../../embedding/row-values.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { copyAll } from '../../../ffi/host-memory.ts';
import type { StagedRows } from '../../staged-rows.ts';
import { launchStriding } from '../kernels/launcher.ts';
import { type PassedBlock, passedBlock } from '../memory/passed-block.ts';
import { MoveRowsParams } from './move-rows-params.ts';
import { deviceRowBytes } from './row-layout.ts';
import type { RowTools } from './tools.ts';

const NUMBER_BYTES = BigInt64Array.BYTES_PER_ELEMENT;
/** Rows that are read at once. */
const READ_BYTES = 1 << 24;

/** Where some rows' values, as files have them, and their numbers lie on the device. */
interface MovedRows {
  readonly values: DevicePtr;
  readonly numbers: DevicePtr;
  readonly count: number;
}

function parameters(table: EmbeddingTable, rows: DevicePtr, moved: MovedRows): BigInt64Array {
  const { headerBytes } = rowLayout(table.rowFormat);
  const rowStrideBytes = deviceRowBytes(table);
  const wordBytes = rowStrideBytes % 4 === 0 ? 4 : 2;
  const elementBytes = Math.ceil((rowContentBytes(table) - headerBytes) / wordBytes) * wordBytes;
  return MoveRowsParams.encode({
    ...moved,
    rows,
    rowCount: table.rows,
    rowStrideBytes,
    headerBytes,
    elementBytes,
    wordBytes,
    valueStrideBytes: rowBytes(table),
  });
}

/**
 * Brings an update to the device: its values and row numbers, all of them, before any row changes. Lookups go on meanwhile.
 * @throws CudaError OUT_OF_MEMORY where it does not fit beside the tables; as `updatePiece`.
 */
export async function stageUpdate(
  tools: RowTools,
  table: EmbeddingTable,
  rows: DevicePtr,
  update: RowUpdate,
): Promise<StagedRows> {
  const { device, stream, aside, kernels, pools } = tools;
  const kernel = await kernels.utility('update_rows');
  const width = rowBytes(table);
  const step = Math.min(pieceRows(update), Math.max(1, update.count));
  const memory = pools.device.borrow(update.count * (width + NUMBER_BYTES));
  const numbersAt = (first: number) => memory.address(first * NUMBER_BYTES);
  const valuesAt = (first: number) => memory.address(update.count * NUMBER_BYTES + first * width);
  const blocks: PassedBlock[] = [];
  try {
    for (let i = 0; i < 2; i++)
      blocks.push(passedBlock(device, () => pools.pinned.borrow(step * (width + NUMBER_BYTES))));
    for (let first = 0, turn = 0; first < update.count; first += step, turn++) {
      const count = Math.min(step, update.count - first);
      const { memory: block, passed } = blocks[turn % 2] as PassedBlock;
      const { numbers, values } = updatePiece(update, first, count);
      await passed.wait();
      const valueBytes = count * width;
      await copyAll([
        { target: block.address(), source: values, bytes: valueBytes },
        { target: block.address(valueBytes), source: numbers, bytes: bytesOf(numbers) },
      ]);
      aside.copyToDevice(valuesAt(first), block.address(), valueBytes);
      aside.copyToDevice(numbersAt(first), block.address(valueBytes), bytesOf(numbers));
      passed.record(aside);
    }
    await aside.finished();
  } catch (error) {
    // What failed is reported already.
    await aside.finished().catch(() => {});
    pools.device.giveBack(memory);
    throw error;
  } finally {
    for (const { memory: block, passed } of blocks) {
      pools.pinned.giveBack(block);
      passed[Symbol.dispose]();
    }
  }
  return {
    async apply() {
      // One after the other: of a row that two pieces have, the last counts.
      for (let first = 0; first < update.count; first += step) {
        const count = Math.min(step, update.count - first);
        const moved = { values: valuesAt(first), numbers: numbersAt(first), count };
        launchStriding(stream, kernel, parameters(table, rows, moved), (count * width) / 4);
      }
      await stream.finished();
    },
    [Symbol.dispose]: () => pools.device.giveBack(memory),
  };
}

/** Rows of a table, [rows.length, rowBytes], as files have them. @throws RequestError INDEX_OUT_OF_RANGE; CudaError OUT_OF_MEMORY. */
export async function readRows(
  tools: RowTools,
  table: EmbeddingTable,
  rows: DevicePtr,
  numbers: IndexArray,
): Promise<Uint8Array<ArrayBuffer>> {
  const kernel = await tools.kernels.utility('read_rows');
  const width = rowBytes(table);
  const own = rowNumbers(table, numbers, 0, numbers.length);
  const result = allocated(`${own.length} rows`, () => new Uint8Array(own.length * width));
  const step = Math.max(1, Math.min(own.length, Math.floor(READ_BYTES / width)));
  const memory = tools.pools.device.borrow(step * (width + NUMBER_BYTES));
  let block: PinnedMemory | undefined;
  try {
    block = tools.pools.pinned.borrow(step * (width + NUMBER_BYTES));
    for (let first = 0; first < own.length; first += step) {
      const count = Math.min(step, own.length - first);
      await readPiece(tools, kernel, { table, rows }, memory, block, {
        numbers: own.subarray(first, first + count),
        into: result.subarray(first * width, (first + count) * width),
      });
    }
  } finally {
    await tools.stream.finished().catch(() => {});
    tools.pools.device.giveBack(memory);
    if (block !== undefined) tools.pools.pinned.giveBack(block);
  }
  return result;
}

async function readPiece(
  { stream }: RowTools,
  kernel: CudaKernel,
  { table, rows }: { readonly table: EmbeddingTable; readonly rows: DevicePtr },
  memory: DeviceMemory,
  block: PinnedMemory,
  { numbers, into }: { readonly numbers: BigInt64Array; readonly into: Uint8Array },
): Promise<void> {
  const moved = {
    numbers: memory.address(),
    values: memory.address(bytesOf(numbers)),
    count: numbers.length,
  };
  await copyAll([{ target: block.address(), source: numbers, bytes: bytesOf(numbers) }]);
  stream.copyToDevice(moved.numbers, block.address(), bytesOf(numbers));
  // What pads a row is no part of the table's.
  stream.fillBytes(moved.values, 0, into.length);
  launchStriding(stream, kernel, parameters(table, rows, moved), into.length / 4);
  stream.copyToHost(block.address(), moved.values, into.length);
  await stream.finished();
  await copyAll([{ target: into, source: block.address(), bytes: into.length }]);
}
