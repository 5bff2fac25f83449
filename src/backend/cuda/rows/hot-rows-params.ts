/** What the host tells hot_rows.cuh. */
import { struct } from '../kernels/struct.ts';

export const CountRowsParams = struct('CountRowsParams', 'hot_rows.cuh', {
  indices: 'address',
  indexBytes: 'integer',
  lookups: 'integer',
  rowCount: 'integer',
  /** -1: none. */
  paddingIndex: 'integer',
  counts: 'address',
});

export const HotRowsParams = struct('HotRowsParams', 'hot_rows.cuh', {
  counts: 'address',
  rowCount: 'integer',
  capacity: 'integer',
  bins: 'address',
  choice: 'address',
  rowNumbers: 'address',
  rangeRows: 'integer',
  ranges: 'address',
});

/** 32-bit words of the bins, `hotrow::hot::BINS`, and of a `hotrow::RowChoice`. */
export const HOT_ROWS_BINS = 1024;
export const ROW_CHOICE_WORDS = 4;
