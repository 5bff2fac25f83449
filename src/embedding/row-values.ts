/** New values for some rows of a table: which arrays give them, and what they are as the table stores rows. Pure. */
import {
  type ArrayName,
  bufferOf,
  bytesOf,
  isArrayOf,
  isIntegerArray,
  lengthOf,
  offsetOf,
  plainArray,
  unreadable,
} from '../checks/array.ts';
import { shown } from '../checks/value.ts';
import { arraysChanged, RequestError } from '../errors.ts';
import { numberToBfloat16, numberToFloat16 } from '../tensor.ts';
import type { EmbeddingTable, IndexArray } from './bag.ts';
import { quantizeRows } from './quantize.ts';
import { isQuantized, type RowFormat, rowBytes } from './row-format.ts';

/** Values of rows: float32 [rows, dim], or as a table stores them, 16-bit floats [rows, dim] or bytes [rows, rowBytes]. */
export type RowValues = Float32Array | Uint16Array | Uint8Array;

type UpdatedTable = Pick<EmbeddingTable, 'name' | 'rows' | 'dim' | 'rowFormat'>;

/** New values for rows of one table, checked as far as they can be without reading them. */
export interface RowUpdate {
  readonly table: UpdatedTable;
  readonly rows: IndexArray;
  readonly values: RowValues;
  readonly count: number;
}

/** Some rows of an update, by themselves. */
export interface UpdatePiece {
  /** int64 [count]; −1 for a row that a later one of the piece replaces. */
  readonly numbers: BigInt64Array;
  /** [count, rowBytes], as files have rows: a view of the caller's array where it is that already. */
  readonly values: Uint8Array;
}

/** How a table's rows are given: the array class, and its elements of a row. */
function storedArray({ dim, rowFormat }: UpdatedTable): { readonly name: ArrayName; readonly width: number } {
  if (isQuantized(rowFormat)) return { name: 'Uint8Array', width: rowBytes({ dim, rowFormat }) };
  return { name: rowFormat === 'float32' ? 'Float32Array' : 'Uint16Array', width: dim };
}

/** @throws RequestError TENSOR_DTYPE for other arrays, or ones that cannot be read; TENSOR_SHAPE for values of another width. */
export function checkRowUpdate(table: UpdatedTable, rows: unknown, values: unknown): RowUpdate {
  const numbers = checkRowNumbers(table, rows);
  const stored = storedArray(table);
  const fail = (code: 'TENSOR_DTYPE' | 'TENSOR_SHAPE', message: string): never => {
    throw new RequestError(code, `table ${table.name}: ${message}`, { tensor: 'values' });
  };
  const asFloats = isArrayOf(values, 'Float32Array');
  if (!asFloats && !isArrayOf(values, stored.name)) {
    const others =
      stored.name === 'Float32Array' ? '' : ` or ${stored.name}, as ${table.rowFormat} is stored`;
    return fail('TENSOR_DTYPE', `values of rows are a Float32Array${others}, not ${shown(values)}`);
  }
  const own = plainArray(values as RowValues);
  const reason = unreadable(own);
  if (reason !== undefined) fail('TENSOR_DTYPE', `values: the array ${reason}`);
  const width = asFloats ? table.dim : stored.width;
  const count = lengthOf(numbers);
  if (lengthOf(own) !== count * width)
    fail('TENSOR_SHAPE', `${lengthOf(own)} values for ${count} rows of ${width} each`);
  return { table, rows: numbers, values: own, count };
}

/** @throws RequestError TENSOR_DTYPE. */
export function checkRowNumbers({ name }: UpdatedTable, rows: unknown): IndexArray {
  const fail = (message: string): never => {
    throw new RequestError('TENSOR_DTYPE', `table ${name}: ${message}`, { tensor: 'rows' });
  };
  if (!isIntegerArray(rows))
    return fail(`row numbers are an Int32Array or a BigInt64Array, not ${shown(rows)}`);
  const reason = unreadable(rows);
  if (reason !== undefined) fail(`rows: the array ${reason}`);
  return plainArray(rows);
}

/** Rows that are read and converted at once: some milliseconds of work. */
const PIECE_ELEMENTS = 1 << 19;
const PIECE_BYTES = 1 << 24;
const MOST_PIECE_ROWS = 1 << 16;

/** How many rows a piece of an update has at most. */
export function pieceRows({ table, values }: RowUpdate): number {
  const isConverted = storedArray(table).name !== 'Float32Array' && isArrayOf(values, 'Float32Array');
  const most = isConverted ? PIECE_ELEMENTS / table.dim : PIECE_BYTES / rowBytes(table);
  return Math.max(1, Math.min(MOST_PIECE_ROWS, Math.floor(most)));
}

/**
 * Rows [first, first + count) of an update. float32 becomes what the table stores: rounded to nearest even, or quantised as
 * `quantizeRows` does.
 * @throws RequestError INDEX_OUT_OF_RANGE, ARRAYS_CHANGED; ModelError VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE of quantised rows.
 */
