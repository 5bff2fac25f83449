/** What the host tells artifact_bag.cuh. */
import { struct } from '../kernels/struct.ts';

export const ArtifactBagParams = struct('ArtifactBagParams', 'artifact_bag.cuh', {
  rows: 'address',
  rowStrideBytes: 'integer',
  featureStride: 'integer',
  rowCount: 'integer',
  dim: 'integer',
  indices: 'address',
  offsets: 'address',
  lookups: 'integer',
  offsetCount: 'integer',
  weights: 'address',
  weightStride: 'integer',
  rowWeights: 'address',
  /** -1: none. */
  paddingIndex: 'integer',
  output: 'address',
  outputStride: 'integer',
  batch: 'integer',
  offsetToBag: 'address',
  bagSize: 'address',
  stop: 'address',
});
