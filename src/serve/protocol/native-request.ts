/**
 * Requests that need nothing of JavaScript but to be told where their tensors lie: rows as ids, in one piece or a tensor a table.
 * Places are bytes from where the caller says (the body's start, or that of the memory around it), at any alignment. Dtypes and
 * shapes are checked; lengths, offsets and index values are not, and must be by whoever reads them.
 */

/** Integers from byte `at` on: int32 or int64. */
export interface NativeIntegers {
  readonly at: number;
  readonly int64: boolean;
}

/** Lengths [bags], offsets [bags] or, with the end of the last bag, [bags + 1], or bags of one length. */
export type NativeBounds =
  | ({ readonly kind: 'lengths' } & NativeIntegers)
  | ({ readonly kind: 'offsets'; readonly hasEnd: boolean } & NativeIntegers)
  | { readonly kind: 'even' };

/** The bags of one table. */
export interface NativeBags {
  /** [lookups], rows of the table. */
  readonly indices: NativeIntegers;
  readonly lookups: number;
  readonly bounds: NativeBounds;
  /** float32 [lookups]. */
  readonly weightsAt?: number;
  /** A bag per user, instead of one per sample. */
  readonly perUser: boolean;
}

/** The bags of several tables whose rows are one array: those of the first table, then those of the next. */
export interface NativePiece {
  /** Numbers of tables, each once, in the order of the values. */
  readonly tables: readonly number[];
  /** [lookups], of all tables. */
  readonly values: NativeIntegers;
  readonly lookups: number;
  /** [tables, bags]; they must add up to the lookups. */
  readonly lengths: NativeIntegers;
  /** float32 [lookups]. */
  readonly weightsAt?: number;
  readonly perUser: boolean;
}

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
  readonly tables: readonly (NativeBags | undefined)[];
  readonly pieces: readonly NativePiece[];
}
