/** Requests that are refused, in every form. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  denseRows as dense,
  f32,
  i64,
  formInputs as inputs,
  bagLengths as lengths,
  plainRequest as plain,
  readTensors,
  refuses,
  type Tensors,
  without,
} from '../../support/request-tensors.ts';

describe('refused', () => {
  const [values, threes] = [i64([9], [1, 2, 3, 4, 5, 6, 7, 8, 9]), i64([9], lengths)];
  const rest = without(plain, 'indices.0', 'offsets.0');
  const cases: [string, Tensors, string, string, Record<string, string>?][] = [
    ['no lengths in one piece', { dense, values }, 'TENSOR_MISSING', 'lengths'],
    ['offsets in one piece', { dense, values, offsets: i64([10]) }, 'TENSOR_MISSING', 'lengths'],
    [
      'a negative length',
      { dense, values, lengths: i64([9], [2, 0, 1, 1, 1, 1, 0, -1, 4]) },
      'LENGTHS_INVALID',
      'lengths',
    ],
    [
      'lengths of more',
      { dense, values, lengths: i64([9], [2, 0, 1, 1, 1, 1, 0, 3, 1]) },
      'LENGTHS_INVALID',
      'lengths',
    ],
    [
      'lengths of less',
      { dense, values, lengths: i64([9], [2, 0, 1, 1, 1, 1, 0, 2, 0]) },
      'LENGTHS_INVALID',
      'lengths',
    ],
    [
      'a length past 2^53',
      { dense, values, lengths: i64([9], [2n ** 62n, 0, 0, 0, 0, 0, 0, 0, 0]) },
      'LENGTHS_INVALID',
      'lengths',
    ],
    ['lengths of another batch', { dense, values, lengths: i64([12]) }, 'TENSOR_SHAPE', 'lengths'],
    ['lengths of another batch, alone', { values, lengths: i64([10]) }, 'TENSOR_SHAPE', 'lengths'],
    [
      'lengths of other features',
      { dense, values, lengths: i64([1, 9], lengths) },
      'TENSOR_SHAPE',
      'lengths',
    ],
    [
      'lengths of three dimensions',
      { dense, values, lengths: i64([1, 3, 3], lengths) },
      'TENSOR_SHAPE',
      'lengths',
    ],
    ['values of two dimensions', { dense, values: i64([3, 3]), lengths: threes }, 'TENSOR_SHAPE', 'values'],
    ['values of float32', { dense, values: f32([9]), lengths: threes }, 'TENSOR_DTYPE', 'values'],
    ['fewer weights', { dense, values, lengths: threes, weights: f32([8]) }, 'TENSOR_SHAPE', 'weights'],
    [
      'keys that the model lacks',
      { dense, values, lengths: threes },
      'FEATURE_UNKNOWN',
      'values',
      { features: '["ads","a.b","c"]' },
    ],
    [
      'a key twice',
      { dense, values, lengths: threes },
      'TENSOR_UNEXPECTED',
      'values',
      { features: '["ads","a.b","ads"]' },
    ],
    [
      'keys that are no list',
      { dense, values, lengths: threes },
      'REQUEST_INVALID',
      'features',
      { features: '{"ads":1}' },
    ],
    [
      'keys that are no JSON',
      { dense, values, lengths: threes },
      'REQUEST_INVALID',
      'features',
      { features: 'ads' },
    ],
    ['keys of no stack', plain, 'TENSOR_UNEXPECTED', 'features', { features: '["ads"]' }],
    [
      'stacked and by feature',
      { dense, values, lengths: threes, 'values.ads': i64([1]) },
      'TENSOR_UNEXPECTED',
      'values.ads',
    ],
    [
      'stacked indices and values',
      { dense, values, lengths: threes, indices: i64([3, 3]) },
      'TENSOR_UNEXPECTED',
      'values',
    ],
    ['indices and values', { ...plain, 'values.0': i64([3]) }, 'TENSOR_UNEXPECTED', 'values.0'],
    ['offsets and lengths', { ...plain, 'lengths.0': i64([3]) }, 'TENSOR_UNEXPECTED', 'lengths.0'],
    [
      'a feature by number and name',
      { ...plain, 'values.ads': i64([3, 1]) },
      'TENSOR_UNEXPECTED',
      'values.ads',
    ],
    ['a feature that the model lacks', { ...plain, 'values.b': i64([3, 1]) }, 'FEATURE_UNKNOWN', 'values.b'],
    ['a table that the model lacks', { ...plain, 'values.3': i64([3, 1]) }, 'TABLE_UNEXPECTED', 'values.3'],
    [
      'indices of a table that the model lacks',
      { ...plain, 'indices.99999999999999999999': i64([3, 1]) },
      'TABLE_UNEXPECTED',
      'indices.99999999999999999999',
    ],
    ['a feature that is missing', rest, 'TABLE_MISSING', 'indices.0'],
    ['no lengths', { ...rest, 'values.ads': i64([3]) }, 'TENSOR_MISSING', 'lengths.ads'],
    ['lengths alone', { ...plain, 'lengths.ads': i64([3]) }, 'TENSOR_MISSING', 'indices.ads'],
    ['a name without an end', { ...plain, 'values.': i64([3]) }, 'TENSOR_UNEXPECTED', 'values.'],
    [
      'bags of one length with lengths',
      { ...rest, 'values.ads': i64([3, 1]), 'lengths.ads': i64([3]) },
      'TENSOR_SHAPE',
      'values.ads',
    ],
    [
      'bags of one length for another batch',
      { ...rest, 'values.ads': i64([4, 1]) },
      'TENSOR_SHAPE',
      'lengths.ads',
    ],
    [
      'lengths for another batch',
      { ...rest, 'values.ads': i64([3]), 'lengths.ads': i64([4], [1, 1, 1, 0]) },
      'TENSOR_SHAPE',
      'lengths.ads',
    ],
    ['values of three dimensions', { ...rest, 'values.ads': i64([3, 1, 1]) }, 'TENSOR_SHAPE', 'values.ads'],
    [
      'values of uint8',
      { ...rest, 'values.ads': { dtype: 'uint8', shape: [3, 1], data: new Uint8Array(3) } },
      'TENSOR_DTYPE',
      'values.ads',
    ],
    ['stacked indices of four dimensions', { dense, indices: i64([3, 3, 1, 1]) }, 'TENSOR_SHAPE', 'indices'],
    [
      'a stack of too many tables',
      { dense: f32([0, 2]), indices: i64([2 ** 50, 0]), offsets: i64([2 ** 50, 0]) },
      'TENSOR_SHAPE',
      'indices',
    ],
    [
      'more samples than there is data for',
      { 'user.dense': f32([2]), users: i64([1], [2 ** 31 - 1]) },
      'TENSOR_SHAPE',
      'dense',
    ],
    [
      'more bags than there is data for',
      { 'user.dense': f32([2]), 'indices.0': i64([2 ** 40, 0]) },
      'USERS_INVALID',
      'users',
    ],
    ['dense of another width', { ...plain, dense: f32([3, 3]) }, 'TENSOR_SHAPE', 'dense'],
    ['dense whole and by name', { ...plain, 'dense.x': f32([3]) }, 'TENSOR_UNEXPECTED', 'dense'],
    [
      'a dense name that the model lacks',
      { ...without(plain, 'dense'), 'dense.w': f32([3]) },
      'FEATURE_UNKNOWN',
      'dense.w',
    ],
    [
      'a dense name that is missing',
      { ...without(plain, 'dense'), 'dense.x': f32([3]) },
      'TENSOR_MISSING',
      'dense.y',
    ],
    [
      'dense names of several batches',
      { ...without(plain, 'dense'), 'dense.x': f32([3]), 'dense.y': f32([2]) },
      'TENSOR_SHAPE',
      'dense.y',
    ],
    [
      'a dense name of uint8',
      { ...without(plain, 'dense'), 'dense.x': { dtype: 'uint8', shape: [3], data: new Uint8Array(3) } },
      'TENSOR_DTYPE',
      'dense.x',
    ],
    [
      'a dense name of two dimensions',
      { ...without(plain, 'dense'), 'dense.x': f32([3, 1]) },
      'TENSOR_SHAPE',
      'dense.x',
    ],
    ['users of other candidates', { ...plain, users: i64([2], [2, 2]) }, 'USERS_INVALID', 'users'],
    ['users of a negative count', { ...plain, users: i64([2], [4, -1]) }, 'USERS_INVALID', 'users'],
    ['users of float32', { ...plain, users: f32([1], [3]) }, 'TENSOR_DTYPE', 'users'],
    ['users of two dimensions', { ...plain, users: i64([1, 1], [3]) }, 'TENSOR_SHAPE', 'users'],
    [
      'users of other number',
      { ...plain, dense: f32([3, 1]), 'user.dense': f32([2, 1]), users: i64([1], [3]) },
      'USERS_INVALID',
      'users',
    ],
    [
      'starts that do not begin with 0',
      { ...plain, dense: f32([3, 1]), 'user.dense': f32([1, 1]), users: i64([2], [1, 3]) },
      'USERS_INVALID',
      'users',
    ],
    [
      'starts that decrease',
      { ...plain, dense: f32([3, 1]), 'user.dense': f32([2, 1]), users: i64([3], [0, 4, 3]) },
      'USERS_INVALID',
      'users',
    ],
    [
      'several users without counts',
      { ...plain, dense: f32([3, 1]), 'user.dense': f32([2, 1]) },
      'TENSOR_MISSING',
      'users',
    ],
    [
      'a number of candidates that nothing says',
      { ...without(plain, 'dense'), 'user.dense': f32([2]) },
      'TENSOR_MISSING',
      'users',
    ],
    [
      'a feature of user and candidate',
      { ...plain, 'user.values.ads': i64([1, 1]) },
      'TENSOR_UNEXPECTED',
      'indices.0',
    ],
    [
      'a dense feature of both',
      { ...without(plain, 'dense'), 'dense.x': f32([3]), 'dense.y': f32([3]), 'user.dense.x': f32([1]) },
      'TENSOR_UNEXPECTED',
      'dense.x',
    ],
    [
      'dense whole of the user and by name',
      { ...without(plain, 'dense'), 'dense.x': f32([3]), 'user.dense': f32([1]) },
      'TENSOR_UNEXPECTED',
      'user.dense',
    ],
    [
      "a user's tensor that has no place",
      { ...plain, 'user.labels': f32([1]) },
      'TENSOR_UNEXPECTED',
      'user.labels',
    ],
    ["a user's user", { ...plain, 'user.user.dense': f32([1]) }, 'TENSOR_UNEXPECTED', 'user.user.dense'],
    ['a scalar dense of the user', { ...plain, 'user.dense': f32([]) }, 'TENSOR_SHAPE', 'user.dense'],
  ];
  for (const [what, tensors, code, tensor, metadata] of cases) {
    test(`${what}: ${code}`, async () => {
      const error = await refuses(readTensors(tensors, inputs, metadata), code, { tensor });
      assert.ok(
        error.details.file !== undefined && error.message.includes(error.details.file),
        error.message,
      );
    });
  }

  for (const [what, tensors, tensor] of [
    ['values in one piece', { dense, values, lengths: threes }, 'values'],
    ['values by feature', { dense, 'values.0': i64([3, 1]) }, 'values.0'],
    ['indices by name', { dense, 'indices.ads': i64([3, 1]) }, 'indices.ads'],
    ['dense by name', { 'dense.x': f32([3]) }, 'dense.x'],
  ] as const) {
    test(`${what}, without inputs`, () =>
      refuses(readTensors(tensors), 'TENSOR_UNEXPECTED', { tensor }).then(() => {}));
  }
});
