/**
 * A request for a DLRM: dense features and, per table, bags of lookups. Held in a safetensors file, see readRequest.
 */
import type { BagBatch } from '../embedding/bag.ts';

/** One batch to score. */
export interface DlrmRequest extends BagBatch {
  /** [batchSize, features], row-major. */
  readonly dense: Float32Array;
  /** Width of a row of `dense`. */
  readonly denseFeatures: number;
}
