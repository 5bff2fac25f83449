/**
 * How rows of embedding tables lie in device memory: as in files, but for scaled rows (int8, int4), whose headers lie behind
 * all rows instead of in front of each. kernels/cuda/rows.cuh says why.
 */
import type { EmbeddingTable } from '../../../embedding/bag.ts';
import { rowContentBytes, rowLayout } from '../../../embedding/row-format.ts';

type Rows = Pick<EmbeddingTable, 'dim' | 'rowFormat'>;

/** Whether a table's rows have headers of their own. */
export function isScaled({ rowFormat }: Pick<EmbeddingTable, 'rowFormat'>): boolean {
  return rowLayout(rowFormat).headerBytes > 0;
}

/** Bytes from one row's elements to the next's. */
export function deviceRowBytes({ dim, rowFormat }: Rows): number {
  const { headerBytes, alignment } = rowLayout(rowFormat);
  return Math.ceil((rowContentBytes({ dim, rowFormat }) - headerBytes) / alignment) * alignment;
}

/** Bytes of a table: its rows, then its headers. */
export function deviceTableBytes(table: Rows & Pick<EmbeddingTable, 'rows'>): number {
  return table.rows * (deviceRowBytes(table) + rowLayout(table.rowFormat).headerBytes);
}
