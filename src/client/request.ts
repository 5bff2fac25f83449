/** Requests as callers say them, by feature, and the tensors of the protocol that say the same. */
import { UsageError } from '../errors.ts';
import type { RequestTensor, RequestTensors } from './tensors.ts';

/** Ids of a feature: rows, numbers to hash, or strings of a vocabulary. Integers beyond 2^53 are bigints. */
export type Ids = Int32Array | BigInt64Array | readonly number[] | readonly bigint[] | readonly string[];

/** A feature's bags: a bag of ids a sample, ragged or empty. */
export type FeatureBags =
  | {
      /** Bag after bag. */
      readonly values: Ids;
      /** [B]: ids of each bag. */
      readonly lengths: Int32Array | readonly number[];
      /** As many as values. */
      readonly weights?: Float32Array | readonly number[];
    }
  /** A list a sample. */
  | readonly Ids[];

/** Features of samples, or of users. */
export interface RequestPart {
  /** [B, F], row-major, as the model takes them; or [B] by the name of each, raw. */
  readonly dense?:
    | Float32Array
    | readonly number[]
    | Readonly<Record<string, Float32Array | Float64Array | readonly number[]>>;
  /** By the names of the model's inputs. */
  readonly features?: Readonly<Record<string, FeatureBags>>;
}

/** A batch of samples; or with `user`, candidates of one user or of several. */
export interface FeatureRequest extends RequestPart {
  /** Samples; only where there are no features to tell. */
  readonly batchSize?: number;
  /** What all candidates of a user share, said once: a bag, and numbers, for each user. */
  readonly user?: RequestPart;
  /** [U]: candidates of each user, who stand one after the other. Default: all are of one user. */
  readonly users?: Int32Array | readonly number[];
}

/** Samples as docs/requests.md writes them in JSON. */
export type JsonRequest =
  | { readonly samples: readonly object[] }
  | { readonly user: object; readonly candidates: readonly object[] };

/** Tensors, and the parameters that they need. */
export interface TensorsOf {
  readonly tensors: RequestTensors;
  readonly parameters: Readonly<Record<string, string>>;
}

/** @throws UsageError OPTION_INVALID for what is no request. What a model does not take, its server says. */
export function tensorsOf(request: FeatureRequest): TensorsOf {
  const { user, users, batchSize } = request;
  const tensors: Record<string, RequestTensor> = {};
  const parameters: Record<string, string> = {};
  const parts = [partOf('', request, batchSize ?? countOf(request))];
  if (user !== undefined) {
    const counts = users === undefined ? undefined : int32(users, 'users');
    parts.push(partOf('user.', user, counts?.length ?? 1));
    if (counts !== undefined) tensors.users = { shape: [counts.length], data: counts };
  } else if (users !== undefined) throw invalid('users counts candidates, and there is no user');
  const isInOnePiece = parts.every(isOneTensor);
  for (const { prefix, dense, bags } of parts) {
    for (const [name, tensor] of dense) tensors[name] = tensor;
    if (bags.length === 0) continue;
    if (isInOnePiece) addInOnePiece(tensors, parameters, prefix, bags);
    else for (const own of bags) addByFeature(tensors, prefix, own);
  }
  return { tensors, parameters };
}

/** What is under one prefix. */
interface Part {
  readonly prefix: '' | 'user.';
  readonly dense: readonly (readonly [string, RequestTensor])[];
  readonly bags: readonly FlatBags[];
}

/** Whether one tensor can hold the values of all features, and one the weights. */
function isOneTensor({ bags }: Part): boolean {
  const weighted = bags.filter(({ weights }) => weights !== undefined).length;
  return (
    (weighted === 0 || weighted === bags.length) && bags.every(({ values }) => ArrayBuffer.isView(values))
  );
}

/** Samples of a part, by its features or its numbers by name. */
function countOf({ features, dense }: RequestPart): number {
  const [bags] = Object.values(features ?? {});
  if (bags !== undefined) return 'lengths' in bags ? bags.lengths.length : bags.length;
  if (dense !== undefined && !isNumbers(dense)) {
    const [numbers] = Object.values(dense);
    if (numbers !== undefined) return numbers.length;
  }
  throw invalid('nothing says how many samples there are: give batchSize');
}

/** @throws UsageError OPTION_INVALID. */
function partOf(prefix: Part['prefix'], { dense, features = {} }: RequestPart, count: number): Part {
  return {
    prefix,
    dense: dense === undefined ? [] : denseOf(`${prefix}dense`, dense, count),
    bags: Object.entries(features).map(([name, bags]) => flatBags(`${prefix}${name}`, name, bags, count)),
  };
}

/** @throws UsageError OPTION_INVALID. */
function denseOf(name: string, dense: NonNullable<RequestPart['dense']>, count: number): Part['dense'] {
  if (isNumbers(dense)) {
    const columns = count === 0 ? 0 : dense.length / count;
    if (!Number.isInteger(columns)) throw invalid(`${name} has ${dense.length} numbers for ${count} rows`);
    return [[name, { shape: [count, columns], data: float32(dense) }]];
  }
  return Object.entries(dense).map(([own, numbers]) => [
    `${name}.${own}`,
    { shape: [numbers.length], data: ArrayBuffer.isView(numbers) ? numbers : Float64Array.from(numbers) },
  ]);
}

