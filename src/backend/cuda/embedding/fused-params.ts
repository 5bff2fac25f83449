/** What the host tells fused_bags.cuh. */
import { type FieldsOf, struct } from '../kernels/struct.ts';

export const FusedTable = struct('FusedTable', 'fused_params.cuh', {
  rows: 'address',
  rowCount: 'integer',
  indices: 'address',
  lookups: 'integer',
  offsets: 'address',
  offsetCount: 'integer',
  weights: 'address',
  rowWeights: 'address',
  /** -1: none. */
  paddingIndex: 'integer',
  column: 'integer',
  kind: 'integer',
  unused: 'unused',
});
export type FusedTable = FieldsOf<typeof FusedTable>;

/** A part of a long bag and one tile of its rows. */
export const FusedSegment = struct('FusedSegment', 'fused_params.cuh', {
  table: 'integer',
  bag: 'integer',
  tile: 'integer',
  begin: 'integer',
  end: 'integer',
  slot: 'integer',
  firstSlot: 'integer',
  slots: 'integer',
  arrivals: 'integer',
  unused: 'unused',
});
export type FusedSegment = FieldsOf<typeof FusedSegment>;

export const FusedBagsParams = struct('FusedBagsParams', 'fused_params.cuh', {
  tables: 'address',
  batch: 'integer',
  blocksPerTable: 'integer',
  bagsPerGroup: 'integer',
  output: 'address',
  outputStride: 'integer',
  findings: 'address',
  split: 'integer',
  segments: 'address',
  segmentCount: 'integer',
  partials: 'address',
  partialWidth: 'integer',
  arrivals: 'address',
  users: 'integer',
  userOutput: 'address',
  userOutputStride: 'integer',
});

/** Of variants that write pooled rows in 8 bits too. */
export const RoundedBagsParams = struct('RoundedBagsParams', 'fused_params.cuh', {
  ...FusedBagsParams.fields,
  rounded: 'address',
  roundedStride: 'integer',
  /** The bits of a float32. */
  roundedInverse: 'integer',
  userRounded: 'address',
});
