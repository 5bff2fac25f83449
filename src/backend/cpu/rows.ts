/** Where the rows of placed tables are in host memory, and how they change. */
import { allocated } from '../../checks/arguments.ts';
import { type EmbeddingTable, type IndexArray, rowBytes } from '../../embedding/bag.ts';
import { pieceRows, type RowUpdate, rowNumbers, updatePiece } from '../../embedding/row-values.ts';
import { FormatError } from '../../errors.ts';
import { copyAll, type HostPtr, type MappedFile, NativeMemory } from '../../ffi/host-memory.ts';
import { readRows, updateRows } from '../../ffi/move-rows.ts';
import type { StagedRows } from '../staged-rows.ts';

const HUGE_PAGE_BYTES = 2 ** 21;

/** Where the rows of a table begin, and the file that they lie in, if they lie in one. */
export interface PlacedRows {
  readonly start: HostPtr;
  readonly file?: MappedFile;
}

/**
 * Copies an update's values and row numbers, all of them, before any row changes. Rows of a mapped file become writable: the
 * pages that the update touches are copied.
 * @throws DeviceError OUT_OF_MEMORY; FormatError FILE_CHANGED; as `updatePiece`.
 */
export async function stageUpdate(
  table: EmbeddingTable,
  { start, file }: PlacedRows,
  update: RowUpdate,
): Promise<StagedRows> {
  const width = rowBytes(table);
  const numbers = allocated(`${update.count} row numbers`, () => new BigInt64Array(update.count));
  // Huge pages: touching new memory takes longer than the copies.
  const values = new NativeMemory(update.count * width, update.count * width >= HUGE_PAGE_BYTES);
  try {
    const step = pieceRows(update);
    for (let first = 0; first < update.count; first += step) {
      const count = Math.min(step, update.count - first);
      const piece = updatePiece(update, first, count);
      numbers.set(piece.numbers, first);
      const target = (values.address + BigInt(first * width)) as HostPtr;
      await copyAll([{ target, source: piece.values, bytes: count * width }]);
    }
    checkUnchanged(file);
    file?.makeWritable(Number(start - file.address), table.rows * width);
  } catch (error) {
    values[Symbol.dispose]();
    throw error;
  }
  return {
    async apply() {
      await updateRows({ rows: start, rowCount: table.rows, rowBytes: width, numbers, values });
      checkUnchanged(file);
    },
    [Symbol.dispose]: () => values[Symbol.dispose](),
  };
}

/** Rows of a table, [rows.length, rowBytes]. @throws RequestError INDEX_OUT_OF_RANGE; FormatError FILE_CHANGED. */
export async function readStoredRows(
  table: EmbeddingTable,
  { start, file }: PlacedRows,
  rows: IndexArray,
): Promise<Uint8Array<ArrayBuffer>> {
  const width = rowBytes(table);
  const numbers = rowNumbers(table, rows, 0, rows.length);
  const values = allocated(`${numbers.length} rows`, () => new Uint8Array(numbers.length * width));
  await readRows({ rows: start, rowCount: table.rows, rowBytes: width, numbers, values });
  checkUnchanged(file);
  return values;
}

/** @throws FormatError FILE_CHANGED. */
export function checkUnchanged(file: MappedFile | undefined): void {
  if (file?.hasChanged() !== true) return;
  const message = `${file.file} was written to, or cut, while it was in use`;
  throw new FormatError('FILE_CHANGED', message, { file: file.file });
}