/** A feature's bags, one after the other. */
interface FlatBags {
  readonly name: string;
  readonly values: Int32Array | BigInt64Array | readonly string[];
  readonly lengths: Int32Array;
  readonly weights: Float32Array | undefined;
}

function addByFeature(
  tensors: Record<string, RequestTensor>,
  prefix: string,
  { name, values, lengths, weights }: FlatBags,
): void {
  tensors[`${prefix}values.${name}`] = { shape: [values.length], data: values };
  tensors[`${prefix}lengths.${name}`] = { shape: [lengths.length], data: lengths };
  if (weights !== undefined) tensors[`${prefix}weights.${name}`] = { shape: [weights.length], data: weights };
}

/** What servers read fastest: all features' values behind each other. */
function addInOnePiece(
  tensors: Record<string, RequestTensor>,
  parameters: Record<string, string>,
  prefix: string,
  bags: readonly FlatBags[],
): void {
  const all = bags.map(({ values }) => values as Int32Array | BigInt64Array);
  const count = all.reduce((sum, { length }) => sum + length, 0);
  const values = all.some((own) => own instanceof BigInt64Array)
    ? joined(
        new BigInt64Array(count),
        all.map((own) => (own instanceof BigInt64Array ? own : BigInt64Array.from(own, BigInt))),
      )
    : joined(new Int32Array(count), all as Int32Array[]);
  const [{ lengths: first }] = bags as readonly [FlatBags];
  const lengths = joined(
    new Int32Array(bags.length * first.length),
    bags.map(({ lengths }) => lengths),
  );
  tensors[`${prefix}values`] = { shape: [count], data: values };
  tensors[`${prefix}lengths`] = { shape: [bags.length, first.length], data: lengths };
  const weights = bags.flatMap(({ weights }) => (weights === undefined ? [] : [weights]));
  if (weights.length > 0)
    tensors[`${prefix}weights`] = { shape: [count], data: joined(new Float32Array(count), weights) };
  parameters[`${prefix}features`] = JSON.stringify(bags.map(({ name }) => name));
}

function joined<T extends Int32Array | Float32Array>(whole: T, parts: readonly T[]): T;
function joined(whole: BigInt64Array, parts: readonly BigInt64Array[]): BigInt64Array;
function joined(
  whole: { set(part: never, place: number): void },
  parts: readonly { readonly length: number }[],
): unknown {
  let place = 0;
  for (const part of parts) {
    whole.set(part as never, place);
    place += part.length;
  }
  return whole;
}

/** @throws UsageError OPTION_INVALID. */
function flatBags(what: string, name: string, bags: FeatureBags, count: number): FlatBags {
  const { values, lengths, weights } = 'lengths' in bags ? bags : listed(bags);
  const [own, counts] = [ids(values, what), int32(lengths, `lengths of ${what}`)];
  if (counts.length !== count) throw invalid(`${what} has ${counts.length} bags, not ${count}`);
  if (weights !== undefined && weights.length !== own.length)
    throw invalid(`${what} has ${weights.length} weights for ${own.length} ids`);
  return {
    name,
    values: own,
    lengths: counts,
    weights: weights === undefined ? undefined : float32(weights),
  };
}

/** Bags, a list each, one after the other. */
function listed(bags: readonly Ids[]): Extract<FeatureBags, { readonly lengths: unknown }> {
  return {
    values: bags.flatMap((bag): (number | bigint | string)[] => [...bag]) as unknown as Ids,
    lengths: Int32Array.from(bags, ({ length }) => length),
  };
}

const INT32_MOST = 2 ** 31 - 1;

/** Numbers in the smallest type that holds them. @throws UsageError OPTION_INVALID. */
function ids(values: Ids, what: string): FlatBags['values'] {
  if (ArrayBuffer.isView(values)) return values;
  const list: readonly (number | bigint | string)[] = values;
  if (list.every((value) => typeof value === 'string')) return list.length === 0 ? new Int32Array() : list;
  if (list.some((value) => typeof value === 'string')) throw invalid(`${what} has strings and numbers`);
  if (
    list.every(
      (value) => typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= INT32_MOST,
    )
  )
    return Int32Array.from(list as readonly number[]);
  return BigInt64Array.from(list as readonly (number | bigint)[], (value) => {
    if (typeof value === 'number' && !Number.isSafeInteger(value))
      throw invalid(`${what} has the id ${value}: ids are integers, and bigints beyond 2^53`);
    const id = BigInt(value);
    if (BigInt.asIntN(64, id) !== id) throw invalid(`${what} has the id ${id}, which int64 cannot hold`);
    return id;
  });
}

function int32(values: Int32Array | readonly number[], what: string): Int32Array {
  if (values instanceof Int32Array) return values;
  const whole = Int32Array.from(values);
  if (values.every((value, i) => value === whole[i])) return whole;
  throw invalid(`${what} are whole numbers`);
}

const float32 = (values: Float32Array | readonly number[]) =>
  values instanceof Float32Array ? values : Float32Array.from(values);

function isNumbers(dense: NonNullable<RequestPart['dense']>): dense is Float32Array | readonly number[] {
  return dense instanceof Float32Array || Array.isArray(dense);
}

function invalid(message: string): UsageError {
  return new UsageError('OPTION_INVALID', message, { hint: 'docs/client.md shows requests' });
}
