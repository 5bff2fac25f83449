/** What stays in place, and what does not; requests of roundtrip.test.ts are bound both ways there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelInputs } from '../../../src/model/inputs.ts';
import { bindInferRequest } from '../../../src/serve/protocol/bind-infer.ts';
import { NativeBinder } from '../../../src/serve/protocol/native-binder.ts';
import { parseInferRequest } from '../../../src/serve/protocol/parse-infer.ts';
import { protocolBody, type SentTensors } from '../../support/infer-bodies.ts';
import { requestAt } from '../../support/native-requests.ts';
import {
  expanded,
  f32,
  feature,
  i32,
  i64,
  inputsOf,
  type Tensors,
  without,
} from '../../support/request-tensors.ts';

const inputs = inputsOf([feature('a'), feature('1'), feature('c')], ['x', 'y']);

function parsed(tensors: SentTensors, parameters: object = {}) {
  const { body, ...headers } = protocolBody(tensors, { extra: { parameters } });
  const request = parseInferRequest(body, headers);
  assert.ok('tensors' in request);
  return request;
}

/** Bound in place, and as it is bound otherwise. */
async function inPlace(tensors: SentTensors, of: ModelInputs = inputs, parameters: object = {}) {
  const request = parsed(tensors, parameters);
  const native = new NativeBinder(of).bind(request);
  assert.ok(native !== undefined, 'is bound in place');
  assert.deepEqual(
    expanded(requestAt(native, request.body, of.dense.length)),
    expanded(await bindInferRequest(request, of)),
  );
  return native;
}

/** Not bound in place: otherwise refused with this code, or bound. */
async function otherwise(
  tensors: SentTensors,
  code: string | undefined,
  of = inputs,
  parameters: object = {},
) {
  const request = parsed(tensors, parameters);
  assert.equal(new NativeBinder(of).bind(request), undefined, `is bound in place, ${code}`);
  const bound = bindInferRequest(request, of);
  if (code === undefined) await bound;
  else await assert.rejects(bound, { code });
}

const piece: Tensors = {
  dense: f32([2, 2], [1, 2, 3, 4]),
  values: i64([4], [1, 2, 3, 4]),
  lengths: i32([3, 2], [1, 0, 1, 1, 0, 1]),
};
const byTable: Tensors = {
  dense: f32([2, 2], [1, 2, 3, 4]),
  'indices.0': i32([1], [1]),
  'lengths.0': i64([2], [1, 0]),
  'indices.1': i64([2], [2, 3]),
  'offsets.1': i32([2], [0, 1]),
  'values.c': i32([2, 1], [4, 5]),
};

test('places are counted from where the body is', () => {
  const request = parsed(piece);
  const [near, far] = [0, 4096].map((bodyAt) => new NativeBinder(inputs).bind(request, bodyAt));
  assert.ok(near !== undefined && far !== undefined);
  assert.equal(far.denseAt, near.denseAt + 4096);
  assert.equal(far.pieces[0]?.values.at, (near.pieces[0]?.values.at ?? 0) + 4096);
  assert.equal(far.pieces[0]?.lengths.at, (near.pieces[0]?.lengths.at ?? 0) + 4096);
});

test('in one piece: every type, with weights, in any order of the features', async () => {
  const native = await inPlace(piece);
  assert.deepEqual(native.pieces[0]?.tables, [0, 1, 2]);
  assert.deepEqual([native.pieces[0]?.values.int64, native.pieces[0]?.lengths.int64], [true, false]);
  await inPlace({ ...piece, values: i32([4], [1, 2, 3, 4]), lengths: i64([6], [1, 0, 1, 1, 0, 1]) });
  await inPlace({ ...piece, weights: f32([4], [1, 2, 3, 4]) });
  const turned = await inPlace(piece, inputs, { features: ['c', 'a', '1'] });
  assert.deepEqual(turned.pieces[0]?.tables, [2, 0, 1]);
  const binder = new NativeBinder(inputs);
  for (let i = 0; i < 200; i++) {
    const order = i % 2 === 0 ? ['c', 'a', '1'] : ['a', 'c', '1', `${i}`];
    const found = binder.bind(parsed(piece, { features: order }));
    assert.deepEqual(found?.pieces[0]?.tables, i % 2 === 0 ? [2, 0, 1] : undefined);
  }
});

