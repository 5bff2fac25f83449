/** Requests by feature, and the tensors that they become. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type FeatureRequest, tensorsOf } from '../../src/client/request.ts';
import { HotrowError } from '../../src/errors.ts';

const i32 = (shape: number[], ...data: number[]) => ({ shape, data: Int32Array.from(data) });
const i64 = (shape: number[], ...data: number[]) => ({ shape, data: BigInt64Array.from(data, BigInt) });
const f32 = (shape: number[], ...data: number[]) => ({ shape, data: Float32Array.from(data) });
const bags = (values: number[], lengths: number[]) => ({ values, lengths });

const cases: [string, FeatureRequest, ReturnType<typeof tensorsOf>][] = [
  [
    'all features in one piece',
    { dense: [1, 2, 3, 4], features: { a: bags([5, 6, 7], [2, 1]), b: [[8], []] } },
    {
      tensors: {
        dense: f32([2, 2], 1, 2, 3, 4),
        values: i32([4], 5, 6, 7, 8),
        lengths: i32([2, 2], 2, 1, 1, 0),
      },
      parameters: { features: '["a","b"]' },
    },
  ],
  [
    'int64 where one feature needs it',
    { features: { a: [[1]], b: [[2 ** 40]], c: [[3n]] } },
    {
      tensors: { values: i64([3], 1, 2 ** 40, 3), lengths: i32([3, 1], 1, 1, 1) },
      parameters: { features: '["a","b","c"]' },
    },
  ],
  [
    'by feature where one has strings',
    { features: { a: [[1], [2]], city: [['Köln'], []] } },
    {
      tensors: {
        'values.a': i32([2], 1, 2),
        'lengths.a': i32([2], 1, 1),
        'values.city': { shape: [1], data: ['Köln'] },
        'lengths.city': i32([2], 1, 0),
      },
      parameters: {},
    },
  ],
  [
    'by feature where one alone has weights',
    { features: { a: { ...bags([1], [1]), weights: [0.5] }, b: bags([2], [1]) } },
    {
      tensors: {
        'values.a': i32([1], 1),
        'lengths.a': i32([1], 1),
        'weights.a': f32([1], 0.5),
        'values.b': i32([1], 2),
        'lengths.b': i32([1], 1),
      },
      parameters: {},
    },
  ],
  [
    'weights in one piece where all have them',
    { features: { a: { ...bags([1], [1]), weights: [0.5] }, b: { ...bags([2], [1]), weights: [2] } } },
    {
      tensors: { values: i32([2], 1, 2), lengths: i32([2, 1], 1, 1), weights: f32([2], 0.5, 2) },
      parameters: { features: '["a","b"]' },
    },
  ],
  [
    'dense by name, and no features',
    { dense: { x: [1.5, 2 ** 40], y: Float32Array.of(3, 4) } },
    {
      tensors: { 'dense.x': { shape: [2], data: Float64Array.of(1.5, 2 ** 40) }, 'dense.y': f32([2], 3, 4) },
      parameters: {},
    },
  ],
  [
    'one user',
    { features: { item: [[1], [2], [3]] }, user: { dense: [7], features: { history: [[4, 5]] } } },
    {
      tensors: {
        values: i32([3], 1, 2, 3),
        lengths: i32([1, 3], 1, 1, 1),
        'user.dense': f32([1, 1], 7),
        'user.values': i32([2], 4, 5),
        'user.lengths': i32([1, 1], 2),
      },
      parameters: { features: '["item"]', 'user.features': '["history"]' },
    },
  ],
  [
    'users, in the form that all features of both parts have',
    { features: { item: [[1], [2], [3]] }, user: { features: { city: [['Rom'], []] } }, users: [1, 2] },
    {
      tensors: {
        users: i32([2], 1, 2),
        'values.item': i32([3], 1, 2, 3),
        'lengths.item': i32([3], 1, 1, 1),
        'user.values.city': { shape: [1], data: ['Rom'] },
        'user.lengths.city': i32([2], 1, 0),
      },
      parameters: {},
    },
  ],
  [
    'numbers alone',
    { dense: [1, 2, 3], batchSize: 3 },
    { tensors: { dense: f32([3, 1], 1, 2, 3) }, parameters: {} },
  ],
];

for (const [name, request, wanted] of cases) test(name, () => assert.deepEqual(tensorsOf(request), wanted));

describe('what is no request is refused', () => {
  const wrong: [string, FeatureRequest, RegExp][] = [
    ['no number of samples', { dense: [1, 2] }, /give batchSize/],
    ['dense of another number', { dense: [1, 2, 3], features: { a: [[1], [2]] } }, /3 numbers for 2 rows/],
    ['bags of another number', { features: { a: [[1], [2]], b: [[1]] } }, /b has 1 bags, not 2/],
    [
      'weights of another number',
      { features: { a: { ...bags([1, 2], [2]), weights: [1] } } },
      /1 weights for 2 ids/,
    ],
    ['a fraction as id', { features: { a: [[1.5]] } }, /has the id 1.5/],
    ['an id that a number cannot hold', { features: { a: [[2 ** 53]] } }, /bigints beyond/],
    ['an id that int64 cannot hold', { features: { a: [[2n ** 63n]] } }, /which int64 cannot hold/],
    ['strings and numbers', { features: { a: [['x'], [1]] } }, /strings and numbers/],
    ['a length that is no number', { features: { a: bags([1], [0.5]) } }, /lengths of a are whole/],
    ['users without a user', { features: { a: [[1]] }, users: [1] }, /there is no user/],
    [
      "a user's bags of another number",
      { features: { a: [[1]] }, user: { features: { b: [[1], [2]] } } },
      /user.b has 2 bags, not 1/,
    ],
  ];
  for (const [name, request, message] of wrong)
    test(name, () =>
      assert.throws(
        () => tensorsOf(request),
        (error) =>
          error instanceof HotrowError && error.code === 'OPTION_INVALID' && message.test(error.message),
      ),
    );
});
