/** Gives the parts of a request their meaning to a model: features by number or name, ids, users, missing features. */
import { at } from '../../at.ts';
import type { Bags } from '../../embedding/bag.ts';
import type { FeatureInput, ModelInputs } from '../inputs.ts';
import { type BagsPlace, repeated } from './bag-bounds.ts';
import { bindBags, rejectFeature } from './bind-bags.ts';
import { bindDense } from './bind-dense.ts';
import { allLookups, numberedFeatures, TableNumbers } from './feature-names.ts';
import type { DlrmRequest } from './request.ts';
import type { RequestParts } from './request-parts.ts';
import { sizesOf, usersOfSamples } from './request-sizes.ts';

/**
 * The request that `parts` are to a model with `inputs`. Without: tables go by number, ids and names are refused. Index
 * values are checked when the request runs. `nameOf` says how messages call sample b.
 * @throws RequestError; WorkloadError VOCABULARY_INVALID; UsageError USAGE for a hash that cannot be.
 */
export async function bindRequest(
  parts: RequestParts,
  inputs?: ModelInputs,
  nameOf: (sample: number) => string = (b) => `${parts.user === undefined ? 'sample' : 'candidate'} ${b}`,
): Promise<DlrmRequest> {
  const features = inputs?.features ?? numberedFeatures(parts);
  const { batchSize, users } = sizesOf(parts, features.length, inputs?.dense.length !== 0);
  const userOf = users === undefined ? undefined : usersOfSamples(users);
  const dense = bindDense(parts, inputs?.dense, batchSize, userOf, nameOf);
  const bags = await bindFeatures(parts, features, { batchSize, users, nameOf });
  return {
    batchSize,
    dense: dense.data,
    denseFeatures: dense.width,
    bags,
    ...(users === undefined ? {} : { users }),
  };
}

interface Samples {
  readonly batchSize: number;
  readonly users: Int32Array | undefined;
  readonly nameOf: (sample: number) => string;
}

async function bindFeatures(
  { samples, user }: RequestParts,
  features: readonly FeatureInput[],
  { batchSize, users, nameOf }: Samples,
): Promise<Bags[]> {
  const own = { part: samples, bags: batchSize, nameOf, perUser: false };
  const common = user && {
    part: user,
    bags: (users?.length ?? 1) - 1,
    nameOf: (u: number) => `user ${u}`,
    perUser: true,
  };
  const numbers = new TableNumbers(features);
  const bound = new Map<number, { readonly bags: Bags; readonly tensor: string }>();
  for (const { part, bags, nameOf, perUser } of common === undefined ? [own] : [common, own]) {
    for (const lookups of allLookups(part, features, bags)) {
      const tensor = lookups.names.values;
      const table = numbers.of(lookups.feature, lookups.kind, tensor);
      const place: BagsPlace = { feature: at(features, table), table, bags, nameOf };
      const before = bound.get(table);
      if (before !== undefined) {
        const message = `${tensor} gives it once more, after ${before.tensor}`;
        rejectFeature(place, 'TENSOR_UNEXPECTED', message, { tensor });
      }
      const rows = await bindBags(lookups, place);
      bound.set(table, { bags: perUser ? { ...rows, perUser } : rows, tensor });
    }
  }
  return Promise.all(
    features.map(
      (feature, table) => bound.get(table)?.bags ?? missingBags({ feature, table, bags: batchSize, nameOf }),
    ),
  );
}

/** What samples get of a feature that the request lacks. */
async function missingBags(place: BagsPlace): Promise<Bags> {
  const { feature, table, bags } = place;
  const { name, missing, weighted } = feature;
  const tensor = `indices.${table}`;
  if (missing === 'error' && bags > 0)
    return rejectFeature(place, 'TABLE_MISSING', `table ${table} is missing in the request`, { tensor });
  const values = typeof missing === 'string' ? [] : missing.ids;
  const names = { values: name, bounds: name, weights: name };
  const weights = weighted === true ? { weights: new Float32Array(values.length).fill(1) } : {};
  const bounds = { kind: 'fixed', bags: 1, length: values.length } as const;
  const one = { ...place, bags: 1, nameOf: () => 'what samples without it get' };
  return repeated(
    await bindBags({ feature: name, kind: 'ids', values, bounds, names, ...weights }, one),
    bags,
  );
}
