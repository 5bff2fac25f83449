/** Samples of a JSON request as columns, one per feature. */
import { at } from '../../at.ts';
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import type { FeatureInput, ModelInputs } from '../inputs.ts';
import { shortList } from './bind-dense.ts';
import { TableNumbers } from './feature-names.ts';
import type { FeatureLookups, FeaturePart, FeatureRequest } from './feature-request.ts';
import type { JsonLookups, JsonSample, JsonSamples } from './json-samples.ts';

/** @throws RequestError naming the sample: FEATURE_UNKNOWN, TABLE_*, TENSOR_*. */
export function featureRequest({ user, samples }: JsonSamples, inputs: ModelInputs): FeatureRequest {
  const names = inputs.dense.map(({ name }) => name);
  if (user === undefined) return columnsOf(samples, names, inputs, false);
  const named = user.dense !== undefined && !isList(user.dense);
  const common = commonNames(user.dense, names);
  const rest = names.filter((name) => !common.includes(name));
  return {
    user: columnsOf([user], common, inputs, named),
    users: [samples.length],
    ...columnsOf(samples, rest, inputs, named),
  };
}

/** The dense features that the user brings. */
function commonNames(dense: JsonSample['dense'], names: readonly string[]): readonly string[] {
  if (dense === undefined) return [];
  return isList(dense) ? names.slice(0, dense.length) : names.filter((name) => dense.has(name));
}

/** `names`: the dense features that each sample has. `named`: they go by name where no sample says so. */
function columnsOf(
  samples: readonly JsonSample[],
  names: readonly string[],
  inputs: ModelInputs,
  named: boolean,
): FeaturePart {
  const features = Object.fromEntries(featureColumns(samples, inputs));
  const first = samples.find(({ dense }) => dense !== undefined)?.dense;
  if (first === undefined && names.length === 0) return { features };
  const byName = first === undefined ? named : !isList(first);
  return { dense: byName ? namedColumns(samples, names) : denseRows(samples, names), features };
}

/** [samples, names]. */
function denseRows(samples: readonly JsonSample[], names: readonly string[]): Float32Array {
  const rows = new Float32Array(samples.length * names.length);
  samples.forEach((sample, b) => {
    const { dense } = sample;
    if (dense === undefined) fail(sample, 'TENSOR_MISSING', 'dense', 'dense is missing');
    if (!isList(dense)) fail(sample, 'TENSOR_UNEXPECTED', 'dense', 'dense goes by name, before it is a list');
    const { length } = dense;
    if (length !== names.length)
      fail(sample, 'TENSOR_SHAPE', 'dense', `dense has ${length} numbers, expected ${names.length}`);
    rows.set(dense, b * names.length);
  });
  return rows;
}

/** Each name [samples], raw; what is missing counts as 0. */
function namedColumns(
  samples: readonly JsonSample[],
  names: readonly string[],
): Record<string, Float64Array> {
  const columns = new Map(names.map((name) => [name, new Float64Array(samples.length)]));
  samples.forEach((sample, b) => {
    const { dense = new Map<string, number | null>() } = sample;
    if (isList(dense)) fail(sample, 'TENSOR_UNEXPECTED', 'dense', 'dense is a list, before it goes by name');
    for (const [name, value] of dense) {
      const column = columns.get(name);
      const what = `dense.${name.slice(0, 40)}`;
      if (column === undefined)
        fail(sample, 'FEATURE_UNKNOWN', what, `${what} has no place`, `expected are ${shortList(names)}`);
      column[b] = value ?? 0;
    }
    const missing = names.find((name) => !dense.has(name));
    if (missing === undefined) return;
    const hint = 'give null for a number that is not known: it counts as 0';
    fail(sample, 'TENSOR_MISSING', `dense.${missing}`, `dense feature ${missing} is missing`, hint);
  });
  return Object.fromEntries(columns);
}

function isList(dense: NonNullable<JsonSample['dense']>): dense is readonly number[] {
  return Array.isArray(dense);
}

/** The features that any of the samples has, with what the others get. */
function featureColumns(
  samples: readonly JsonSample[],
  { features }: ModelInputs,
): [string, FeatureLookups][] {
  const tables = new TableNumbers(features);
  const columns = new Map<number, (JsonLookups | undefined)[]>();
  samples.forEach((sample, b) => {
    for (const [key, lookups] of sample.features) {
      const table = tables.of(key, 'ids', `${sample.name}, features`, { sample: b });
      const column = columns.get(table) ?? new Array<JsonLookups | undefined>(samples.length);
      columns.set(table, column);
      const { name } = at(features, table);
      if (column[b] !== undefined)
        fail(sample, 'TENSOR_UNEXPECTED', `features.${name}`, `feature ${name} stands there twice`);
      column[b] = lookups;
    }
  });
  return [...columns].map(([table, column]) => {
    const feature = at(features, table);
    return [feature.name, lookupsOf(feature, table, column, samples)];
  });
}

function lookupsOf(
  feature: FeatureInput,
  table: number,
  column: readonly (JsonLookups | undefined)[],
  samples: readonly JsonSample[],
): FeatureLookups {
  const { name } = feature;
  const tensor = `features.${name}`;
  const weighted = column.some((lookups) => lookups?.weights !== undefined);
  const values: (number | string)[] = [];
  const allWeights: number[] = [];
  const lengths = samples.map((sample, b) => {
    const { ids, weights } = column[b] ?? missingLookups(feature, table, sample, weighted);
    for (const id of ids) values.push(id);
    if (weights !== undefined && weights.length !== ids.length)
      fail(
        sample,
        'TENSOR_SHAPE',
        tensor,
        `feature ${name}: ${weights.length} weights for ${ids.length} ids`,
      );
    if (weighted && weights === undefined && ids.length > 0)
      fail(sample, 'TENSOR_MISSING', tensor, `feature ${name} has no weights, in other samples it has`);
    for (const weight of weights ?? []) allWeights.push(weight);
    return ids.length;
  });
  return { values, lengths, ...(weighted ? { weights: allWeights } : {}) };
}

/** What a sample gets of a feature that only others have; default ids weigh 1. */
function missingLookups(
  { name, missing }: FeatureInput,
  table: number,
  sample: JsonSample,
  weighted: boolean,
): JsonLookups {
  if (missing === 'error') {
    const message = `feature ${name} (table ${table}) is missing`;
    return fail(sample, 'TABLE_MISSING', `features.${name}`, message, 'other samples have it');
  }
  const ids = missing === 'empty' ? [] : missing.ids;
  return weighted ? { ids, weights: ids.map(() => 1) } : { ids };
}

function fail(
  { name, number }: JsonSample,
  code: RequestErrorCode,
  tensor: string,
  message: string,
  hint?: string,
): never {
  const details = { sample: number, tensor, ...(hint === undefined ? {} : { hint }) };
  throw new RequestError(code, `${name}: ${message}`, details);
}
