/** What the host tells pin_rows.cuh. */
import { struct } from '../kernels/struct.ts';

export const PinRowsParams = struct('PinRowsParams', 'pin_rows.cuh', {
  rows: 'address',
  rowStrideBytes: 'integer',
  rowBytes: 'integer',
  rowCount: 'integer',
  rowNumbers: 'address',
  count: 'integer',
  /** 32, 64 or 128. */
  stepBytes: 'integer',
});
