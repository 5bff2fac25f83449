import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { AccessPatternName } from '../../src/workload/access-patterns.ts';
import { createStream } from '../../src/workload/access-patterns.ts';
import { BATCH_LOOKUPS, countRows, measureHotness, nearestPattern } from '../../src/workload/hotness.ts';
import { readTrace } from '../../src/workload/trace.ts';
import { tracePath } from '../support/golden.ts';

/** The same figures with a Map. */
function naive(indices: readonly number[], k: number) {
  const counts = new Map<number, number>();
  for (const index of indices) counts.set(index, (counts.get(index) ?? 0) + 1);
  const sorted = [...counts].sort(([rowA, a], [rowB, b]) => b - a || rowA - rowB);
  const covered = sorted.slice(0, k).reduce((sum, [, count]) => sum + count, 0);
  return { sorted, covered };
}

describe('hotness', () => {
  test('agrees with a Map, for small tables and for rows beyond any array', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(20), fc.constant(2 ** 31 - 1)), { minLength: 1 }),
        fc.integer({ min: 1, max: 30 }),
        (indices, k) => {
          const { sorted, covered } = naive(indices, k);
          const wide = BigInt64Array.from(indices, BigInt);
          const { rows, counts } = countRows(wide);
          assert.deepEqual(
            [...rows].map((row, i) => [row, counts[i]]),
            sorted,
          );
          const hotness = measureHotness(wide, [k]);
          assert.equal(hotness.distinct, sorted.length);
          assert.equal(hotness.coverage[0]?.share, covered / indices.length);
          for (const { from, to, rows: inBucket } of hotness.reuse) {
            assert.equal(inBucket, sorted.filter(([, count]) => count >= from && count <= to).length);
          }
          assert.equal(
            hotness.reuse.reduce((sum, bucket) => sum + bucket.rows, 0),
            sorted.length,
          );
        },
      ),
    );
  });

  test('nothing looked up', () => {
    const { lookups, distinct, distinctShare } = measureHotness(new Int32Array(0));
    assert.deepEqual({ lookups, distinct, distinctShare }, { lookups: 0, distinct: 0, distinctShare: 0 });
  });

  test('the nearest pattern of a pattern is itself', () => {
    for (const pattern of ['one_item', 'high_hot', 'med_hot', 'low_hot', 'random'] as AccessPatternName[]) {
      const indices = createStream(pattern, { rows: 500_000, seed: 99 })(BATCH_LOOKUPS);
      assert.equal(nearestPattern(indices, 500_000).pattern, pattern);
    }
  });

  const traces = {
    'med_hot.500K.txt': [429_951, 102_524, 'med_hot'],
    'low_hot.500K.txt': [379_910, 231_073, 'low_hot'],
  } as const;
  for (const [name, [lookups, distinct, pattern]] of Object.entries(traces)) {
    const file = tracePath(name);
    test(`the recorded trace ${name}`, {
      skip: file === undefined && 'the recorded traces are not here',
    }, async () => {
      const [stream] = (await readTrace(file as string)).streams;
      assert.ok(stream);
      const hotness = measureHotness(stream);
      assert.equal(hotness.lookups, lookups);
      assert.equal(hotness.distinct, distinct);
      assert.equal(nearestPattern(stream, 500_000).pattern, pattern);
    });
  }
});
