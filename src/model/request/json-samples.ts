/** JSON requests as they are written: their schema, and the samples that a value holds. */
import Type, { type TSchema } from 'typebox';
import { RequestError } from '../../errors.ts';
import { quoted } from './id-mapping.ts';

const id = Type.Union([
  Type.Integer({ minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }),
  Type.String({ description: 'an entry of a vocabulary of strings, or an integer beyond 2^53' }),
]);
const ids = Type.Array(id, { description: 'ids or rows, as the feature takes them' });
const lookups = Type.Union([
  ids,
  Type.Object({ ids, weights: Type.Optional(Type.Array(Type.Number())) }, { additionalProperties: false }),
]);
const sampleSchema = Type.Object(
  {
    dense: Type.Optional(
      Type.Union([
        Type.Array(Type.Number(), { description: 'as the model takes them' }),
        Type.Object(
          {},
          {
            additionalProperties: Type.Union([Type.Number(), Type.Null()]),
            description: 'raw numbers by name, null where one is missing',
          },
        ),
      ]),
    ),
    features: Type.Optional(Type.Object({}, { additionalProperties: lookups, description: 'by name' })),
  },
  { additionalProperties: false, description: 'a sample, a user or a candidate' },
);

/** JSON Schema of requests: one sample, many, or a user and candidates. A line of JSON Lines is one sample. */
export const requestSchema: TSchema = Type.Union(
  [
    sampleSchema,
    Type.Object({ samples: Type.Array(sampleSchema) }, { additionalProperties: false }),
    Type.Object(
      { user: sampleSchema, candidates: Type.Array(sampleSchema) },
      { additionalProperties: false },
    ),
  ],
  { $id: 'hotrow-request-1', title: 'Hotrow request, version 1' },
);

/** The lookups of one feature in one sample. */
export interface JsonLookups {
  readonly ids: readonly (number | string)[];
  /** As many as ids. */
  readonly weights?: readonly number[];
}

/** One sample, user or candidate. */
export interface JsonSample {
  /** How messages call it. */
  readonly name: string;
  /** Its place among the samples. */
  readonly number: number;
  /** As the model takes them, or raw by name; null: missing. */
  readonly dense?: readonly number[] | ReadonlyMap<string, number | null>;
  /** By name. */
  readonly features: ReadonlyMap<string, JsonLookups>;
}

/** What a JSON request holds. */
export interface JsonSamples {
  readonly user?: JsonSample;
  readonly samples: readonly JsonSample[];
}

/** Checks a value against the schema. @throws RequestError REQUEST_INVALID naming sample and place. */
export function parseSamples(value: unknown): JsonSamples {
  const request = object(value, 'the request', '');
  if ('user' in request || 'candidates' in request) {
    onlyKeys(request, ['user', 'candidates'], 'the request', '');
    const candidates = list(request.candidates, 'the request', 'candidates');
    return {
      user: parseSample(request.user, 'the user', 0),
      samples: candidates.map((candidate, b) => parseSample(candidate, `candidate ${b}`, b)),
    };
  }
  if (!('samples' in request)) return { samples: [parseSample(value, 'sample 0', 0)] };
  onlyKeys(request, ['samples'], 'the request', '');
  const samples = list(request.samples, 'the request', 'samples');
  return { samples: samples.map((sample, b) => parseSample(sample, `sample ${b}`, b)) };
}

/** One sample, called `name` in messages, at place `number`. @throws RequestError REQUEST_INVALID. */
export function parseSample(value: unknown, name: string, number: number): JsonSample {
  const sample = object(value, name, '');
  onlyKeys(sample, ['dense', 'features'], name, '');
  const dense = sample.dense === undefined ? undefined : parseDense(sample.dense, name);
  const features = Object.entries(object(sample.features ?? {}, name, 'features'));
  return {
    name,
    number,
    features: new Map(features.map(([feature, given]) => [feature, parseLookups(given, name, feature)])),
    ...(dense === undefined ? {} : { dense }),
  };
}

function parseDense(value: unknown, name: string): NonNullable<JsonSample['dense']> {
  if (Array.isArray(value)) return numbers(value, name, 'dense');
  const entries = Object.entries(object(value, name, 'dense', 'a list or an object of numbers'));
  return new Map(
    entries.map(([key, number]) => [
      key,
      number === null ? null : finite(number, name, `dense.${shown(key)}`),
    ]),
  );
}

function parseLookups(value: unknown, name: string, feature: string): JsonLookups {
  const at = `features.${shown(feature)}`;
  if (Array.isArray(value)) return { ids: parseIds(value, name, at) };
  const given = object(value, name, at, 'a list of ids, or an object with ids and weights');
  onlyKeys(given, ['ids', 'weights'], name, at);
  const all = parseIds(list(given.ids, name, `${at}.ids`), name, `${at}.ids`);
  if (given.weights === undefined) return { ids: all };
  return { ids: all, weights: numbers(list(given.weights, name, `${at}.weights`), name, `${at}.weights`) };
}

function parseIds(values: readonly unknown[], name: string, at: string): readonly (number | string)[] {
  const wrong = values.findIndex((value) => typeof value !== 'string' && !Number.isSafeInteger(value));
  if (wrong >= 0) {
    const hint = 'ids are integers or strings; integers beyond 2^53 are given as strings';
    invalid(name, `${at}[${wrong}]`, `${described(values[wrong])} is no id`, hint);
  }
  return values as readonly (number | string)[];
}

function numbers(values: readonly unknown[], name: string, at: string): readonly number[] {
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) finite(value, name, `${at}[${i}]`);
  });
  return values as readonly number[];
}

function finite(value: unknown, name: string, at: string): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  return invalid(name, at, `${described(value)} is no finite number`);
}

function object(value: unknown, name: string, at: string, expected = 'an object'): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  return invalid(name, at, `${described(value)} is not ${expected}`);
}

function list(value: unknown, name: string, at: string): readonly unknown[] {
  return Array.isArray(value) ? value : invalid(name, at, `${described(value)} is not a list`);
}

function onlyKeys(value: object, known: readonly string[], name: string, at: string): void {
  const other = Object.keys(value).find((key) => !known.includes(key));
  if (other === undefined) return;
  const place = at === '' ? shown(other) : `${at}.${shown(other)}`;
  invalid(name, place, 'this key has no place here', `keys are ${known.join(' and ')}`);
}

/** A key as a message gives it. */
function shown(key: string): string {
  return key.length <= 40 ? key : `${key.slice(0, 40)}…`;
}

/** A value as a message gives it, however large or deep it is. */
function described(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' && value !== null ? 'an object' : quoted(value);
}

function invalid(name: string, at: string, message: string, hint?: string): never {
  const where = at === '' ? name : `${name}, ${at}`;
  throw new RequestError('REQUEST_INVALID', `${where}: ${message}`, {
    ...(at === '' ? {} : { tensor: at }),
    ...(hint === undefined ? {} : { hint }),
  });
}
