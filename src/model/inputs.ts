/** What a model's raw inputs mean: features by name, their ids, and dense numbers before preprocessing. */
import { listOf, text, whole } from '../checks/value.ts';

/** Hashes that ids may be turned into rows by. */
export const ID_HASHES = ['modulo', 'xxhash64', 'murmur3_32'] as const;
export type IdHash = (typeof ID_HASHES)[number];

/** How an id of a feature becomes a row of its table. */
export type IdRule =
  /** Ids are rows. */
  | { readonly kind: 'rows' }
  /** The place of an id in the list is its row; integers or strings, not both. */
  | { readonly kind: 'vocabulary'; readonly values: readonly string[] | readonly number[] }
  /** row = hash(id, seed) mod modulus. */
  | { readonly kind: 'hash'; readonly hash: IdHash; readonly seed: number; readonly modulus: number };

/** What an id outside the vocabulary, or the rows, becomes. */
export type UnknownId = 'error' | 'skip' | { readonly row: number };

/** What a sample without the feature gets; `ids` as the feature's ids are. */
export type MissingFeature = 'empty' | 'error' | { readonly ids: readonly string[] | readonly number[] };

/** A sparse feature. */
export interface FeatureInput {
  readonly name: string;
  /** The table that it reads, where that has a name of its own. */
  readonly table?: string;
  readonly ids: IdRule;
  readonly unknown: UnknownId;
  readonly missing: MissingFeature;
  /** Whether each lookup brings a weight; undefined: it may. */
  readonly weighted?: boolean;
  /** The most lookups of a bag. */
  readonly longestBag?: number;
}

/** What a raw number becomes before the bottom MLP; a missing one counts as 0. */
export const PREPROCESSING = Object.freeze(['none', 'log(1 + max(x, 0))', 'log(x + 3)'] as const);
export type Preprocessing = (typeof PREPROCESSING)[number];

/** A dense feature. */
export interface DenseInput {
  readonly name: string;
  /** Default: nothing says it; values are taken as they are. */
  readonly preprocessing?: Preprocessing;
}

/** The inputs of a model. */
export interface ModelInputs {
  /** In the order of the architecture's tables. */
  readonly features: readonly FeatureInput[];
  /** In the order of the bottom MLP's inputs. */
  readonly dense: readonly DenseInput[];
}

/** The most dense features that are named. */
const MOST_DENSE = 2 ** 20;

/**
 * Inputs of a model that says nothing of them: ids are rows, numbers `dense_0` … are as the model takes them; a missing
 * feature is refused.
 * @throws UsageError OPTION_INVALID.
 */
export function defaultInputs(features: readonly string[], denseFeatures: number): ModelInputs {
  const names = listOf(text)(features, 'defaultInputs: features');
  const width = whole(0, MOST_DENSE)(denseFeatures, 'defaultInputs: denseFeatures');
  return {
    features: names.map((name) => ({ name, ids: { kind: 'rows' }, unknown: 'error', missing: 'error' })),
    dense: Array.from({ length: width }, (_, i) => ({ name: `dense_${i}` })),
  };
}
