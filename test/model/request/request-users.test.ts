/** Requests of users and their candidates. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ModelInputs } from '../../../src/model/inputs.ts';
import { readRequest, writeRequest } from '../../../src/model/request/safetensors-request.ts';
import {
  denseRows as dense,
  expanded,
  f32,
  feature,
  i32,
  i64,
  formInputs as inputs,
  inputsOf,
  plainRequest as plain,
  readTensors,
  requestFile,
  says,
  type Tensors,
} from '../../support/request-tensors.ts';

/** Asserts that a form says what the plain form says, or another; null: without inputs. */
const same = (
  tensors: Tensors,
  as: Tensors = plain,
  metadata: Record<string, string> = {},
  own: ModelInputs | null = inputs,
) => says(tensors, as, own ?? undefined, metadata);

describe("a user's part", () => {
  const two = inputsOf([feature('ads'), feature('user')], ['x', 'y']);
  /** Users of 2, 0 and 1 candidates, with bags [7, 8], [9] and []. */
  const shared: Tensors = {
    dense,
    'indices.0': i64([3], [1, 2, 3]),
    'offsets.0': i64([3], [0, 2, 2]),
    'indices.1': i64([4], [7, 8, 7, 8]),
    'offsets.1': i64([3], [0, 2, 4]),
  };
  const own: Tensors = { 'indices.0': i64([3], [1, 2, 3]), 'offsets.0': i64([3], [0, 2, 2]) };
  const user: Tensors = { 'user.indices.1': i64([3], [7, 8, 9]), 'user.lengths.1': i64([3], [2, 1, 0]) };

  for (const [what, users] of [
    ['counts', i32([3], [2, 0, 1])],
    ['starts', i64([4], [0, 2, 2, 3])],
  ] as const)
    test(`of several, by ${what}`, async () => {
      const request = await readTensors({ dense, ...own, ...user, users });
      assert.deepEqual(request.users, Int32Array.of(0, 2, 2, 3));
      assert.deepEqual(
        request.bags.map(({ perUser }) => perUser),
        [undefined, true],
      );
      assert.deepEqual(expanded(request), expanded(await readTensors(shared)));
    });
  test('with the offsets of users, whose number the counts give', () =>
    same(
      {
        dense,
        ...own,
        'user.indices.1': i64([3], [7, 8, 9]),
        'user.offsets.1': i64([3], [0, 2, 3]),
        users: i32([3], [2, 0, 1]),
      },
      shared,
      {},
      null,
    ));
  test('of one user, without counts', async () => {
    const request = await readTensors(
      { dense, ...own, 'user.values.user': i32([2], [7, 8]), 'user.offsets.user': i32([1]) },
      two,
    );
    assert.deepEqual(request.users, Int32Array.of(0, 3));
    assert.deepEqual(expanded(request).bags[1], [
      [7, 8],
      [7, 8],
      [7, 8],
    ]);
  });
  test('the offsets of candidates alone, as many as the users have', async () => {
    const request = await readTensors({
      'user.dense': f32([2], [1, 2]),
      'indices.0': i32([2], [1, 2]),
      'offsets.0': i32([2], [0, 1]),
      users: i32([1], [2]),
    });
    assert.deepEqual(expanded(request), {
      dense: [
        [1, 2],
        [1, 2],
      ],
      bags: [[[1], [2]]],
    });
  });
  test('dense numbers go before the own', async () => {
    const request = await readTensors({
      dense: f32([3, 1], [7, 8, 9]),
      'user.dense': f32([2, 2], [1, 2, 3, 4]),
      users: i32([2], [1, 2]),
    });
    assert.deepEqual(expanded(request).dense, [
      [1, 2, 7],
      [3, 4, 8],
      [3, 4, 9],
    ]);
  });
  test('dense numbers by name stand where the model has them', async () => {
    const request = await readTensors(
      { 'dense.x': f32([3], [7, 8, 9]), 'user.dense.y': i32([2], [1, 2]), users: i32([2], [1, 2]) },
      inputsOf([], ['x', 'y']),
    );
    assert.deepEqual(expanded(request).dense, [
      [7, 1],
      [8, 2],
      [9, 2],
    ]);
  });
  test('in one piece', async () => {
    const request = await readTensors(
      { dense, ...own, 'user.values': i32([2], [7, 8]), 'user.lengths': i32([1, 1], [2]) },
      two,
      { 'user.features': '["user"]' },
    );
    assert.deepEqual(expanded(request).bags[1], [
      [7, 8],
      [7, 8],
      [7, 8],
    ]);
  });
  test('is written and read', async () => {
    const request = await readTensors({
      dense,
      ...own,
      ...user,
      'user.weights.1': f32([3], [1, 2, 3]),
      users: i32([3], [2, 0, 1]),
    });
    const path = await requestFile({ dense });
    await writeRequest(path, request);
    assert.deepEqual(await readRequest(path), request);
  });
});
