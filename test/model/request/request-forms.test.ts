/** Every form of a request says what the plain form says. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ModelInputs } from '../../../src/model/inputs.ts';
import { readRequest } from '../../../src/model/request/safetensors-request.ts';
import {
  denseRows as dense,
  expanded,
  f32,
  feature,
  i32,
  i64,
  formInputs as inputs,
  inputsOf,
  bagLengths as lengths,
  plainRequest as plain,
  readTensors,
  says,
  type Tensors,
  weightedRequest as weighted,
  without,
} from '../../support/request-tensors.ts';

/** Asserts that a form says what the plain form says, or another; null: without inputs. */
const same = (
  tensors: Tensors,
  as: Tensors = plain,
  metadata: Record<string, string> = {},
  own: ModelInputs | null = inputs,
) => says(tensors, as, own ?? undefined, metadata);

describe('by table', () => {
  test('with inputs as without', () => same(plain));
  test('with weights', () => same(weighted, weighted));
  test('lengths', () =>
    same(
      {
        dense,
        'indices.0': i32([3], [1, 2, 3]),
        'lengths.0': i64([3], [2, 0, 1]),
        'indices.1': i64([3], [4, 5, 6]),
        'lengths.1': i32([3], [1, 1, 1]),
        'indices.2': i64([3], [7, 8, 9]),
        'lengths.2': i32([3], [0, 3, 0]),
      },
      plain,
      {},
      null,
    ));
  test('bags of one length', () =>
    same(
      { dense, 'indices.0': i32([3, 2], [1, 2, 3, 4, 5, 6]), 'weights.0': f32([3, 2], [1, 2, 3, 4, 5, 6]) },
      {
        dense,
        'indices.0': i64([6], [1, 2, 3, 4, 5, 6]),
        'offsets.0': i64([3], [0, 2, 4]),
        'weights.0': f32([6], [1, 2, 3, 4, 5, 6]),
      },
      {},
      null,
    ));
  test('stacked, of one length', () =>
    same(
      { dense, indices: i64([2, 3, 1], [1, 2, 3, 4, 5, 6]) },
      { dense, indices: i64([2, 3], [1, 2, 3, 4, 5, 6]), offsets: i64([2, 3], [0, 1, 2, 0, 1, 2]) },
      {},
      null,
    ));
  test('stacked, with lengths', () =>
    same(
      {
        dense,
        indices: i64([3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        lengths: i64([3, 3], lengths),
        weights: f32([3, 3], [0.5, 1, 2, 3, 4, 5, 6, 7, 8]),
      },
      weighted,
    ));
});

describe('in one piece, feature after feature', () => {
  const values = i64([9], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  test('lengths [F, B]', () => same({ dense, values, lengths: i64([3, 3], lengths) }));
  test('lengths [F · B]', () => same({ dense, values, lengths: i32([9], lengths) }));
  test('weights', () =>
    same(
      { dense, values, lengths: i32([9], lengths), weights: f32([9], [0.5, 1, 2, 3, 4, 5, 6, 7, 8]) },
      weighted,
    ));
  test('features in an order of their own', () =>
    same(
      {
        dense,
        values: i64([9], [7, 8, 9, 1, 2, 3, 4, 5, 6]),
        lengths: i64([3, 3], [0, 3, 0, 2, 0, 1, 1, 1, 1]),
      },
      plain,
      { features: '["0", "ads", "a.b"]' },
    ));
  test('features that are not there are missing', () =>
    same(
      { dense, values: i64([3], [4, 5, 6]), lengths: i64([1, 3], [1, 1, 1]) },
      {
        ...plain,
        'indices.0': i64([0]),
        'offsets.0': i64([3]),
        'indices.2': i64([6], [8, 9, 8, 9, 8, 9]),
        'offsets.2': i64([3], [0, 2, 4]),
      },
      { features: '["a.b"]' },
      inputsOf(
        [feature('ads', { missing: 'empty' }), feature('a.b'), feature('0', { missing: { ids: [8, 9] } })],
        ['x', 'y'],
      ),
    ));
});

describe('by feature', () => {
  test('values and lengths', () =>
    same({
      dense,
      'values.ads': i32([3], [1, 2, 3]),
      'lengths.ads': i32([3], [2, 0, 1]),
      'values.a.b': i64([3], [4, 5, 6]),
      'offsets.a.b': i64([4], [0, 1, 2, 3]),
      'values.0': i64([3], [7, 8, 9]),
      'lengths.0': i64([3], [0, 3, 0]),
    }));
  test('indices by name; a number is a table of indices, and a feature of values', () =>
    same({
      dense,
      'indices.0': i32([3], [1, 2, 3]),
      'lengths.0': i32([3], [2, 0, 1]),
      'indices.a.b': i32([3, 1], [4, 5, 6]),
      'values.2': i32([3], [7, 8, 9]),
      'lengths.2': i32([3], [0, 3, 0]),
    }));
  test('weights', () => {
    const byName = { 'values.a.b': i32([3, 1], [4, 5, 6]), 'weights.a.b': f32([3, 1], [3, 4, 5]) };
    return same({ ...without(weighted, 'indices.1', 'offsets.1', 'weights.1'), ...byName }, weighted);
  });
  test('raw dense features', async () => {
    const own: ModelInputs = {
      features: [],
      dense: [
        { name: 'x.1', preprocessing: 'log(1 + max(x, 0))' },
        { name: 'y', preprocessing: 'log(x + 3)' },
        { name: 'z', preprocessing: 'none' },
      ],
    };
    const z = { dtype: 'float64', shape: [2], data: Float64Array.of(0.5, Number.NaN) } as const;
    const request = await readTensors(
      { 'dense.z': z, 'dense.y': i64([2], [0, -2]), 'dense.x.1': f32([2], [-4, 1]) },
      own,
    );
    assert.deepEqual(request, {
      batchSize: 2,
      denseFeatures: 3,
      bags: [],
      dense: Float32Array.of(0, Math.log(3), 0.5, Math.log(2), 0, Number.NaN),
    });
  });
});

describe('made by the Python of docs/requests.md', () => {
  const fixture = (name: string) =>
    fileURLToPath(new URL(`../../fixtures/requests/${name}`, import.meta.url));
  test('from a batch of facebookresearch/dlrm', async () => {
    const request = await readRequest(fixture('dlrm.safetensors'));
    assert.deepEqual(expanded(request), expanded(await readTensors(plain)));
  });
  test('from a batch of TorchRec', async () => {
    const request = await readRequest(fixture('torchrec.safetensors'), inputs);
    assert.deepEqual(expanded(request), expanded(await readTensors(weighted)));
  });
});
