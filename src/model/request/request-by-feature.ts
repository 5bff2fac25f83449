/** From a request by the names of a model's features to one that the model takes. */
import type { IndexArray } from '../../embedding/bag.ts';
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import { modelInputs } from '../check-inputs.ts';
import type { ModelInputs } from '../inputs.ts';
import { bindRequest } from './bind-request.ts';
import { checkFeatureRequest } from './check-feature-request.ts';
import type { FeatureLookups, FeaturePart, FeatureRequest } from './feature-request.ts';
import { integers } from './id-mapping.ts';
import type { DlrmRequest } from './request.ts';
import type { BagBounds, DenseRows, Lookups, RawColumn, RequestPart, RequestParts } from './request-parts.ts';

/**
 * The request that `given` is to a model with `inputs`: ids become rows, raw numbers are preprocessed. Arrays that need no
 * mapping are used as they are.
 * @throws RequestError; WorkloadError VOCABULARY_INVALID; UsageError OPTION_INVALID.
 */
export async function requestByFeature(inputs: ModelInputs, given: FeatureRequest): Promise<DlrmRequest> {
  return boundByFeature(modelInputs(inputs, 'requestByFeature: inputs'), given);
}

/** As requestByFeature, to a model whose inputs were checked. */
export async function boundByFeature(inputs: ModelInputs, given: FeatureRequest): Promise<DlrmRequest> {
  return bindRequest(partsByFeature(inputs, checkFeatureRequest(given, 'request')), inputs);
}

/** The parts of a request by feature. @throws RequestError TENSOR_DTYPE, TENSOR_SHAPE. */
export function partsByFeature(
  inputs: ModelInputs,
  { user, users, ...samples }: FeatureRequest,
): RequestParts {
  const counts = users === undefined ? undefined : integersOf(users, 'users');
  const common = user && partOf(user, 'user.', (length) => widthOf(length, counts?.length ?? 1));
  const own = partOf(samples, '', () => inputs.dense.length - (common?.dense?.width ?? 0));
  return {
    samples: own,
    ...(common === undefined ? {} : { user: common }),
    ...(counts === undefined ? {} : { users: counts }),
  };
}

/** Dense numbers of each of `rows` users. */
function widthOf(length: number, rows: number): number {
  return rows === 0 ? 0 : length / rows;
}

function partOf(
  { dense, features = {} }: FeaturePart,
  prefix: RequestPart['prefix'],
  denseWidth: (length: number) => number,
): RequestPart {
  const whole =
    dense instanceof Float32Array ? denseRows(dense, denseWidth(dense.length), prefix) : undefined;
  const named = dense instanceof Float32Array ? {} : (dense ?? {});
  return {
    prefix,
    denseByName: new Map(
      Object.entries(named).map(([name, values]) => [name, rawColumn(values, `${prefix}dense.${name}`)]),
    ),
    lookups: Object.entries(features).map(([name, lookups]) => lookupsOf(name, lookups, prefix)),
    ...(whole === undefined ? {} : { dense: whole }),
  };
}

function denseRows(data: Float32Array, width: number, prefix: string): DenseRows {
  const rows = width === 0 ? 0 : data.length / width;
  if (Number.isInteger(width) && width >= 0 && Number.isInteger(rows) && rows * width === data.length)
    return { data, rows, width };
  const message =
    prefix === ''
      ? `dense has ${data.length} numbers, no multiple of the ${width} that the model takes of a sample`
      : `user.dense has ${data.length} numbers, not as many for each user`;
  return fail('TENSOR_SHAPE', `${prefix}dense`, message);
}

function rawColumn(values: ArrayLike<number>, tensor: string): RawColumn {
  if (values instanceof Float32Array || values instanceof Float64Array) return values;
  return Float64Array.from(values, (value, i) =>
    typeof value === 'number' ? value : fail('TENSOR_DTYPE', tensor, `${tensor}[${i}] is no number`),
  );
}

function lookupsOf(name: string, given: FeatureLookups, prefix: string): Lookups {
  const { values, lengths, offsets, weights } = given;
  const base = `${prefix}features.${name}`;
  const bounds = `${base}.${offsets === undefined ? 'lengths' : 'offsets'}`;
  const names = { values: base, bounds, weights: `${base}.weights` };
  if (!Array.isArray(values) && !ArrayBuffer.isView(values))
    fail('TENSOR_DTYPE', base, `${base} has no array of values`);
  if (lengths !== undefined && offsets !== undefined)
    fail('TENSOR_UNEXPECTED', bounds, `${base} has lengths and offsets; one of them says it all`);
  if (weights !== undefined && weights.length !== values.length)
    fail(
      'TENSOR_SHAPE',
      names.weights,
      `${names.weights} has ${weights.length} weights for ${values.length} lookups`,
    );
  return {
    feature: name,
    kind: 'ids',
    values,
    bounds: boundsOf(values.length, lengths, offsets, bounds),
    names,
    ...(weights === undefined
      ? {}
      : { weights: weights instanceof Float32Array ? weights : Float32Array.from(weights) }),
  };
}

function boundsOf(
  lookups: number,
  lengths: FeatureLookups['lengths'],
  offsets: FeatureLookups['offsets'],
  tensor: string,
): BagBounds {
  if (offsets !== undefined) return { kind: 'offsets', offsets: integersOf(offsets, tensor) };
  if (lengths !== undefined) return { kind: 'lengths', lengths: integersOf(lengths, tensor) };
  return { kind: 'fixed', bags: lookups, length: 1 };
}

function integersOf(values: IndexArray | readonly number[], tensor: string): IndexArray {
  return integers(values, (message, i) => fail('TENSOR_DTYPE', tensor, `${tensor}[${i}]: ${message}`));
}

function fail(code: RequestErrorCode, tensor: string, message: string): never {
  throw new RequestError(code, message, { tensor });
}
