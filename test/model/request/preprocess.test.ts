import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PREPROCESSING } from '../../../src/model/inputs.ts';
import { outsideDomain, preprocess } from '../../../src/model/request/preprocess.ts';

const rounded = (...values: number[]) => values.map(Math.fround);

test('raw numbers become what the model was trained on', () => {
  const raw = [0, 1, -2, 260, 0.1];
  assert.deepEqual(Array.from(preprocess(raw, 'none')), rounded(...raw));
  assert.deepEqual(
    Array.from(preprocess(raw, 'log(1 + max(x, 0))')),
    rounded(0, Math.log(2), 0, Math.log(261), Math.log(1.1)),
  );
  assert.deepEqual(
    Array.from(preprocess(raw, 'log(x + 3)')),
    rounded(Math.log(3), Math.log(4), 0, Math.log(263), Math.log(3.1)),
  );
});

test('NaN passes, and lies in every domain', () => {
  for (const rule of PREPROCESSING) {
    assert.ok(Number.isNaN(preprocess([Number.NaN], rule)[0]), rule);
    assert.equal(outsideDomain(Number.NaN, rule), false, rule);
  }
});

test('log(x + 3) ends above -3, the others take every number', () => {
  for (const rule of PREPROCESSING) {
    for (const x of [-3, -4, Number.NEGATIVE_INFINITY])
      assert.equal(outsideDomain(x, rule), rule === 'log(x + 3)', `${rule} of ${x}`);
    assert.equal(outsideDomain(-2.999, rule), false, rule);
  }
});
