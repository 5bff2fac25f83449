/** Rows of a table in host memory by their numbers. */
import { addressOf, type HostPtr, NativeMemory } from './host-memory.ts';
import { inBackground, library } from './native-library.ts';

/** The library's `hr_row_move`: [rowCount, rowBytes] at `rows`. */
export interface MovedRows {
  readonly rows: HostPtr;
  readonly rowCount: number;
  readonly rowBytes: number;
  /** [n]; −1 is left out. */
  readonly numbers: BigInt64Array;
  /** [n, rowBytes]. */
  readonly values: NativeMemory | Uint8Array;
}

/** rows[numbers[i]] = values[i], in order. */
export function updateRows(move: MovedRows): Promise<void> {
  return call('updateRows', move);
}

/** values[i] = rows[numbers[i]]. */
export function readRows(move: MovedRows): Promise<void> {
  return call('readRows', move);
}

async function call(name: 'updateRows' | 'readRows', move: MovedRows): Promise<void> {
  const { rows, rowCount, rowBytes, numbers, values } = move;
  const words = BigInt64Array.of(
    rows,
    BigInt(rowCount),
    BigInt(rowBytes),
    addressOf(numbers),
    BigInt(numbers.length),
    values instanceof NativeMemory ? values.address : addressOf(values),
  );
  await inBackground<number>(library()[name], [words], [numbers, values]);
}
