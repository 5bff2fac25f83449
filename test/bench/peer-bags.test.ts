import assert from 'node:assert/strict';
import { test } from 'node:test';
import { peerBags } from '../../src/bench/peer-bags.ts';
import type { BagBatch } from '../../src/embedding/bag.ts';
import { numbers } from '../support/trace-files.ts';
import { expandUsers } from '../support/users.ts';

const own = { indices: Int32Array.of(1, 2, 3, 4, 5), offsets: Int32Array.of(0, 1, 2, 3, 4) };

test('bags of users are repeated for their samples', () => {
  for (const common of [
    { indices: Int32Array.of(7, 8, 9), offsets: Int32Array.of(0, 2, 2) },
    { indices: BigInt64Array.of(7n, 8n, 9n), offsets: BigInt64Array.of(0n, 2n, 2n, 3n) },
  ]) {
    const bags = [{ ...common, perUser: true }, own];
    const batch: BagBatch = { batchSize: 5, users: Int32Array.of(0, 3, 3, 5), bags };
    const [first, second] = peerBags(batch);
    assert.deepEqual(numbers(first?.indices), [7, 8, 7, 8, 7, 8, 9, 9]);
    assert.deepEqual(numbers(first?.offsets), [0, 2, 4, 6, 7]);
    assert.deepEqual(numbers(first?.indices), numbers(expandUsers(batch).bags[0]?.indices));
    assert.equal(second, own);
  }
});

test('weighted lookups are refused', () => {
  const weighted = { ...own, weights: new Float32Array(5) };
  assert.throws(() => peerBags({ batchSize: 5, bags: [weighted] }), /weights/);
});
