/** The dense features of a request's samples, from what samples and users bring. */
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import type { DenseInput } from '../inputs.ts';
import { outsideDomain, preprocess } from './preprocess.ts';
import type { DenseRows, RawColumn, RequestPart, RequestParts } from './request-parts.ts';

/** What is known of the dense features: undefined, nothing. */
export type DenseInputs = readonly DenseInput[] | undefined;

/**
 * [batchSize, F]: a user's numbers, then the sample's own; or each by its name, preprocessed.
 * `userOf` [batchSize]: the user of each sample.
 * @throws RequestError TENSOR_MISSING, TENSOR_SHAPE, TENSOR_UNEXPECTED, FEATURE_UNKNOWN, DENSE_OUT_OF_RANGE.
 */
export function bindDense(
  { samples, user }: RequestParts,
  inputs: DenseInputs,
  batchSize: number,
  userOf: Int32Array | undefined,
  nameOf: (sample: number) => string,
): DenseRows {
  const parts = user === undefined ? [samples] : [user, samples];
  const named = parts.find(({ denseByName }) => denseByName.size > 0);
  if (named === undefined) return concatenated(samples.dense, user?.dense, inputs, batchSize, userOf);
  const [name] = named.denseByName.keys();
  const whole = parts.find(({ dense }) => dense !== undefined);
  if (whole !== undefined) {
    const message = `${whole.prefix}dense stands beside ${named.prefix}dense.${name}`;
    fail(
      'TENSOR_UNEXPECTED',
      `${whole.prefix}dense`,
      message,
      'give all dense features in one piece, or each by its name',
    );
  }
  return byName(parts, inputs ?? [], batchSize, userOf, nameOf);
}

function concatenated(
  own: DenseRows | undefined,
  users: DenseRows | undefined,
  inputs: DenseInputs,
  batchSize: number,
  userOf: Int32Array | undefined,
): DenseRows {
  const width = (users?.width ?? 0) + (own?.width ?? 0);
  if (own === undefined && users === undefined) {
    if (inputs?.length === 0) return { data: new Float32Array(), rows: batchSize, width: 0 };
    fail('TENSOR_MISSING', 'dense', 'tensor dense is missing');
  }
  if (inputs !== undefined && width !== inputs.length) {
    const given =
      users === undefined ? `[${batchSize}, ${width}]` : `${width} columns with those of user.dense`;
    fail('TENSOR_SHAPE', 'dense', `dense has ${given}, the model takes [${batchSize}, ${inputs.length}]`);
  }
  if (users === undefined && own !== undefined) return own;
  const data = new Float32Array(batchSize * width);
  for (const [source, at, rowOf] of [
    [users, 0, userOf],
    [own, users?.width ?? 0, undefined],
  ] as const) {
    if (source === undefined) continue;
    for (let b = 0; b < batchSize; b++) {
      const from = (rowOf === undefined ? b : (rowOf[b] as number)) * source.width;
      data.set(source.data.subarray(from, from + source.width), b * width + at);
    }
  }
  return { data, rows: batchSize, width };
}

function byName(
  parts: readonly RequestPart[],
  inputs: readonly DenseInput[],
  batchSize: number,
  userOf: Int32Array | undefined,
  nameOf: (sample: number) => string,
): DenseRows {
  const names = inputs.map(({ name }) => name);
  const known = new Set(names);
  const given = new Map<string, { readonly column: RawColumn; readonly of: RequestPart }>();
  for (const of of parts) {
    for (const [name, column] of of.denseByName) {
      const tensor = `${of.prefix}dense.${name}`;
      const hint = `dense features are ${shortList(names)}`;
      if (!known.has(name))
        fail('FEATURE_UNKNOWN', tensor, `the model has no dense feature for ${tensor}`, hint);
      if (given.has(name)) fail('TENSOR_UNEXPECTED', tensor, `${tensor} stands beside user.dense.${name}`);
      given.set(name, { column, of });
    }
  }
  const width = inputs.length;
  const data = new Float32Array(batchSize * width);
  inputs.forEach((input, f) => {
    const found = given.get(input.name);
    if (found === undefined)
      fail('TENSOR_MISSING', `dense.${input.name}`, `dense feature ${input.name} is missing`);
    const values = processed(found.column, input, found.of, nameOf);
    const rowOf = found.of.prefix === '' ? undefined : userOf;
    for (let b = 0; b < batchSize; b++)
      data[b * width + f] = values[rowOf === undefined ? b : (rowOf[b] as number)] as number;
  });
  return { data, rows: batchSize, width };
}

/** @throws RequestError DENSE_OUT_OF_RANGE naming the sample. */
function processed(
  column: RawColumn,
  { name, preprocessing = 'none' }: DenseInput,
  { prefix }: RequestPart,
  nameOf: (sample: number) => string,
): Float32Array {
  const sample = column.findIndex((value) => outsideDomain(value, preprocessing));
  if (sample < 0) return preprocess(column, preprocessing);
  const value = column[sample] as number;
  const where = prefix === '' ? nameOf(sample) : `user ${sample}`;
  const details = { tensor: `${prefix}dense.${name}`, feature: name, sample, value };
  const message = `${where}: dense feature ${name}: there is no ${preprocessing} of ${value}`;
  throw new RequestError('DENSE_OUT_OF_RANGE', message, details);
}

/** The first of many names, for a message. */
export function shortList(names: readonly string[]): string {
  return names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')} … (${names.length} in all)`;
}

function fail(code: RequestErrorCode, tensor: string, message: string, hint?: string): never {
  throw new RequestError(code, message, { tensor, ...(hint === undefined ? {} : { hint }) });
}
