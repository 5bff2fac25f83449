/** Ids become rows: vocabularies, hashes, unknown ids, and the other rules of a feature. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { FeatureInput } from '../../../src/model/inputs.ts';
import { idHasher } from '../../../src/model/request/id-hash.ts';
import { VocabularyOfIntegers } from '../../../src/model/request/integer-vocabulary.ts';
import { requestByFeature } from '../../../src/model/request/request-by-feature.ts';
import fc from '../../support/properties.ts';
import {
  bagLists,
  f32,
  feature,
  i64,
  inputsOf,
  readTensors,
  refuses,
} from '../../support/request-tensors.ts';

type Values = Parameters<typeof requestByFeature>[1]['features'];

/** The bags of feature `f`, under `rules`. */
async function rowsOf(
  rules: Partial<FeatureInput>,
  lookups: NonNullable<Values>[string],
  batchSize = 2,
): Promise<unknown[]> {
  const { bags } = await requestByFeature(inputsOf([feature('f', rules)], ['x']), {
    dense: new Float32Array(batchSize),
    features: { f: lookups },
  });
  return bagLists(bags[0] as never, batchSize);
}

const integers = { ids: { kind: 'vocabulary', values: [7, -3, 2 ** 40, 2 ** 53 - 1, 0] } } as const;
const strings = { ids: { kind: 'vocabulary', values: ['', 'a', 'constructor', 'é'] } } as const;

describe('vocabularies', () => {
  test('of integers, as int32, int64, numbers and strings', async () => {
    const lengths = [3, 2];
    const numbers = [0, -3, 7, 2 ** 53 - 1, 2 ** 40];
    const rows = [
      [4, 1, 0],
      [3, 2],
    ];
    assert.deepEqual(await rowsOf(integers, { values: numbers, lengths }), rows);
    assert.deepEqual(await rowsOf(integers, { values: numbers.map(String), lengths }), rows);
    assert.deepEqual(await rowsOf(integers, { values: BigInt64Array.from(numbers, BigInt), lengths }), rows);
    assert.deepEqual(await rowsOf(integers, { values: Int32Array.of(7, -3), lengths: [1, 1] }), [[0], [1]]);
  });
  test('of strings', async () => {
    assert.deepEqual(await rowsOf(strings, { values: ['é', 'constructor', ''], lengths: [1, 2] }), [
      [3],
      [2, 0],
    ]);
  });
  test('ids beyond 2^53 are told apart', async () => {
    const values = BigInt64Array.of(2n ** 53n, 2n ** 40n + 2n ** 60n);
    const details = { sample: 0, position: 0, value: 2n ** 53n, feature: 'f', table: 0 };
    await refuses(rowsOf(integers, { values }), 'UNKNOWN_ID', details);
  });

  test('find what a map finds', () => {
    const id = fc.oneof(
      fc.integer(),
      fc.maxSafeInteger(),
      fc.integer({ min: -9, max: 9 }).map((n) => n * 2 ** 32),
    );
    fc.assert(
      fc.property(fc.uniqueArray(id), fc.array(id), (values, others) => {
        const vocabulary = new VocabularyOfIntegers(values);
        assert.equal(vocabulary.duplicate, undefined);
        const rows = new Map(values.map((value, row) => [value, row]));
        const asked = [...values, ...others];
        const expected = Int32Array.from(asked, (value) => rows.get(value) ?? -1);
        assert.deepEqual(vocabulary.rowsOf(BigInt64Array.from(asked, BigInt)), expected);
        const narrow = asked.filter((value) => value === (value | 0));
        assert.deepEqual(
          vocabulary.rowsOf(Int32Array.from(narrow)),
          Int32Array.from(narrow, (value) => rows.get(value) ?? -1),
        );
      }),
    );
  });

  for (const [what, values] of [
    ['an integer twice', [1, 2, 1]],
    ['a string twice', ['a', 'b', 'a']],
    ['strings and integers', ['a', 1]],
    ['integers and strings', [1, 'a']],
    ['a fraction', [1.5]],
    ['an integer beyond 2^53', [2 ** 53]],
  ] as const) {
    test(`are refused with ${what}`, async () => {
      const rules = { ids: { kind: 'vocabulary', values: values as never } } as const;
      const details = { name: 'WorkloadError', code: 'VOCABULARY_INVALID' };
      await assert.rejects(rowsOf(rules, { values: [], lengths: [0, 0] }), details);
    });
  }
});

