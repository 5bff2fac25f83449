import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UsageError } from '../../src/errors.ts';
import { requestSizes } from '../../src/load/sizes.ts';

const mean = (sizes: readonly number[]) => sizes.reduce((sum, size) => sum + size, 0) / sizes.length;

test("MLPerf's sizes: 100 to 700, mean 270, each with its share", () => {
  const sizes = requestSizes('mlperf', 100, 1);
  assert.equal(mean(sizes), 270);
  const shares = [100, 200, 300, 400, 500, 600, 700].map(
    (size) => sizes.filter((own) => own === size).length,
  );
  assert.deepEqual(shares, [10, 60, 10, 5, 5, 5, 5]);
  assert.equal(requestSizes('mlperf', 20, 1).length, 20);
});

test('other distributions; no request is empty', () => {
  assert.deepEqual(requestSizes('7', 3, 1), [7, 7, 7]);
  const drawn = requestSizes('poisson:1', 1000, 1);
  assert.ok(drawn.every((size) => size >= 1) && new Set(drawn).size > 2);
  for (const spec of ['many', '0', '00']) assert.throws(() => requestSizes(spec, 1, 1), UsageError);
});
