/** Which table lookups are for: by its number, or by the name of its feature. */
import { type ErrorDetails, RequestError } from '../../errors.ts';
import type { FeatureInput } from '../inputs.ts';
import { runningSums } from './bag-bounds.ts';
import { shortList } from './bind-dense.ts';
import { quoted } from './id-mapping.ts';
import type { KeyedLookups, Lookups, RequestPart, RequestParts } from './request-parts.ts';

/** The table's number that a name is, if it is one. */
function numberOf(name: string): number | undefined {
  return /^(0|[1-9]\d*)$/.test(name) ? Number(name) : undefined;
}

/** The features of a request whose tables go by number, when nothing is known of the model: as many as it has. */
export function numberedFeatures({ samples, user }: RequestParts): FeatureInput[] {
  const parts = user === undefined ? [samples] : [user, samples];
  const tables = new Set<number>();
  for (const { lookups, keyed, denseByName, prefix } of parts) {
    for (const name of denseByName.keys()) refuse(`${prefix}dense.${name}`, 'is a dense feature by its name');
    if (keyed !== undefined) refuse(keyed.names.values, 'holds ids of features');
    for (const { feature, kind, names } of lookups) {
      const number = numberOf(feature);
      if (kind === 'ids') refuse(names.values, 'holds ids of a feature');
      if (number === undefined) refuse(names.values, 'goes by the name of a feature');
      tables.add(number);
    }
  }
  return Array.from(tables, (_, t) => {
    if (!tables.has(t)) {
      const next = [...tables].reduce(
        (least, table) => (table > t ? Math.min(least, table) : least),
        Infinity,
      );
      throw new RequestError('TABLE_MISSING', `table ${t} is missing, while table ${next} is there`, {
        table: t,
        tensor: `indices.${t}`,
      });
    }
    return { name: String(t), ids: { kind: 'rows' }, unknown: 'error', missing: 'error' };
  });
}

function refuse(tensor: string, what: string): never {
  throw new RequestError('TENSOR_UNEXPECTED', `${tensor} ${what}, and the model's inputs are not given`, {
    tensor,
    hint: "tables go by number without the model's inputs: a request holds dense, indices.{t}, offsets.{t} and weights.{t}",
  });
}

/** The tables that lookups are for. */
export class TableNumbers {
  readonly #features: readonly FeatureInput[];
  readonly #byName: ReadonlyMap<string, number>;

  constructor(features: readonly FeatureInput[]) {
    this.#features = features;
    this.#byName = new Map(features.map(({ name }, table) => [name, table]));
  }

  /**
   * The table that a name or a number is for; of a name that is a number, rows go by table, ids by feature first.
   * @throws RequestError TABLE_UNEXPECTED, FEATURE_UNKNOWN, saying what gives it.
   */
  of(feature: string, kind: Lookups['kind'], tensor: string, details: ErrorDetails = {}): number {
    const number = numberOf(feature);
    const named = this.#byName.get(feature);
    const table = kind === 'rows' ? (number ?? named) : (named ?? number);
    if (table === undefined) {
      throw new RequestError('FEATURE_UNKNOWN', `${tensor}: the model has no feature ${quoted(feature)}`, {
        tensor,
        hint: `its features are ${shortList(this.#features.map(({ name }) => name))}`,
        ...details,
      });
    }
    if (table < this.#features.length) return table;
    const message = `${tensor}: table ${table} of a model of ${this.#features.length} tables`;
    throw new RequestError('TABLE_UNEXPECTED', message, { table, tensor, ...details });
  }
}

/** A part's lookups by feature: those that stand alone, and those in one piece. */
export function allLookups(
  { lookups, keyed }: RequestPart,
  features: readonly FeatureInput[],
  bags: number,
): readonly Lookups[] {
  if (keyed === undefined) return lookups;
  keyCount(keyed, features.length);
  return split(keyed, keyed.keys ?? features.map(({ name }) => name), bags);
}

/** How many features lookups in one piece are of. @throws RequestError TENSOR_SHAPE. */
export function keyCount({ keys, features, lengths, names }: KeyedLookups, ofModel: number): number {
  const expected = keys?.length ?? ofModel;
  const given = features ?? expected;
  if (given === expected && (given === 0 ? lengths.length === 0 : lengths.length % given === 0)) return given;
  const whose = keys === undefined ? 'the model has' : 'its metadata names';
  const message =
    features === undefined
      ? `${lengths.length} lengths, which ${expected} features do not share evenly`
      : `lengths of ${features} features, ${whose} ${expected}`;
  throw new RequestError('TENSOR_SHAPE', `${names.bounds} has ${message}`, { tensor: names.bounds });
}

function split(
  { values, lengths, weights, names }: KeyedLookups,
  keys: readonly string[],
  bags: number,
): Lookups[] {
  if (lengths.length !== keys.length * bags) {
    const message = `${names.bounds} has ${lengths.length} lengths for ${keys.length} features and a batch of ${bags}`;
    throw new RequestError('TENSOR_SHAPE', message, { tensor: names.bounds });
  }
  const starts = runningSums(lengths, values.length, names.bounds);
  return keys.map((feature, k) => {
    const [begin, end] = [starts[k * bags], starts[(k + 1) * bags]];
    return {
      feature,
      kind: 'ids',
      values: values.subarray(begin, end),
      bounds: { kind: 'lengths', lengths: lengths.subarray(k * bags, (k + 1) * bags) },
      names,
      ...(weights === undefined ? {} : { weights: weights.subarray(begin, end) }),
    };
  });
}