describe('unknown ids', () => {
  const lookups = { values: [7, 99, 0, 98, 97, -3], lengths: [2, 4], weights: [1, 2, 3, 4, 5, 6] };
  test('an error names feature, sample, position and value', async () => {
    const error = await refuses(rowsOf(integers, lookups), 'UNKNOWN_ID', {
      feature: 'f',
      sample: 0,
      position: 1,
      value: 99,
    });
    assert.match(error.message, /sample 0, feature f: 99 is not in the vocabulary/);
    await refuses(rowsOf(strings, { values: ['a', 'b'] }), 'UNKNOWN_ID', {
      sample: 1,
      position: 1,
      value: 'b',
    });
  });
  test('a row', async () =>
    assert.deepEqual(await rowsOf({ ...integers, unknown: { row: 9 } }, { ...lookups, lengths: [0, 6] }), [
      { rows: [], weights: [] },
      { rows: [0, 9, 4, 9, 9, 1], weights: [1, 2, 3, 4, 5, 6] },
    ]));
  test('left out, with their weights', async () =>
    assert.deepEqual(await rowsOf({ ...integers, unknown: 'skip' }, lookups), [
      { rows: [0], weights: [1] },
      { rows: [4, 1], weights: [3, 6] },
    ]));
  test('left out of bags by offsets, lookups after the last bag too', async () => {
    const values = BigInt64Array.of(99n, 7n, 98n, 0n, 7n, 97n);
    const skip = { ...integers, unknown: 'skip' } as const;
    assert.deepEqual(await rowsOf(skip, { values, offsets: BigInt64Array.of(0n, 1n) }), [[], [0, 4, 0]]);
    assert.deepEqual(await rowsOf(skip, { values, offsets: [0, 0, 4] }), [[], [0, 4]]);
    assert.deepEqual(await rowsOf(skip, { values, offsets: [] }, 0), []);
  });
  for (const [what, offsets] of [
    ['decrease', [0, 4, 3]],
    ['end past the lookups', [0, 7]],
    ['do not begin with 0', [1, 2]],
  ] as const)
    test(`offsets that ${what} are refused where ids are left out`, () =>
      refuses(
        rowsOf({ ...integers, unknown: 'skip' }, { values: [1, 2, 3, 4, 5, 6], offsets }),
        'OFFSETS_INVALID',
        { table: 0 },
      ).then(() => {}));
});

describe('hashes', () => {
  const ids = { kind: 'hash', hash: 'xxhash64', seed: 7, modulus: 1000 } as const;
  test('of integers and strings', async () => {
    const { ofInteger, ofString } = await idHasher(ids);
    assert.deepEqual(await rowsOf({ ids }, { values: Int32Array.of(5, -6) }), [
      [ofInteger(5)],
      [ofInteger(-6)],
    ]);
    assert.deepEqual(await rowsOf({ ids }, { values: [5, 'ads'] }), [[ofInteger(5)], [ofString('ads')]]);
  });
  test('a string that modulo cannot take', () =>
    refuses(rowsOf({ ids: { ...ids, hash: 'modulo', seed: 0 } }, { values: ['8', 'x'] }), 'TENSOR_DTYPE', {
      sample: 1,
      position: 1,
      value: 'x',
    }).then(() => {}));
});

describe('rows', () => {
  test('are passed as they are, whatever they are', async () => {
    const values = BigInt64Array.of(2n ** 62n, -1n);
    const { bags } = await requestByFeature(inputsOf([feature('f', { unknown: 'skip' })], ['x']), {
      dense: new Float32Array(1),
      features: { f: { values, offsets: Int32Array.of(5) } },
    });
    assert.equal(bags[0]?.indices, values);
    assert.deepEqual(bags[0]?.offsets, Int32Array.of(5));
  });
  test('are what indices of a file hold, whatever the ids are', async () => {
    const { bags } = await readTensors(
      { dense: f32([1, 1]), 'indices.f': i64([1, 2], [99, 98]) },
      inputsOf([feature('f', integers)], ['x']),
    );
    assert.deepEqual(bagLists(bags[0] as never, 1), [[99, 98]]);
  });
});

