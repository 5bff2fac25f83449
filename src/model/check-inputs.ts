/** Inputs of models, as callers give them. Vocabularies are checked when they are opened, once. */
import {
  type Check,
  deepFrozen,
  flag,
  isRecord,
  kindsOf,
  listOf,
  membersOf,
  oneOf,
  optional,
  refuseOption,
  text,
  whole,
} from '../checks/value.ts';
import {
  type DenseInput,
  type FeatureInput,
  ID_HASHES,
  type IdRule,
  type MissingFeature,
  type ModelInputs,
  PREPROCESSING,
  type UnknownId,
} from './inputs.ts';

/** Ids of a vocabulary or a default: strings and numbers; whether they go together is checked when they are opened. */
const ids = listOf<string | number>((value, at) =>
  typeof value === 'string' || typeof value === 'number'
    ? value
    : refuseOption(at, value, 'a string or a number'),
) as Check<readonly never[]>;

const idRule = kindsOf<IdRule['kind'], IdRule>('kind', {
  rows: membersOf<Extract<IdRule, { kind: 'rows' }>>({ kind: oneOf(['rows']) }),
  vocabulary: membersOf<Extract<IdRule, { kind: 'vocabulary' }>>({
    kind: oneOf(['vocabulary']),
    values: ids,
  }),
  hash: membersOf<Extract<IdRule, { kind: 'hash' }>>({
    kind: oneOf(['hash']),
    hash: oneOf(ID_HASHES),
    seed: whole(0, 2 ** 32 - 1),
    modulus: whole(1, 2 ** 31 - 1),
  }),
});

const unknownId: Check<UnknownId> = (value, at) =>
  isRecord(value)
    ? membersOf<{ readonly row: number }>({ row: whole() })(value, at)
    : oneOf(['error', 'skip'])(value, at);

const missing: Check<MissingFeature> = (value, at) =>
  isRecord(value)
    ? membersOf<{ readonly ids: readonly never[] }>({ ids })(value, at)
    : oneOf(['empty', 'error'])(value, at);

const feature = membersOf<FeatureInput>({
  name: text,
  table: optional(text),
  ids: idRule,
  unknown: unknownId,
  missing,
  weighted: optional(flag),
  longestBag: optional(whole()),
});

const dense = membersOf<DenseInput>({ name: text, preprocessing: optional(oneOf(PREPROCESSING)) });

const inputs = membersOf<ModelInputs>({ features: listOf(feature), dense: listOf(dense) });

/** What objects of callers are as inputs, and those themselves. */
const known = new WeakMap<object, ModelInputs>();

/**
 * The inputs that a value is, a copy; always the same one of the same object, by which what was made of its vocabularies is known
 * again.
 */
export const modelInputs: Check<ModelInputs> = (value, at) => {
  const before = typeof value === 'object' && value !== null ? known.get(value) : undefined;
  if (before !== undefined) return before;
  const own = deepFrozen(inputs(value, at));
  known.set(value as object, own);
  known.set(own, own);
  return own;
};
