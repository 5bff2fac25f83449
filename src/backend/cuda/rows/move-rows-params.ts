/** What the host tells move_rows.cuh. */
import { struct } from '../kernels/struct.ts';

export const MoveRowsParams = struct('MoveRowsParams', 'move_rows.cuh', {
  rows: 'address',
  rowCount: 'integer',
  rowStrideBytes: 'integer',
  /** 0 or 4. */
  headerBytes: 'integer',
  elementBytes: 'integer',
  /** 2 or 4. */
  wordBytes: 'integer',
  numbers: 'address',
  count: 'integer',
  values: 'address',
  valueStrideBytes: 'integer',
});
