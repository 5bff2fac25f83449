import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AccessPatternName } from '../../src/workload/access-patterns.ts';
import { createStream } from '../../src/workload/access-patterns.ts';
import {
  BATCH_LOOKUPS,
  countRows,
  coverageCurve,
  coverageOf,
  measureHotness,
  nearestPattern,
} from '../../src/workload/hotness.ts';
import { readTrace } from '../../src/workload/trace.ts';
import { tracePath } from '../support/golden.ts';
import fc from '../support/properties.ts';

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
          assert.deepEqual({ rows, counts }, countRows(Int32Array.from(indices)));
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

  test('counts beyond 16 bits are ordered too', () => {
    // Row r is looked up 65,530 + 4 · r times, row 9 once.
    const indices = Int32Array.from(
      [0, 1, 2, 3, 4].flatMap((row) => new Array<number>(65_530 + 4 * row).fill(row)).concat(9),
    );
    const { rows, counts } = countRows(indices);
    assert.deepEqual([...rows], [4, 3, 2, 1, 0, 9]);
    assert.deepEqual([...counts], [65_546, 65_542, 65_538, 65_534, 65_530, 1]);
  });

  test('indices that are no rows are refused by position', () => {
    for (const indices of [
      Int32Array.of(1, -3),
      BigInt64Array.of(1n, 2n ** 31n),
      BigInt64Array.of(1n, 2n ** 40n),
    ]) {
      assert.throws(() => countRows(indices), { code: 'TRACE_INVALID', message: /lookup 1: / });
    }
  });

  test('the coverage curve rises to all lookups', () => {
    const counted = countRows(createStream('med_hot', { rows: 10_000, seed: 1 })(50_000));
    const curve = coverageCurve(counted, 20);
    assert.ok(curve.length <= 20 && curve[0]?.k === 1);
    assert.deepEqual(curve.at(-1), { k: counted.rows.length, share: 1 });
    curve.slice(1).forEach(({ k, share }, i) => {
      assert.ok(k > (curve[i]?.k as number) && share >= (curve[i]?.share as number));
    });
    const ks = [50, 0, 7, 10 ** 9];
    assert.deepEqual(
      coverageOf(counted, ks).map(({ k }) => k),
      ks,
    );
    assert.deepEqual(coverageCurve(countRows(new Int32Array(0))), []);
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
