import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDense } from '../../../src/model/request/check-dense.ts';

const BATCH = 2;
const FEATURES = 3;
const check = (dense: unknown, denseFeatures: unknown = FEATURES) =>
  checkDense({ dense, denseFeatures } as never, BATCH, FEATURES);

test('dense features are [B, F], no more and no fewer', () => {
  const good = new Float32Array(BATCH * FEATURES);
  assert.equal(check(good), good);
  for (const length of [0, 1, 5, 7, 9, 12])
    assert.throws(() => check(new Float32Array(length)), { code: 'TENSOR_SHAPE', message: /takes \[2, 3\]/ });
  for (const features of [0, 2, 4, 6, null, '3'])
    assert.throws(() => check(good, features), { code: 'TENSOR_SHAPE' });
  // As many elements, of another shape.
  assert.throws(() => checkDense({ dense: good, denseFeatures: 2 }, 3, 2 + 1), { code: 'TENSOR_SHAPE' });
  assert.throws(() => checkDense({ dense: good, denseFeatures: 6 }, 2, 3), { code: 'TENSOR_SHAPE' });
});

test('they are float32, in memory that stays', () => {
  for (const dense of [new Float64Array(6), [0, 0, 0, 0, 0, 0], undefined, null])
    assert.throws(() => check(dense), { code: 'TENSOR_DTYPE' });
  const gone = new Float32Array(BATCH * FEATURES);
  structuredClone(0, { transfer: [gone.buffer] });
  assert.throws(() => check(gone), { code: 'TENSOR_DTYPE', message: /was transferred/ });
  // Also where nothing is wanted of them.
  assert.throws(() => checkDense({ dense: gone, denseFeatures: 3 }, 0, 3), { code: 'TENSOR_DTYPE' });
});
