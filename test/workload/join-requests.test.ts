import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import { joinRequests } from '../../src/workload/join-requests.ts';

const request = (dense: readonly number[], ...bags: DlrmRequest['bags']): DlrmRequest => ({
  batchSize: dense.length,
  denseFeatures: 1,
  dense: Float32Array.from(dense),
  bags,
});

test('one request is itself', () => {
  const only = request([1], { indices: Int32Array.of(1), offsets: Int32Array.of(0) });
  assert.equal(joinRequests([only]), only);
});

test('bags keep their lookups, whatever the types and the ends of their offsets', () => {
  const joined = joinRequests([
    request(
      [1, 2],
      // [5], [6, 7]; 8 is of no bag.
      { indices: Int32Array.of(5, 6, 7, 8), offsets: Int32Array.of(0, 1, 3) },
      { indices: Int32Array.of(1, 2), offsets: Int32Array.of(0, 2), weights: Float32Array.of(0.5, 2) },
    ),
    request(
      [3],
      { indices: BigInt64Array.of(9n), offsets: BigInt64Array.of(0n) },
      { indices: Int32Array.of(3), offsets: Int32Array.of(0, 1) },
    ),
    request(
      [4],
      { indices: new Int32Array(0), offsets: Int32Array.of(0) },
      { indices: new Int32Array(0), offsets: Int32Array.of(0, 0), weights: new Float32Array(0) },
    ),
  ]);
  assert.deepEqual(
    joined,
    request(
      [1, 2, 3, 4],
      { indices: BigInt64Array.of(5n, 6n, 7n, 9n), offsets: Int32Array.of(0, 1, 3, 4) },
      {
        indices: Int32Array.of(1, 2, 3),
        offsets: Int32Array.of(0, 2, 2, 3),
        weights: Float32Array.of(0.5, 2, 1),
      },
    ),
  );
});
