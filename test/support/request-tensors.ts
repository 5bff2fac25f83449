/** Tensors by hand, and requests written and read. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bags } from '../../src/embedding/bag.ts';
import { RequestError } from '../../src/errors.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import type { FeatureInput, ModelInputs } from '../../src/model/inputs.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import { readRequest } from '../../src/model/request/safetensors-request.ts';
import { elementCount, type HostTensor } from '../../src/tensor.ts';

export type Tensors = Record<string, HostTensor>;

const folder = mkdtempSync(join(tmpdir(), 'hotrow-request-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

export const f32 = (shape: number[], values?: number[]): HostTensor => ({
  dtype: 'float32',
  shape,
  data: values ? Float32Array.from(values) : new Float32Array(elementCount(shape)),
});
export const i64 = (shape: number[], values?: (number | bigint)[]): HostTensor => ({
  dtype: 'int64',
  shape,
  data: values ? BigInt64Array.from(values, BigInt) : new BigInt64Array(elementCount(shape)),
});
export const i32 = (shape: number[], values?: number[]): HostTensor => ({
  dtype: 'int32',
  shape,
  data: values ? Int32Array.from(values) : new Int32Array(elementCount(shape)),
});

export async function requestFile(
  tensors: Tensors,
  metadata: Readonly<Record<string, string>> = {},
): Promise<string> {
  const path = join(folder, 'request.safetensors');
  await writeSafetensors(path, new Map(Object.entries(tensors)), metadata);
  return path;
}

export async function readTensors(
  tensors: Tensors,
  inputs?: ModelInputs,
  metadata?: Readonly<Record<string, string>>,
): Promise<DlrmRequest> {
  return readRequest(await requestFile(tensors, metadata), inputs);
}

/** A feature whose ids are rows and that may be missing, but for what `rules` says. */
export const feature = (name: string, rules: Partial<FeatureInput> = {}): FeatureInput => ({
  name,
  ids: { kind: 'rows' },
  unknown: 'error',
  missing: 'error',
  ...rules,
});

/** Inputs of these features and dense names, as the model takes the latter. */
export const inputsOf = (features: readonly FeatureInput[], dense: readonly string[]): ModelInputs => ({
  features,
  dense: dense.map((name) => ({ name, preprocessing: 'none' })),
});

/** Lookups of each bag; offsets of [B] or [B + 1] and either width give the same. */
export function bagLists({ indices, offsets, weights }: Bags, bags: number): unknown[] {
  return Array.from({ length: bags }, (_, b) => {
    const [begin, end] = [Number(offsets[b]), Number(offsets[b + 1] ?? indices.length)];
    const rows = Array.from(indices.slice(begin, end), Number);
    return weights === undefined ? rows : { rows, weights: Array.from(weights.slice(begin, end)) };
  });
}

/** A request as lists, with a user's bags given to each of the candidates. */
export function expanded({ batchSize, dense, denseFeatures, bags, users }: DlrmRequest) {
  const candidates = Array.from(users?.subarray(1) ?? [], (end, u) => end - (users?.[u] as number));
  return {
    dense: Array.from({ length: batchSize }, (_, b) =>
      Array.from(dense.slice(b * denseFeatures, (b + 1) * denseFeatures)),
    ),
    bags: bags.map((own) =>
      own.perUser === true
        ? bagLists(own, candidates.length).flatMap((bag, u) => new Array(candidates[u]).fill(bag))
        : bagLists(own, batchSize),
    ),
  };
}

/** Asserts that a request is refused, with this code, and what the details say. */
export async function refuses(
  request: Promise<unknown>,
  code: string,
  details: Readonly<Record<string, unknown>> = {},
): Promise<RequestError> {
  const error = await request.then(
    () => assert.fail('was read'),
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof RequestError, String(error));
  assert.equal(error.code, code, error.message);
  for (const [name, value] of Object.entries(details))
    assert.equal((error.details as Record<string, unknown>)[name], value, `${name}: ${error.message}`);
  assert.ok(error.hint.length > 0);
  return error;
}

export const formInputs = inputsOf([feature('ads'), feature('a.b'), feature('0')], ['x', 'y']);
export const denseRows = f32([3, 2], [1, 2, 3, 4, 5, 6]);

/** For `formInputs`: bags [[1, 2], [], [3]], [[4], [5], [6]], [[], [7, 8, 9], []]. */
export const plainRequest: Tensors = {
  dense: denseRows,
  'indices.0': i64([3], [1, 2, 3]),
  'offsets.0': i64([3], [0, 2, 2]),
  'indices.1': i64([3], [4, 5, 6]),
  'offsets.1': i64([3], [0, 1, 2]),
  'indices.2': i64([3], [7, 8, 9]),
  'offsets.2': i64([3], [0, 0, 3]),
};
export const weightedRequest: Tensors = {
  ...plainRequest,
  'weights.0': f32([3], [0.5, 1, 2]),
  'weights.1': f32([3], [3, 4, 5]),
  'weights.2': f32([3], [6, 7, 8]),
};
/** Of all its bags. */
export const bagLengths = [2, 0, 1, 1, 1, 1, 0, 3, 0];

export const without = (tensors: Tensors, ...names: string[]): Tensors =>
  Object.fromEntries(Object.entries(tensors).filter(([name]) => !names.includes(name)));

/** Asserts that a request says what another says that is read without inputs. */
export async function says(
  tensors: Tensors,
  as: Tensors,
  inputs?: ModelInputs,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const [own, other] = [await readTensors(tensors, inputs, metadata), await readTensors(as)];
  assert.deepEqual(expanded(own), expanded(other));
}
