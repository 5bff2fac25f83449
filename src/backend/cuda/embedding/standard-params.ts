/** What the host tells standard_bag.cuh. */
import { type FieldsOf, struct } from '../kernels/struct.ts';

export const StandardBagParams = struct('StandardBagParams', 'standard_bag.cuh', {
  rows: 'address',
  rowStrideBytes: 'integer',
  rowCount: 'integer',
  dim: 'integer',
  indices: 'address',
  offsets: 'address',
  lookups: 'integer',
  offsetCount: 'integer',
  weights: 'address',
  rowWeights: 'address',
  /** -1: none. */
  paddingIndex: 'integer',
  output: 'address',
  outputStride: 'integer',
  batch: 'integer',
  stop: 'address',
});
export type StandardBagParams = FieldsOf<typeof StandardBagParams>;
