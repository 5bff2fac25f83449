/** What the host tells spread_rows.cuh. */
import { struct } from '../kernels/struct.ts';

export const ColumnSpan = struct('ColumnSpan', 'spread_rows.cuh', {
  from: 'integer',
  to: 'integer',
  columns: 'integer',
});

export const SpreadRowsParams = struct('SpreadRowsParams', 'spread_rows.cuh', {
  input: 'address',
  /** In elements, as is the next. */
  inputStride: 'integer',
  output: 'address',
  outputStride: 'integer',
  elementBytes: 'integer',
  users: 'address',
  rows: 'integer',
  spans: 'address',
  spanCount: 'integer',
});