test('by table: every kind of bounds; names that are numbers', async () => {
  const native = await inPlace(byTable);
  assert.deepEqual(
    native.tables.map((own) => own?.bounds.kind),
    ['lengths', 'offsets', 'even'],
  );
  await inPlace({ ...without(byTable, 'offsets.1'), 'offsets.1': i64([3], [0, 1, 2]) });
  // Of rows, 1 is a table's number; of ids it is the feature's name. Here they differ.
  const named = inputsOf([feature('1'), feature('0')], ['x', 'y']);
  const dense = f32([1, 2], [1, 2]);
  await inPlace({ dense, 'values.1': i32([1, 1], [7]), 'values.0': i32([1, 1], [8]) }, named);
  await inPlace({ dense, 'indices.1': i32([1, 1], [7]), 'indices.0': i32([1, 1], [8]) }, named);
  const both = { dense, 'indices.1': i32([1], [7]), 'values.1': i32([1], [8]), 'lengths.1': i32([1], [1]) };
  await otherwise(both, 'TENSOR_UNEXPECTED', named);
});

test('without dense features lengths say how many samples there are', async () => {
  const of = inputsOf(inputs.features, []);
  await inPlace(without(piece, 'dense'), of);
  await inPlace({ ...piece, dense: f32([2, 0]) }, of);
  await inPlace(without(byTable, 'dense'), of);
});

test('features that may be missing have empty bags', async () => {
  const of = inputsOf([feature('a', { missing: 'empty' }), feature('b')], ['x', 'y']);
  const native = await inPlace({ dense: f32([1, 2]), 'indices.1': i32([1, 1], [3]) }, of);
  assert.equal(native.tables[0], undefined);
  const one = { dense: f32([1, 2]), values: i32([1], [3]), lengths: i32([1, 1], [1]) };
  await inPlace(one, of, { features: ['b'] });
  await otherwise(one, 'TABLE_MISSING', of, { features: ['a'] });
  const ids = inputsOf([feature('a', { missing: { ids: [5] } }), feature('b')], ['x', 'y']);
  await otherwise({ dense: f32([1, 2]), 'indices.1': i32([1, 1], [3]) }, undefined, ids);
});

test('rules that need a look at each id or bag keep a feature from its place', async () => {
  const withRule = (rules: object) => inputsOf([feature('a', rules), feature('1'), feature('c')], ['x', 'y']);
  const hash = { ids: { kind: 'hash', hash: 'modulo', seed: 0, modulus: 5 } };
  await otherwise(piece, undefined, withRule(hash));
  await otherwise(piece, 'UNKNOWN_ID', withRule({ ids: { kind: 'vocabulary', values: [9] } }));
  await otherwise(piece, undefined, withRule({ longestBag: 1 }));
  await otherwise(
    { ...piece, values: i64([5], [1, 2, 3, 4, 5]), lengths: i32([3, 2], [2, 0, 1, 1, 0, 1]) },
    'BAG_TOO_LONG',
    withRule({ longestBag: 1 }),
  );
  await otherwise(piece, 'TENSOR_MISSING', withRule({ weighted: true }));
  await otherwise({ ...piece, weights: f32([4]) }, 'TENSOR_UNEXPECTED', withRule({ weighted: false }));
  await inPlace({ ...piece, weights: f32([4]) }, withRule({ weighted: true }));
  await inPlace(piece, withRule({ weighted: false }));
  // Rows by table need no mapping.
  await inPlace(byTable, withRule(hash));
  await otherwise(
    {
      ...without(byTable, 'indices.0'),
      'values.a': i32([1], [1]),
      'lengths.a': i32([2], [1, 0]),
      'lengths.0': i32([2]),
    },
    'TENSOR_MISSING',
    withRule(hash),
  );
  await otherwise(byTable, 'BAG_TOO_LONG', withRule({ longestBag: 0 }));
});

