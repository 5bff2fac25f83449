import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { UsageError } from '../../src/errors.ts';
import {
  ACCESS_PATTERNS,
  type AccessPatternName,
  accessPattern,
  createStream,
  generateIndices,
} from '../../src/workload/access-patterns.ts';
import { BATCH_LOOKUPS, measureHotness } from '../../src/workload/hotness.ts';
import { createRandom } from '../../src/workload/random.ts';
import { syntheticBags, syntheticRequest } from '../../src/workload/synthetic.ts';
import { definedStream } from './defined-stream.ts';

/**
 * Of the artifact's traces: distinct share of a batch of 307,200 lookups, and the share of it that its K hottest rows
 * cover, K = 10, 100, 1,000, 5,000, 20,000, 60,000.
 */
const RECORDED: Partial<Record<AccessPatternName, { distinct: number; coverage: readonly number[] }>> = {
  med_hot: { distinct: 26.0, coverage: [1.05, 3.0, 11.1, 28.8, 61.8, 93.5] },
  low_hot: { distinct: 66.0, coverage: [0.36, 1.36, 4.3, 10.6, 26.0, 52.1] },
};

describe('access patterns', () => {
  for (const [pattern, { distinct, coverage }] of Object.entries(RECORDED)) {
    for (const seed of [1, 2, 3, 4, 5]) {
      test(`${pattern} has the statistics of its trace, seed ${seed}`, () => {
        const next = createStream(pattern as AccessPatternName, { rows: 500_000, seed });
        for (let batch = 0; batch < 2; batch++) {
          const hotness = measureHotness(next(BATCH_LOOKUPS));
          const off = 100 * hotness.distinctShare - distinct;
          assert.ok(Math.abs(off) < 1, `distinct share is off by ${off} points`);
          hotness.coverage.forEach(({ k, share }, i) => {
            const difference = 100 * share - (coverage[i] as number);
            assert.ok(Math.abs(difference) < 1.5, `coverage of ${k} rows is off by ${difference} points`);
          });
        }
      });
    }
  }

  test('patterns get colder in their order', () => {
    const shares = (Object.keys(ACCESS_PATTERNS) as AccessPatternName[]).map(
      (pattern) =>
        measureHotness(createStream(pattern, { rows: 500_000, seed: 7 })(BATCH_LOOKUPS)).distinctShare,
    );
    assert.deepEqual(
      shares,
      shares.toSorted((a, b) => a - b),
    );
    assert.equal(shares[0], 1 / BATCH_LOOKUPS, 'one_item looks one row up');
    // Uniform draws leave a row out with probability exp(-lookups / rows).
    const expected = (1 - Math.exp(-BATCH_LOOKUPS / 500_000)) * (500_000 / BATCH_LOOKUPS);
    assert.ok(Math.abs((shares[4] as number) - expected) < 0.005);
  });

  test('rows stay inside tables of any size, and equal seeds give equal lookups', () => {
    for (const pattern of Object.keys(ACCESS_PATTERNS) as AccessPatternName[]) {
      for (const rows of [1, 2, 3, 10, 997, 40_000_000, 2 ** 31 - 1, 2 ** 31, 20_000_000_000]) {
        const first = createStream(pattern, { rows, seed: 3 })(2000);
        assert.ok(
          first.every((row) => row >= 0n && row < rows),
          `${pattern}, ${rows} rows`,
        );
        assert.deepEqual(first, createStream(pattern, { rows, seed: 3 })(2000));
      }
    }
  });

  test('lookups are those of the definition', () => {
    for (const pattern of Object.keys(ACCESS_PATTERNS) as AccessPatternName[]) {
      for (const rows of [
        1,
        2,
        999,
        500_000,
        40_000_000,
        2 ** 31,
        2 ** 31 + 1,
        20_000_000_000,
        2 ** 53 - 1,
      ]) {
        // A power of 53 bits before the point is rounded one way here and another way in C.
        if (pattern === 'high_hot' && rows > 2 ** 40) continue;
        for (const seed of [0, 1, 2 ** 32 - 1, 2 ** 40 + 5]) {
          const next = createStream(pattern, { rows, seed });
          const drawn = [...next(700), ...next(300)];
          assert.deepEqual(
            drawn,
            definedStream(pattern, { rows, seed }, 1000),
            `${pattern}, ${rows}, ${seed}`,
          );
        }
      }
    }
  });

  test('a seed gives the lookups that it always gave', () => {
    for (const [pattern, lookups] of Object.entries(FIRST_LOOKUPS)) {
      const drawn = createStream(pattern as AccessPatternName, { rows: 500_000, seed: 1 })(3);
      assert.deepEqual(drawn, BigInt64Array.from(lookups, BigInt), pattern);
    }
  });

  test('every row of a table can be hot: ranks map to rows one to one', () => {
    const rows = 1000;
    const seen = new Set(createStream('random', { rows, seed: 5 })(40_000));
    assert.equal(seen.size, rows);
  });

  test('rows that are no number of rows are refused', () => {
    for (const rows of [0, -5, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(() => createStream('med_hot', { rows, seed: 1 }), UsageError, String(rows));
    }
  });

  test('names are looked up, others are refused with the list', () => {
    assert.equal(accessPattern('low_hot'), 'low_hot');
    for (const name of ['lukewarm', 'constructor', '']) {
      assert.throws(
        () => accessPattern(name),
        (error: unknown) => error instanceof UsageError && /one_item, high_hot/.test(error.hint ?? ''),
      );
    }
  });

  test('indices of a seed are the beginning of its stream', () => {
    const options = { rows: 5000, seed: 4 };
    assert.deepEqual(
      generateIndices({ pattern: 'med_hot', count: 100, ...options }),
      createStream('med_hot', options)(100),
    );
  });

  test('a request has the bags of the first batch, and dense features', () => {
    const shape = {
      tables: [{ rows: 50 }, { rows: 7 }],
      batchSize: 3,
      pattern: 'random',
      bagLengths: 'uniform:0:4',
      seed: 8,
    } as const;
    const request = syntheticRequest({ ...shape, denseFeatures: 5 });
    assert.deepEqual(request.bags, syntheticBags({ ...shape, batches: 1 })[0]?.bags);
    assert.equal(request.dense.length, 15);
    assert.ok(request.dense.every((value) => value >= 0 && value < 1));
  });

  test('tables of a batch have streams of their own, batches go on', () => {
    const [first, second] = syntheticBags({
      tables: [{ rows: 100_000 }, { rows: 100_000 }],
      batchSize: 4,
      pattern: 'random',
      bagLengths: 'uniform:0:5',
      seed: 1,
      batches: 2,
    });
    assert.ok(first && second);
    assert.notDeepEqual(first.bags[0]?.indices, first.bags[1]?.indices);
    assert.notDeepEqual(first.bags[0]?.indices, second.bags[0]?.indices);
    assert.equal(first.bags[0]?.offsets.length, 4);
  });
});

describe('the generator', () => {
  test('gives the sequence it always gave', () => {
    const random = createRandom(1);
    assert.deepEqual([random.uint32(), random.uint32(), random.uint32()], FIRST_OF_SEED_1);
  });

  test('is uniform', () => {
    const random = createRandom(42);
    const buckets = new Array<number>(16).fill(0);
    for (let i = 0; i < 160_000; i++) {
      const bucket = random.integer(16);
      buckets[bucket] = (buckets[bucket] as number) + 1;
    }
    // 10,000 expected each; five standard deviations are 484.
    for (const count of buckets) assert.ok(Math.abs(count - 10_000) < 484, String(buckets));
  });
});

/** Written down once: workloads of a seed must not change between versions. */
const FIRST_OF_SEED_1 = [2442144158, 3238099751, 3819917871];
const FIRST_LOOKUPS: Readonly<Record<AccessPatternName, readonly number[]>> = {
  one_item: [144158, 144158, 144158],
  high_hot: [496857, 389317, 190512],
  med_hot: [150334, 356144, 207197],
  low_hot: [169037, 152142, 36304],
  random: [428546, 399328, 358786],
};