describe('ids of another type', () => {
  for (const [what, rules, values, details] of [
    ['integers for strings', strings, Int32Array.of(1, 2), { feature: 'f' }],
    ['a number for strings', strings, ['a', 3], { sample: 1, position: 1, value: 3 }],
    ['a word for integers', integers, ['7', 'x'], { sample: 1, position: 1, value: 'x' }],
    ['a word for rows', {}, ['7', '0x8'], { sample: 1, position: 1, value: '0x8' }],
    ['a fraction', {}, [1, 1.5], { sample: 1, position: 1, value: 1.5 }],
    ['NaN', integers, [7, Number.NaN], { sample: 1, position: 1 }],
    ['a number beyond 2^53', {}, [1, 2 ** 53], { sample: 1, position: 1 }],
    ['a string beyond 2^63', {}, ['9223372036854775807', '9223372036854775808'], { sample: 1, position: 1 }],
    ['a long string', {}, ['1', 'x'.repeat(1000)], { sample: 1, value: 'x'.repeat(40) }],
  ] as const)
    test(what, () => refuses(rowsOf(rules, { values }), 'TENSOR_DTYPE', details).then(() => {}));
});

describe('the rules of a feature', () => {
  test('a weight for each lookup', async () => {
    await refuses(rowsOf({ weighted: true }, { values: [1, 2] }), 'TENSOR_MISSING', { feature: 'f' });
    await refuses(rowsOf({ weighted: false }, { values: [1, 2], weights: [1, 2] }), 'TENSOR_UNEXPECTED', {
      feature: 'f',
    });
    assert.deepEqual(await rowsOf({ weighted: true }, { values: [1, 2], weights: [3, 4] }), [
      { rows: [1], weights: [3] },
      { rows: [2], weights: [4] },
    ]);
  });
  test('the longest bag', async () => {
    const values = [1, 2, 3, 4];
    assert.deepEqual(await rowsOf({ longestBag: 3 }, { values, lengths: [1, 3] }), [[1], [2, 3, 4]]);
    const error = await refuses(rowsOf({ longestBag: 2 }, { values, lengths: [1, 3] }), 'BAG_TOO_LONG', {
      sample: 1,
      feature: 'f',
      value: 3,
    });
    assert.match(error.message, /sample 1, feature f: 3 lookups are more than 2/);
    await refuses(rowsOf({ longestBag: 2 }, { values, offsets: BigInt64Array.of(0n, 1n) }), 'BAG_TOO_LONG', {
      sample: 1,
    });
    await refuses(rowsOf({ longestBag: 2 }, { values, offsets: [0, 3, 4] }), 'BAG_TOO_LONG', { sample: 0 });
  });
  test('what samples without it get', async () => {
    const missing = (rules: Partial<FeatureInput>) =>
      requestByFeature(inputsOf([feature('f', rules)], ['x']), { dense: new Float32Array(2) }).then(
        ({ bags }) => bagLists(bags[0] as never, 2),
      );
    assert.deepEqual(await missing({ missing: 'empty' }), [[], []]);
    assert.deepEqual(await missing({ missing: { ids: [5, 6] } }), [
      [5, 6],
      [5, 6],
    ]);
    assert.deepEqual(await missing({ missing: { ids: ['9007199254740993'] } }), [[2 ** 53], [2 ** 53]]);
    assert.deepEqual(await missing({ ...strings, missing: { ids: ['é'] }, weighted: true }), [
      { rows: [3], weights: [1] },
      { rows: [3], weights: [1] },
    ]);
    assert.deepEqual(await missing({ ...strings, unknown: 'skip', missing: { ids: ['x'] } }), [[], []]);
    await refuses(missing({ ...strings, missing: { ids: ['x'] } }), 'UNKNOWN_ID', { feature: 'f' });
    await refuses(missing({ missing: 'error' }), 'TABLE_MISSING', { feature: 'f', table: 0 });
  });
});
