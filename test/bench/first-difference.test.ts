import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstDifference } from '../../src/bench/first-difference.ts';

const LENGTH = 3 * 2 ** 20 + 5;
const zeros = new Float32Array(LENGTH);

test('the first of several elements that differ, wherever it is', () => {
  for (const at of [0, 1, 2 ** 20 - 1, 2 ** 20, LENGTH - 1]) {
    const other = zeros.slice();
    other[at] = 1;
    other[LENGTH - 1] = 2;
    assert.equal(firstDifference(zeros, other), at);
    assert.equal(firstDifference(other, zeros), at);
  }
  assert.equal(firstDifference(zeros, zeros.slice()), undefined);
});

test('bits are compared, not values; parts of buffers are compared as they lie', () => {
  const whole = Float32Array.of(9, Number.NaN, -0, 1);
  const same = Float32Array.of(Number.NaN, -0, 1);
  assert.equal(firstDifference(whole.subarray(1), same), undefined);
  assert.equal(firstDifference(Float32Array.of(1, 0), Float32Array.of(1, -0)), 1);
  assert.equal(firstDifference(new Float32Array(), new Float32Array()), undefined);
});