test('what is wrong, or not simple, is left to be said or done otherwise', async () => {
  const cases: [SentTensors, string | undefined, object?][] = [
    [{ ...piece, dense: f32([2, 3]) }, 'TENSOR_SHAPE'],
    [{ ...piece, dense: f32([3, 2]) }, 'TENSOR_SHAPE'],
    [{ ...piece, dense: f32([4]) }, 'TENSOR_SHAPE'],
    [{ ...piece, dense: f32([1, 2, 2]) }, 'TENSOR_SHAPE'],
    [{ ...piece, dense: i32([2, 2]) }, 'TENSOR_DTYPE'],
    [{ ...piece, dense: { dtype: 'float16', shape: [2, 2], data: new Uint16Array(4) } }, undefined],
    [without(piece, 'dense'), 'TENSOR_MISSING'],
    [without(piece, 'lengths'), 'TENSOR_MISSING'],
    [without(piece, 'values'), 'TENSOR_MISSING'],
    [{ ...piece, lengths: i32([2, 3], [1, 0, 1, 1, 0, 1]) }, 'TENSOR_SHAPE'],
    [{ ...piece, lengths: i32([1, 3, 2], [1, 0, 1, 1, 0, 1]) }, 'TENSOR_SHAPE'],
    [{ ...piece, lengths: i32([7], [1, 0, 1, 1, 0, 1, 0]) }, 'TENSOR_SHAPE'],
    [{ ...piece, values: i64([2, 2]) }, 'TENSOR_SHAPE'],
    [{ ...piece, values: f32([4]) }, 'TENSOR_DTYPE'],
    [{ ...piece, lengths: f32([3, 2]) }, 'TENSOR_DTYPE'],
    [{ ...piece, weights: f32([3]) }, 'TENSOR_SHAPE'],
    [{ ...piece, weights: i32([4]) }, 'TENSOR_DTYPE'],
    [{ ...piece, indices: i32([4]) }, 'TENSOR_UNEXPECTED'],
    [{ ...piece, offsets: i32([6]) }, 'TENSOR_UNEXPECTED'],
    [{ ...piece, 'indices.0': i32([2, 1]) }, 'TENSOR_UNEXPECTED'],
    [{ ...piece, more: i32([1]) }, 'TENSOR_UNEXPECTED'],
    [
      {
        dense: f32([1, 2]),
        values: i32([1]),
        lengths: i32([1], [1]),
        'indices.1': i32([1, 1]),
        'indices.2': i32([1, 1]),
      },
      'TENSOR_UNEXPECTED',
      { features: ['a'] },
    ],
    [piece, 'FEATURE_UNKNOWN', { features: ['a', '1', 'd'] }],
    [piece, 'TENSOR_UNEXPECTED', { features: ['a', '1', 'a'] }],
    [piece, 'REQUEST_INVALID', { features: '{' }],
    [{ ...piece, values: i64([0]), lengths: i32([0, 2]) }, 'TABLE_MISSING', { features: [] }],
    [
      { ...piece, values: i64([3]), lengths: i32([3]), dense: f32([1, 2]) },
      'TENSOR_SHAPE',
      { features: ['a', '1'] },
    ],
    [byTable, 'TENSOR_UNEXPECTED', { features: ['a', '1', 'c'] }],
    [without(byTable, 'indices.0'), 'TENSOR_MISSING'],
    [without(byTable, 'lengths.0'), 'TENSOR_MISSING'],
    [without(byTable, 'values.c'), 'TABLE_MISSING'],
    [{ ...byTable, 'offsets.0': i32([2]) }, 'TENSOR_UNEXPECTED'],
    [{ ...byTable, 'values.0': i32([1]) }, 'TENSOR_UNEXPECTED'],
    [{ ...byTable, 'values.a': i32([2, 1]) }, 'TENSOR_UNEXPECTED'],
    [{ ...byTable, 'lengths.0': i32([3]) }, 'TENSOR_SHAPE'],
    [{ ...byTable, 'offsets.1': i32([4]) }, 'TENSOR_SHAPE'],
    [{ ...byTable, 'offsets.1': i32([1]) }, 'TENSOR_SHAPE'],
    [{ ...byTable, 'lengths.c': i32([2], [1, 1]) }, 'TENSOR_SHAPE'],
    [{ ...byTable, 'values.c': i32([1, 2]) }, 'TENSOR_SHAPE'],
    [{ ...byTable, 'weights.c': f32([2]) }, 'TENSOR_SHAPE'],
    [{ ...byTable, 'indices.3': i32([2, 1]) }, 'TABLE_UNEXPECTED'],
    [{ ...byTable, 'indices.': i32([2, 1]) }, 'TENSOR_UNEXPECTED'],
    [{ dense: f32([0, 2]), values: i64([0]), lengths: i32([3, 0]) }, undefined],
  ];
  for (const [tensors, code, parameters] of cases) await otherwise(tensors, code, inputs, parameters);
});

const ofUsers: Tensors = {
  dense: f32([3, 1], [1, 2, 3]),
  'user.dense': f32([2, 1], [8, 9]),
  users: i32([2], [2, 1]),
  'user.values': i32([3], [1, 2, 3]),
  'user.lengths': i32([2, 2], [1, 0, 1, 1]),
  values: i32([3], [4, 5, 6]),
  lengths: i32([1, 3], [1, 1, 1]),
};
const userFeatures = { 'user.features': ['a', 'c'], features: ['1'] };

