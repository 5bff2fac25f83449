/**
 * Requests that need nothing of JavaScript but to be told where their tensors lie: rows as ids, in one piece or a tensor a table.
 * Places are bytes from where the caller says (the body's start, or that of the memory around it), at any alignment. Dtypes and
 * shapes are checked; lengths, offsets and index values are not, and must be by whoever reads them.
 */

import type { BagsAt, PieceAt } from '../records/record.ts';

export interface NativeUsers {
  /** [U + 1], from 0 to B: where each user's candidates begin; U ≥ 1. */
  readonly starts: Int32Array;
  /** Fu: the first of the model's dense features. */
  readonly denseFeatures: number;
  /** float32 [U, Fu]; any number where that is empty. */
  readonly denseAt: number;
}

/** A request as places. */
export interface NativeRequest {
  /** B ≥ 1. */
  readonly samples: number;
  /** float32 [B, F − Fu]; any number where that is empty. */
  readonly denseAt: number;
  /** Undefined: nothing says that samples share a user. */
  readonly users?: NativeUsers;
  /** By table; those that neither stand here nor in a piece have empty bags. */
  readonly tables: readonly (BagsAt | undefined)[];
  readonly pieces: readonly PieceAt[];
}
