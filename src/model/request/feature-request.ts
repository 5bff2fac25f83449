/** Requests made in memory, by the names of a model's features. */
import type { IndexArray } from '../../embedding/bag.ts';
import type { Ids } from './id-mapping.ts';

/** The lookups of one feature. Without `lengths` and `offsets`: one for each sample. */
export interface FeatureLookups {
  /** [lookups], ids as the feature's. */
  readonly values: Ids;
  /** [B], lookups of each sample. */
  readonly lengths?: IndexArray | readonly number[];
  /** [B] or [B + 1], where each sample's lookups begin. */
  readonly offsets?: IndexArray | readonly number[];
  /** [lookups]. */
  readonly weights?: Float32Array | readonly number[];
}

/** What samples have, or users. */
export interface FeaturePart {
  /** [B, F] as the model takes them; or by name, each [B], raw: they are preprocessed. */
  readonly dense?: Float32Array | Readonly<Record<string, ArrayLike<number>>>;
  /** By name. A feature that is not there is missing in every sample. */
  readonly features?: Readonly<Record<string, FeatureLookups>>;
}

/** A request by feature: B samples, or B candidates of U users. */
export interface FeatureRequest extends FeaturePart {
  /** What all candidates of a user have in common: U instead of B. Its dense numbers go before the candidates'. */
  readonly user?: FeaturePart;
  /** [U], candidates of each user; undefined: all are of one. */
  readonly users?: IndexArray | readonly number[];
}