test('users: counts or starts of int32 or int64; one by default', async () => {
  const native = await inPlace(ofUsers, inputs, userFeatures);
  assert.deepEqual(native.users?.starts, Int32Array.of(0, 2, 3));
  await inPlace({ ...ofUsers, users: i64([3], [0, 2, 3]) }, inputs, userFeatures);
  const alone = {
    ...without(ofUsers, 'users'),
    'user.dense': f32([1], [8]),
    'user.lengths': i32([2, 1], [1, 2]),
  };
  assert.deepEqual((await inPlace(alone, inputs, userFeatures)).users?.starts, Int32Array.of(0, 3));
  // Users without a part of their own.
  await inPlace({ ...piece, users: i32([1], [2]) });
});

test('a part in one piece, the other by table', async () => {
  const { values: _, lengths: __, ...rest } = ofUsers;
  const own = { 'values.1': i32([3], [4, 5, 6]), 'offsets.1': i32([4], [0, 1, 1, 3]) };
  await inPlace({ ...rest, ...own }, inputs, { 'user.features': ['a', 'c'] });
});

test('sizes that are none', async () => {
  const noDense = inputsOf([feature('a'), feature('b')], []);
  await otherwise({ values: i32([3]), lengths: i32([3], [1, 1, 1]) }, 'TENSOR_SHAPE', noDense);
  const mayLack = inputsOf([feature('a', { missing: 'empty' })], ['x', 'y']);
  const noFeatures = { dense: f32([1, 2]), values: i32([1]), lengths: i32([0, 1]) };
  await otherwise(noFeatures, 'LENGTHS_INVALID', mayLack, { features: [] });
  const twoUsers = { ...piece, dense: f32([2, 1]), 'user.dense': f32([2, 1]) };
  await otherwise(twoUsers, 'TENSOR_MISSING');
  const nameless = inputsOf([feature('')], []);
  await otherwise({ 'values.': i32([1], [1]), 'lengths.': i32([1], [1]) }, 'TENSOR_UNEXPECTED', nameless);
});

test('users that do not fit', async () => {
  const of = (tensors: object) => ({ ...ofUsers, ...tensors });
  const refused: [object, string][] = [
    [{ users: i32([2], [1, 1]) }, 'USERS_INVALID'],
    [{ users: f32([2], [1, 1]) }, 'TENSOR_DTYPE'],
    [{ users: i32([2, 1], [2, 1]) }, 'TENSOR_SHAPE'],
    [{ 'user.dense': f32([2, 2]) }, 'TENSOR_SHAPE'],
    [{ 'user.lengths': i32([2, 3], [1, 0, 0, 1, 1, 0]) }, 'TENSOR_SHAPE'],
    [{ 'user.lengths': i32([3], [1, 0, 1]) }, 'TENSOR_SHAPE'],
  ];
  for (const [tensors, code] of refused) await otherwise(of(tensors), code, inputs, userFeatures);
  await otherwise(without(ofUsers, 'users'), 'TENSOR_MISSING', inputs, userFeatures);
  await otherwise(ofUsers, 'FEATURE_UNKNOWN', inputs, { ...userFeatures, 'user.features': ['a', 'd'] });
  await otherwise(ofUsers, 'TENSOR_UNEXPECTED', inputs, { ...userFeatures, features: ['a'] });
  for (const users of [i32([3], [1, 2, 3]), i32([2], [-1, 4]), i32([5], [0, 1, 1, 1, 3])]) {
    const request = parsed(of({ users }), userFeatures);
    assert.throws(() => new NativeBinder(inputs).bind(request), { code: 'USERS_INVALID' });
    await assert.rejects(bindInferRequest(request, inputs), { code: 'USERS_INVALID' });
  }
});

test('samples of which a body holds nothing are not made', async () => {
  const one = inputsOf([feature('a')], []);
  const claimed = { dense: f32([2 ** 40, 0]), users: i32([1], [1]), 'user.indices.0': i32([1, 1], [3]) };
  await otherwise(claimed, 'USERS_INVALID', one);
  const many = { dense: f32([2 ** 30, 0]), users: i32([1], [2 ** 30]), 'user.indices.0': i32([1, 1], [3]) };
  await otherwise(many, 'TENSOR_SHAPE', one);
  await otherwise(
    { dense: f32([2 ** 31, 0]), 'indices.0': i32([0]), 'offsets.0': i32([0]) },
    'TENSOR_SHAPE',
    one,
  );
});
