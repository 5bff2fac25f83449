/** What the host tells split_rows.cuh. */
import { struct } from '../kernels/struct.ts';

export const SplitRowsParams = struct('SplitRowsParams', 'split_rows.cuh', {
  source: 'address',
  elements: 'address',
  headers: 'address',
  rows: 'integer',
  /** In words of 4 bytes, as is the next. */
  sourceStride: 'integer',
  stride: 'integer',
});
