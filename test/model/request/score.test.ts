/** A user's part and the candidates' as one request. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bags } from '../../../src/embedding/bag.ts';
import {
  type CandidatePart,
  scoreRequest,
  type TableBags,
  type UserPart,
} from '../../../src/model/request/score.ts';
import { bagsOf, randomTable } from '../../support/cases.ts';
import { Random } from '../../support/random.ts';

const random = new Random(1);
const tables = ['history', 'country', 'item'].map((name) => randomTable(random, { name, rows: 9, dim: 4 }));
const architecture = { tables, denseFeatures: 3 };
const ofUser = bagsOf([[1, 2, 3]]);
const ofCandidates = bagsOf([[4], [5, 6]]);

const user: UserPart = {
  dense: Float32Array.of(1, 2),
  bags: new Map<number | string, Bags>([
    ['history', ofUser],
    [1, ofUser],
  ]),
};
const candidates: CandidatePart = {
  batchSize: 2,
  dense: Float32Array.of(10, 20),
  denseFeatures: 1,
  bags: [undefined, undefined, ofCandidates],
};

test('the user’s dense features come first, and its bags are per user', () => {
  const request = scoreRequest(architecture, user, candidates);
  const perUser = { ...ofUser, perUser: true };
  assert.deepEqual(request, {
    batchSize: 2,
    denseFeatures: 3,
    dense: Float32Array.of(1, 2, 10, 1, 2, 20),
    bags: [perUser, perUser, ofCandidates],
    users: Int32Array.of(0, 2),
  });
  assert.equal(request.bags[0]?.indices, ofUser.indices);
});

test('several users, one of them without candidates', () => {
  const users = Int32Array.of(0, 1, 1, 2);
  const { dense } = scoreRequest(
    architecture,
    { ...user, dense: Float32Array.of(1, 2, 3, 4, 5, 6) },
    { ...candidates, users },
  );
  assert.deepEqual(dense, Float32Array.of(1, 2, 10, 5, 6, 20));
});

test('all dense features may be the user’s, or the candidates’', () => {
  const none = { ...candidates, dense: new Float32Array(), denseFeatures: 0 };
  const { dense } = scoreRequest(architecture, { ...user, dense: Float32Array.of(1, 2, 3) }, none);
  assert.deepEqual(dense, Float32Array.of(1, 2, 3, 1, 2, 3));
  const all = { ...candidates, dense: Float32Array.of(1, 2, 3, 4, 5, 6), denseFeatures: 3 };
  assert.deepEqual(scoreRequest(architecture, { bags: user.bags }, all).dense, all.dense);
});

test('each table is given exactly once', () => {
  const map = (...entries: [number | string, Bags][]): TableBags => new Map(entries);
  const refused: [string, TableBags, TableBags, string, RegExp][] = [
    [
      'by nobody',
      [ofUser],
      [undefined, undefined, ofCandidates],
      'TABLE_MISSING',
      /table 1 \(country\) .* neither/,
    ],
    [
      'by both',
      map(['item', ofUser]),
      [ofCandidates, ofCandidates, ofCandidates],
      'TABLE_UNEXPECTED',
      /table 2 \(item\) is given by the user and by the candidates/,
    ],
    [
      'by name and number',
      map(['item', ofUser], [2, ofUser]),
      [ofCandidates, ofCandidates],
      'TABLE_UNEXPECTED',
      /table 2 \(item\) is given twice by the user/,
    ],
    [
      'another name',
      map(['age', ofUser]),
      [],
      'TABLE_UNEXPECTED',
      /the user brought bags for a table named age/,
    ],
    [
      'another number',
      [],
      map([3, ofCandidates]),
      'TABLE_UNEXPECTED',
      /the candidates brought bags for table 3/,
    ],
    ['no number', [], map([0.5, ofCandidates]), 'TABLE_UNEXPECTED', /table 0\.5/],
  ];
  for (const [what, own, others, code, message] of refused) {
    assert.throws(
      () => scoreRequest(architecture, { ...user, bags: own }, { ...candidates, bags: others }),
      { code, message },
      what,
    );
  }
});

test('a name that two tables have is refused', () => {
  const [table] = tables;
  const twins = { ...architecture, tables: [table, table].flatMap((one) => one ?? []) };
  const bags = new Map<number | string, Bags>([['history', ofUser]]);
  assert.throws(() => scoreRequest(twins, { ...user, bags }, { ...candidates, bags: [] }), {
    code: 'TABLE_UNEXPECTED',
    message: /tables 0 and 1 are both named history/,
  });
});

test('dense features and users that do not fit are refused', () => {
  const refused: [string, Partial<UserPart>, Partial<CandidatePart>, string, RegExp][] = [
    [
      'too few of the user',
      { dense: Float32Array.of(1) },
      {},
      'TENSOR_SHAPE',
      /1 elements, expected \[1, 2\]/,
    ],
    [
      'of too many users',
      {},
      { users: Int32Array.of(0, 1, 2) },
      'TENSOR_SHAPE',
      /2 elements, expected \[2, 2\]/,
    ],
    [
      'too few candidates',
      {},
      { dense: Float32Array.of(1) },
      'TENSOR_SHAPE',
      /1 elements, expected \[2, 1\]/,
    ],
    ['too wide candidates', {}, { denseFeatures: 4 }, 'TENSOR_SHAPE', /4 dense features, the model takes 3/],
    ['no width', {}, { denseFeatures: Number.NaN }, 'OPTION_INVALID', /denseFeatures is NaN/],
    ['another type', { dense: [1, 2] as never }, {}, 'TENSOR_DTYPE', /must be float32/],
    ['users past the end', {}, { users: Int32Array.of(0, 2_000_000_000) }, 'USERS_INVALID', /2000000000/],
  ];
  for (const [what, own, others, code, message] of refused) {
    assert.throws(
      () => scoreRequest(architecture, { ...user, ...own }, { ...candidates, ...others }),
      { code, message },
      what,
    );
  }
});
