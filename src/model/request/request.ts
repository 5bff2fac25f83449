/** Requests: dense features and, per table, bags of lookups. */
import type { BagBatch } from '../../embedding/bag.ts';

/** One batch to score. */
export interface DlrmRequest extends BagBatch {
  /** [batchSize, denseFeatures], row-major. */
  readonly dense: Float32Array;
  /** Width of a row of `dense`. */
  readonly denseFeatures: number;
}
