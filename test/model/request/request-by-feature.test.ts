/** Requests made in memory. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultInputs, type ModelInputs } from '../../../src/model/inputs.ts';
import type { FeatureRequest } from '../../../src/model/request/feature-request.ts';
import { requestByFeature } from '../../../src/model/request/request-by-feature.ts';
import { expanded, feature, inputsOf, refuses } from '../../support/request-tensors.ts';

const inputs: ModelInputs = {
  ...inputsOf([feature('ads'), feature('user'), feature('rest', { missing: 'empty' })], []),
  dense: [
    { name: 'age', preprocessing: 'log(1 + max(x, 0))' },
    { name: 'price', preprocessing: 'log(x + 3)' },
  ],
};
const ads = { values: [1, 2, 3], lengths: [2, 1] };
const user = { values: Int32Array.of(7), lengths: [0, 1] };

test('dense in one piece, as it is', async () => {
  const dense = Float32Array.of(1, 2, 3, 4);
  const request = await requestByFeature(inputs, { dense, features: { ads, user } });
  assert.equal(request.dense, dense);
  assert.equal(request.users, undefined);
  assert.deepEqual(expanded(request), {
    dense: [
      [1, 2],
      [3, 4],
    ],
    bags: [
      [[1, 2], [3]],
      [[], [7]],
      [[], []],
    ],
  });
});

test('dense by name is preprocessed', async () => {
  const request = await requestByFeature(inputs, {
    dense: { price: [-2, 0], age: Int32Array.of(-1, 1) },
    features: { ads, user },
  });
  assert.deepEqual(request.dense, Float32Array.of(0, 0, Math.log(2), Math.log(3)));
});

test('weights, one lookup a sample', async () => {
  const request = await requestByFeature(inputs, {
    dense: new Float32Array(4),
    features: { ads: { values: [5, 6], weights: [0.5, 2] }, user },
  });
  assert.deepEqual(expanded(request).bags[0], [
    { rows: [5], weights: [0.5] },
    { rows: [6], weights: [2] },
  ]);
});

test('users and candidates', async () => {
  const request = await requestByFeature(inputs, {
    dense: Float32Array.of(1, 2, 3),
    features: { ads: { values: [1, 2, 3] } },
    user: { dense: Float32Array.of(8, 9), features: { user } },
    users: [1, 2],
  });
  assert.deepEqual(request.users, Int32Array.of(0, 1, 3));
  assert.deepEqual(expanded(request), {
    dense: [
      [8, 1],
      [9, 2],
      [9, 3],
    ],
    bags: [
      [[1], [2], [3]],
      [[], [7], [7]],
      [[], [], []],
    ],
  });
});

test('one user, dense by name', async () => {
  const request = await requestByFeature(inputs, {
    dense: { price: [-2, -2] },
    features: { ads },
    user: { dense: { age: [0] }, features: { user: { values: [7] } } },
  });
  assert.deepEqual(expanded(request), {
    dense: [
      [0, 0],
      [0, 0],
    ],
    bags: [
      [[1, 2], [3]],
      [[7], [7]],
      [[], []],
    ],
  });
});

test('default inputs: features are named as the tables', async () => {
  const own = defaultInputs(['emb_l.0', 'emb_l.1'], 1);
  const request = await requestByFeature(own, {
    dense: { dense_0: [0.5, 1] },
    features: { 'emb_l.1': user, 0: ads },
  });
  assert.deepEqual(expanded(request), {
    dense: [[0.5], [1]],
    bags: [
      [[1, 2], [3]],
      [[], [7]],
    ],
  });
});

describe('refused', () => {
  const dense = new Float32Array(4);
  const cases: [string, FeatureRequest, string, string][] = [
    ['no dense', { features: { ads, user } }, 'TENSOR_MISSING', 'dense'],
    [
      'dense of half a sample',
      { dense: new Float32Array(3), features: { ads, user } },
      'TENSOR_SHAPE',
      'dense',
    ],
    [
      'dense of more samples',
      { dense: new Float32Array(6), features: { ads, user } },
      'TENSOR_SHAPE',
      'features.ads.lengths',
    ],
    [
      'dense by name of another batch',
      { dense: { age: [1], price: [1, 2] }, features: { ads, user } },
      'TENSOR_SHAPE',
      'dense.price',
    ],
    [
      'a dense name that is missing',
      { dense: { age: [1, 2] }, features: { ads, user } },
      'TENSOR_MISSING',
      'dense.price',
    ],
    [
      'an unknown dense name',
      { dense: { age: [1, 2], cost: [1, 2] }, features: { ads, user } },
      'FEATURE_UNKNOWN',
      'dense.cost',
    ],
    [
      'a number that is none',
      { dense: { age: [1, null as never], price: [1, 2] }, features: { ads, user } },
      'TENSOR_DTYPE',
      'dense.age',
    ],
    [
      'a number outside the logarithm',
      { dense: { age: [1, 2], price: [1, -3] }, features: { ads, user } },
      'DENSE_OUT_OF_RANGE',
      'dense.price',
    ],
    [
      'an unknown feature',
      { dense, features: { ads, user, constructor: ads } },
      'FEATURE_UNKNOWN',
      'features.constructor',
    ],
    [
      'values that are no array',
      { dense, features: { ads: { values: 5 as never }, user } },
      'TENSOR_DTYPE',
      'features.ads',
    ],
    [
      'lengths of a fraction',
      { dense, features: { ads: { values: [1, 2], lengths: [0.5, 1.5] }, user } },
      'TENSOR_DTYPE',
      'features.ads.lengths',
    ],
    [
      'lengths and offsets',
      { dense, features: { ads: { ...ads, offsets: [0, 2] }, user } },
      'TENSOR_UNEXPECTED',
      'features.ads.offsets',
    ],
    [
      'fewer weights',
      { dense, features: { ads: { ...ads, weights: [1] }, user } },
      'TENSOR_SHAPE',
      'features.ads.weights',
    ],
    [
      'one lookup for two samples',
      { dense, features: { ads: { values: [1] }, user } },
      'TENSOR_SHAPE',
      'features.ads.lengths',
    ],
    [
      'a feature of both',
      { dense, features: { ads }, user: { features: { ads: { values: [1] }, user: { values: [1] } } } },
      'TENSOR_UNEXPECTED',
      'features.ads',
    ],
    [
      "a user's dense of no whole width",
      { dense, features: { ads }, user: { dense: new Float32Array(3) }, users: [1, 1] },
      'TENSOR_SHAPE',
      'user.dense',
    ],
    ['users of more candidates', { dense, features: { ads, user }, users: [1, 2] }, 'USERS_INVALID', 'users'],
  ];
  for (const [what, request, code, tensor] of cases)
    test(`${what}: ${code}`, () =>
      refuses(requestByFeature(inputs, request), code, { tensor }).then(() => {}));
});