export function updatePiece(update: RowUpdate, first: number, count: number): UpdatePiece {
  const { table, rows, values } = update;
  const numbers = rowNumbers(table, rows, first, count);
  dropReplaced(numbers);
  const width = lengthOf(values) / update.count;
  if (!Number.isInteger(width)) throw arraysChanged('changed its length');
  const own = values.subarray(first * width, (first + count) * width) as RowValues;
  return { numbers, values: storedValues(table, own, first) };
}

/** Row numbers [first, first + count), a copy. @throws RequestError INDEX_OUT_OF_RANGE, ARRAYS_CHANGED. */
export function rowNumbers(
  table: UpdatedTable,
  rows: IndexArray,
  first: number,
  count: number,
): BigInt64Array {
  if (lengthOf(rows) < first + count) throw arraysChanged('changed its length');
  const numbers = new BigInt64Array(count);
  // As halves: a BigInt each would take many times as long.
  const halves = new Int32Array(numbers.buffer);
  if (rows instanceof BigInt64Array) numbers.set(rows.subarray(first, first + count));
  else widen(rows.subarray(first, first + count), halves);
  const bad = firstOutside(halves, table.rows);
  if (bad >= 0) throw outOfRange(table, first + bad, numbers[bad] as bigint);
  return numbers;
}

/** int32 to the halves of int64. */
function widen(from: Int32Array, halves: Int32Array): void {
  for (let i = 0; i < from.length; i++) {
    const value = from[i] as number;
    halves[2 * i] = value;
    halves[2 * i + 1] = value >> 31;
  }
}

/** The first number that is not in [0, rows); −1: all are. */
function firstOutside(halves: Int32Array, rows: number): number {
  const [mostHigh, mostLow] = [Math.floor((rows - 1) / 2 ** 32), (rows - 1) % 2 ** 32];
  for (let i = 0; i < halves.length; i += 2) {
    const high = halves[i + 1] as number;
    if (high < 0 || high > mostHigh || (high === mostHigh && (halves[i] as number) >>> 0 > mostLow))
      return i / 2;
  }
  return -1;
}

function outOfRange({ name, rows }: UpdatedTable, position: number, value: number | bigint): RequestError {
  const message = `table ${name}: rows[${position}] = ${value} is not a row of [0, ${rows})`;
  return new RequestError('INDEX_OUT_OF_RANGE', message, { position, value: BigInt(value), tensor: 'rows' });
}

/** Makes −1 of each row number that comes again later. */
function dropReplaced(numbers: BigInt64Array): void {
  const halves = new Int32Array(numbers.buffer);
  if (isRising(halves)) return;
  const size = 2 ** Math.ceil(Math.log2(2 * numbers.length + 1));
  /** One more than a place; 0: none. */
  const places = new Int32Array(size);
  for (let i = numbers.length - 1; i >= 0; i--) {
    const low = halves[2 * i] as number;
    const high = halves[2 * i + 1] as number;
    let slot = (Math.imul(low, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & (size - 1);
    for (;;) {
      const other = (places[slot] as number) - 1;
      if (other < 0) {
        places[slot] = i + 1;
        break;
      }
      if (halves[2 * other] === low && halves[2 * other + 1] === high) {
        halves[2 * i] = -1;
        halves[2 * i + 1] = -1;
        break;
      }
      slot = (slot + 1) & (size - 1);
    }
  }
}

/** Whether each number is greater than the one before it, as those of sorted updates are. */
function isRising(halves: Int32Array): boolean {
  for (let i = 2; i < halves.length; i += 2) {
    const [high, low] = [halves[i + 1] as number, (halves[i] as number) >>> 0];
    const [highBefore, lowBefore] = [halves[i - 1] as number, (halves[i - 2] as number) >>> 0];
    if (high < highBefore || (high === highBefore && low <= lowBefore)) return false;
  }
  return true;
}

function storedValues({ dim, rowFormat }: UpdatedTable, values: RowValues, firstRow: number): Uint8Array {
  if (!(values instanceof Float32Array) || rowFormat === 'float32') return bytesAs(values);
  if (isQuantized(rowFormat)) return quantizeRows(values, dim, rowFormat, firstRow).data;
  const round = ROUNDING[rowFormat];
  return bytesAs(Uint16Array.from(values, round));
}

const ROUNDING = {
  float16: numberToFloat16,
  bfloat16: numberToBfloat16,
} as const satisfies Partial<Record<RowFormat, (value: number) => number>>;

function bytesAs(array: RowValues): Uint8Array {
  return new Uint8Array(bufferOf(array) as ArrayBuffer, offsetOf(array), bytesOf(array));
}

/** Rows of a table as it stores them: the class that `storedArray` names, over `bytes`. */
export function viewRows(
  { dim, rowFormat }: Pick<UpdatedTable, 'dim' | 'rowFormat'>,
  bytes: Uint8Array<ArrayBuffer>,
): RowValues {
  const { buffer, byteOffset } = bytes;
  const { name, width } = storedArray({ name: '', rows: 0, dim, rowFormat });
  const count = bytes.length / rowBytes({ dim, rowFormat });
  if (name === 'Float32Array') return new Float32Array(buffer, byteOffset, count * width);
  if (name === 'Uint16Array') return new Uint16Array(buffer, byteOffset, count * width);
  return bytes;
}
