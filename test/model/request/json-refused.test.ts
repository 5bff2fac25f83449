/** Requests in JSON that are refused. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { HotrowError } from '../../../src/errors.ts';
import { jsonRequest } from '../../../src/model/request/json-request.ts';
import {
  firstSample as first,
  jsonInputs as inputs,
  readLines as lines,
  readJson as read,
  secondSample as second,
} from '../../support/json-requests.ts';
import { refuses } from '../../support/request-tensors.ts';

describe('refused', () => {
  const sample = (dense: unknown, features: unknown = { ads: [1] }) => ({
    samples: [first, { dense, features }],
  });
  const cases: [string, unknown, string, string | undefined, RegExp][] = [
    ['a list', [first], 'REQUEST_INVALID', undefined, /the request: a list is not an object/],
    ['null', null, 'REQUEST_INVALID', undefined, /null/],
    [
      'samples that are no list',
      { samples: first },
      'REQUEST_INVALID',
      'samples',
      /samples: an object is not a list/,
    ],
    ['another key', { samples: [], labels: [] }, 'REQUEST_INVALID', 'labels', /labels: this key/],
    [
      'another key of a sample',
      { samples: [first, { ...first, label: 1 }] },
      'REQUEST_INVALID',
      'label',
      /sample 1, label/,
    ],
    [
      'candidates without a user',
      { candidates: [first] },
      'REQUEST_INVALID',
      undefined,
      /the user: nothing is not an object/,
    ],
    ['a user without candidates', { user: first }, 'REQUEST_INVALID', 'candidates', /nothing is not a list/],
    [
      'a user and samples',
      { user: first, candidates: [], samples: [] },
      'REQUEST_INVALID',
      'samples',
      /samples/,
    ],
    ['a sample that is a list', { samples: [first, []] }, 'REQUEST_INVALID', undefined, /sample 1: a list/],
    [
      'features that are a list',
      sample([1, 2], []),
      'REQUEST_INVALID',
      'features',
      /sample 1, features: a list/,
    ],
    [
      'a feature that is a number',
      sample([1, 2], { ads: 5 }),
      'REQUEST_INVALID',
      'features.ads',
      /sample 1, features.ads: 5 is not a list of ids/,
    ],
    [
      'an id that is a fraction',
      sample([1, 2], { ads: [1, 1.5] }),
      'REQUEST_INVALID',
      'features.ads[1]',
      /1.5 is no id/,
    ],
    [
      'an id beyond 2^53',
      sample([1, 2], { ads: [2 ** 53] }),
      'REQUEST_INVALID',
      'features.ads[0]',
      /9007199254740992 is no id/,
    ],
    [
      'an id that is null',
      sample([1, 2], { ads: { ids: [null] } }),
      'REQUEST_INVALID',
      'features.ads.ids[0]',
      /null is no id/,
    ],
    [
      'weights without ids',
      sample([1, 2], { ads: { weights: [1] } }),
      'REQUEST_INVALID',
      'features.ads.ids',
      /nothing is not a list/,
    ],
    [
      'another key of lookups',
      sample([1, 2], { ads: { ids: [1], weight: [1] } }),
      'REQUEST_INVALID',
      'features.ads.weight',
      /no place/,
    ],
    [
      'a weight that is a string',
      sample([1, 2], { ads: { ids: [1], weights: ['1'] } }),
      'REQUEST_INVALID',
      'features.ads.weights[0]',
      /"1" is no finite number/,
    ],
    ['a number that is null', sample([1, null]), 'REQUEST_INVALID', 'dense[1]', /null is no finite number/],
    [
      'a named number that is a string',
      sample({ x: '1', y: 2 }),
      'REQUEST_INVALID',
      'dense.x',
      /"1" is no finite number/,
    ],
    [
      'more weights',
      { dense: [1, 2], features: { ads: { ids: [1], weights: [1, 2] } } },
      'TENSOR_SHAPE',
      'features.ads',
      /sample 0: feature ads: 2 weights for 1 ids/,
    ],
    [
      'weights in some samples',
      { samples: [first, { dense: [1, 2], features: { ads: { ids: [1], weights: [1] } } }] },
      'TENSOR_MISSING',
      'features.ads',
      /sample 0: feature ads has no weights/,
    ],
    ['no dense', { features: { ads: [1] } }, 'TENSOR_MISSING', 'dense', /sample 0: dense is missing/],
    ['fewer numbers', sample([1]), 'TENSOR_SHAPE', 'dense', /sample 1: dense has 1 numbers, expected 2/],
    ['dense by name after a list', sample({ x: 1, y: 2 }), 'TENSOR_UNEXPECTED', 'dense', /sample 1/],
    [
      'a list after dense by name',
      { samples: [{ ...first, dense: { x: 1, y: 2 } }, first] },
      'TENSOR_UNEXPECTED',
      'dense',
      /sample 1/,
    ],
    [
      'a name that is missing',
      { ...first, dense: { x: 1 } },
      'TENSOR_MISSING',
      'dense.y',
      /sample 0: dense feature y is missing/,
    ],
    [
      'an unknown name',
      { ...first, dense: { x: 1, y: 2, toString: 3 } },
      'FEATURE_UNKNOWN',
      'dense.toString',
      /sample 0: dense.toString has no place/,
    ],
    [
      'an unknown feature',
      sample([1, 2], { ads: [1], town: ['a'] }),
      'FEATURE_UNKNOWN',
      'sample 1, features',
      /sample 1, features: the model has no feature "town"/,
    ],
    [
      'a table that is not there',
      sample([1, 2], { 3: [1] }),
      'TABLE_UNEXPECTED',
      'sample 1, features',
      /sample 1/,
    ],
    [
      'a feature by name and number',
      sample([1, 2], { 0: [1], ads: [1] }),
      'TENSOR_UNEXPECTED',
      'features.ads',
      /sample 1/,
    ],
    [
      'a feature that is missing',
      sample([1, 2], {}),
      'TABLE_MISSING',
      'features.ads',
      /sample 1: feature ads \(table 0\) is missing/,
    ],
    ['a feature that all miss', { dense: [1, 2] }, 'TABLE_MISSING', 'indices.0', /feature ads/],
    [
      'an unknown id',
      sample([1, 2], { ads: [1], city: ['a', 'c'] }),
      'UNKNOWN_ID',
      'features.city',
      /sample 1, feature city: "c" is not in the vocabulary/,
    ],
    [
      'a number for a string',
      sample([1, 2], { ads: [1], city: [0] }),
      'TENSOR_DTYPE',
      'features.city',
      /sample 1, feature city: 0 is no string/,
    ],
    [
      'a word for an integer',
      sample([1, 2], { ads: ['b'] }),
      'TENSOR_DTYPE',
      'features.ads',
      /sample 1, feature ads: "b"/,
    ],
    [
      'a feature of user and candidate',
      { user: { dense: [1], features: { ads: [1] } }, candidates: [{ dense: [1], features: { ads: [1] } }] },
      'TENSOR_UNEXPECTED',
      'features.ads',
      /feature ads/,
    ],
    [
      'a name of user and candidate',
      { user: { dense: { x: 1 } }, candidates: [{ dense: { x: 1, y: 1 }, features: { ads: [1] } }] },
      'FEATURE_UNKNOWN',
      'dense.x',
      /candidate 0/,
    ],
    [
      "a candidate's wrong width",
      { user: { dense: [1] }, candidates: [{ dense: [1, 2], features: { ads: [1] } }] },
      'TENSOR_SHAPE',
      'dense',
      /candidate 0: dense has 2 numbers, expected 1/,
    ],
    [
      "a user's wrong width",
      { user: { dense: [1, 2, 3] }, candidates: [{ features: { ads: [1] } }] },
      'TENSOR_SHAPE',
      'dense',
      /the user: dense has 3 numbers/,
    ],
  ];
  for (const [what, value, code, tensor, message] of cases)
    test(`${what}: ${code}`, async () => {
      const error = await refuses(read(value), code, { tensor });
      assert.match(error.message, message);
    });

  test('a key that stands twice', () =>
    refuses(
      jsonRequest('{"dense": [1, 2], "features": {"ads": [1], "ads": [2]}}', inputs),
      'REQUEST_INVALID',
    ).then(() => {}));
  test('a line that is no JSON', () =>
    assert.rejects(lines(first, '', '{"dense": [1,'), { code: 'JSON_INVALID', message: /^line 3: / }));
  test('a line of many samples', () =>
    refuses(lines(first, { samples: [second] }), 'REQUEST_INVALID').then(() => {}));
  test('errors name the line', async () => {
    const error = await refuses(
      lines('', first, '', { ...second, features: { ads: [], city: ['z'] } }),
      'UNKNOWN_ID',
      { sample: 1 },
    );
    assert.match(error.message, /^line 4, feature city: "z"/);
  });
  test('a number that float64 does not hold', () =>
    refuses(jsonRequest('{"dense": [1e400, 2], "features": {"ads": []}}', inputs), 'REQUEST_INVALID').then(
      () => {},
    ));
  test('what is deep', async () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    for (const text of [`{"dense": [1, 2], "features": {"ads": ${deep}}}`, deep])
      await assert.rejects(jsonRequest(text, inputs), { code: 'JSON_INVALID', message: /nested more than/ });
  });
  test('messages stay short', async () => {
    const long = 'x'.repeat(100_000);
    for (const value of [
      { ...first, [long]: 1 },
      { dense: [1, 2], features: { [long]: [1] } },
      { dense: [1, 2], features: { [long]: 1 } },
      { dense: { [long]: 1 }, features: { ads: [1] } },
      { dense: { [long]: long }, features: { ads: [1] } },
      { dense: [1, 2], features: { ads: [long] } },
    ]) {
      const error = await read(value).then(
        () => assert.fail('was read'),
        (cause: HotrowError) => cause,
      );
      assert.ok(error.message.length < 300, error.message.slice(0, 300));
    }
  });
});
