/**
 * What stands in a request, before it is known what it means to a model: tensors by table number, stacked, or by
 * feature. docs/requests.md lists the forms. `bindRequest` gives them their meaning.
 */
import type { IndexArray } from '../../embedding/bag.ts';
import type { Ids } from './id-mapping.ts';

/** Where the bags of one feature begin and end in its values. */
export type BagBounds =
  /** [bags] or [bags + 1]: starts, the latter with the end of the last bag. */
  | { readonly kind: 'offsets'; readonly offsets: IndexArray }
  /** [bags]. */
  | { readonly kind: 'lengths'; readonly lengths: IndexArray }
  /** Bags of one length. */
  | { readonly kind: 'fixed'; readonly bags: number; readonly length: number };

/** The tensors of one feature, by the names they have in the request, for messages. */
export interface LookupNames {
  readonly values: string;
  readonly bounds: string;
  readonly weights: string;
}

/** The lookups of one feature. */
export interface Lookups {
  /**
   * The feature's name or its table's number, as it stands there. Of rows, a number is a table's; of ids, it is a feature's
   * name if there is one, else a table's number.
   */
  readonly feature: string;
  /** Rows of the table, or ids as the feature's. */
  readonly kind: 'rows' | 'ids';
  /** [lookups]. */
  readonly values: Ids;
  readonly bounds: BagBounds;
  /** [lookups]. */
  readonly weights?: Float32Array;
  readonly names: LookupNames;
}

/** The lookups of several features in one piece, feature after feature: TorchRec's KeyedJaggedTensor. */
export interface KeyedLookups {
  /** The features in order; undefined: the model's. */
  readonly keys?: readonly string[];
  /** [lookups], ids. */
  readonly values: IndexArray;
  /** [features · bags]. */
  readonly lengths: IndexArray;
  /** How many features the lengths are of, where their shape says it. */
  readonly features?: number;
  /** [lookups]. */
  readonly weights?: Float32Array;
  readonly names: LookupNames;
}

/** Dense features as the model takes them: [rows, width], row-major. */
export interface DenseRows {
  readonly data: Float32Array;
  readonly rows: number;
  readonly width: number;
}

/** Raw values of one dense feature [rows]. */
export type RawColumn = Float32Array | Float64Array;

/** The samples of a request, or its users. */
export interface RequestPart {
  readonly dense?: DenseRows;
  /** Raw dense features by name. */
  readonly denseByName: ReadonlyMap<string, RawColumn>;
  readonly lookups: readonly Lookups[];
  readonly keyed?: KeyedLookups;
  /** What goes before the names of the part's tensors. */
  readonly prefix: '' | 'user.';
}

/** A request. */
export interface RequestParts {
  /** Every sample; where there is a user's part, what candidates have of their own. */
  readonly samples: RequestPart;
  /** What all candidates of a user have in common. */
  readonly user?: RequestPart;
  /** [U] counts of candidates, or [U + 1] starts from 0. Undefined: one user. */
  readonly users?: IndexArray;
}
