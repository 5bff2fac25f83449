import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { UsageError } from '../../src/errors.ts';
import { bagOffsets, drawBagLengths, parseBagLengths, totalLookups } from '../../src/workload/bag-lengths.ts';
import { createRandom } from '../../src/workload/random.ts';
import fc from '../support/properties.ts';

const draw = (spec: string, count = 20_000) => drawBagLengths(parseBagLengths(spec), count, createRandom(1));
const mean = (lengths: Int32Array) => totalLookups(lengths) / lengths.length;

describe('bag lengths', () => {
  test('fixed', () => assert.deepEqual([...draw('150', 3)], [150, 150, 150]));

  test('uniform covers its range, both ends included', () => {
    const lengths = draw('uniform:2:5');
    assert.deepEqual([...new Set(lengths)].sort(), [2, 3, 4, 5]);
  });

  test('poisson has its mean and variance, small and large', () => {
    for (const expected of [0.5, 20, 1200]) {
      const lengths = draw(`poisson:${expected}`);
      const average = mean(lengths);
      // Five standard errors of the mean.
      assert.ok(
        Math.abs(average - expected) < 5 * Math.sqrt(expected / lengths.length),
        `mean ${average} of ${expected}`,
      );
      const variance = lengths.reduce((sum, length) => sum + (length - average) ** 2, 0) / lengths.length;
      assert.ok(Math.abs(variance / expected - 1) < 0.1, `variance ${variance} of ${expected}`);
    }
  });

  test('geometric has its mean and variance', () => {
    for (const expected of [0, 0.5, 20, 1200]) {
      const lengths = draw(`geometric:${expected}`);
      const average = mean(lengths);
      const deviation = Math.sqrt(expected * (1 + expected));
      assert.ok(
        Math.abs(average - expected) <= (5 * deviation) / Math.sqrt(lengths.length),
        `mean ${average} of ${expected}`,
      );
      const variance = lengths.reduce((sum, length) => sum + (length - average) ** 2, 0) / lengths.length;
      // The standard error of a geometric variance is some 2 % here.
      assert.ok(Math.abs(variance - deviation ** 2) <= 0.1 * deviation ** 2, `variance ${variance}`);
    }
  });

  test('a batch of more lookups than arrays hold is refused', () => {
    const lengths = drawBagLengths(parseBagLengths('1000000'), 3000, createRandom(1));
    assert.throws(
      () => totalLookups(lengths),
      (error: unknown) => error instanceof UsageError && /3000000000 lookups/.test(error.message),
    );
  });

  test('zipf falls with the length', () => {
    const lengths = draw('zipf:1:100');
    const count = (length: number) => lengths.filter((drawn) => drawn === length).length;
    assert.ok(count(1) > count(2) && count(2) > count(8));
    assert.ok(Math.min(...lengths) === 1 && Math.max(...lengths) <= 100);
    // P(1) = 1 / H(100) = 0.1928.
    assert.ok(Math.abs(count(1) / lengths.length - 0.1928) < 0.015);
  });

  test('what is not understood is refused with the forms that are', () => {
    for (const spec of [
      '',
      'many',
      '-1',
      '1.5',
      '1:2',
      'uniform:5:2',
      'uniform:1',
      'poisson',
      'poisson:-1',
      'poisson:x',
      'zipf:1',
      'zipf:1:0',
      '99999999',
      '0x10',
      '1e3',
      ' 5 ',
      '150:',
      'poisson:1e3',
      'uniform:1:2:3',
      'geometric',
      'geometric:-1',
      'zipf:NaN:3',
      'constructor',
    ]) {
      assert.throws(
        () => parseBagLengths(spec),
        (error: unknown) => error instanceof UsageError && /uniform:1:300/.test(error.hint ?? ''),
        spec,
      );
    }
  });

  test('what is wrong is said', () => {
    for (const [spec, why] of [
      ['uniform:5:2', /shortest, 5, is longer than the longest, 2/],
      ['uniform:1', /the longest is missing/],
      ['poisson:x', /the mean must be a number from 0 to/],
      ['zipf:1:0', /the longest is 0/],
      ['x'.repeat(100_000), /neither a whole number nor a known distribution/],
    ] as const) {
      assert.throws(
        () => parseBagLengths(spec),
        (error: unknown) =>
          error instanceof UsageError && why.test(error.message) && error.message.length < 200,
      );
    }
  });

  test('offsets are running sums', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50)), (lengths) => {
        const offsets = bagOffsets(Int32Array.from(lengths));
        lengths.forEach((length, b) => {
          const next = offsets[b + 1] ?? BigInt(lengths.reduce((sum, value) => sum + value, 0));
          assert.equal(next - (offsets[b] as bigint), BigInt(length));
        });
        if (lengths.length > 0) assert.equal(offsets[0], 0n);
      }),
    );
  });
});

test('bounds of lengths and lookups, at them and past them by one', () => {
  assert.equal(totalLookups(Int32Array.of(2 ** 31 - 2, 1)), 2 ** 31 - 1);
  assert.throws(() => totalLookups(Int32Array.of(2 ** 31 - 1, 1)), { code: 'USAGE' });
  assert.equal(parseBagLengths('uniform:4:4').draw(createRandom(1)), 4);
  assert.throws(() => parseBagLengths('uniform:5:4'), { code: 'USAGE', message: /longer than the longest/ });
  for (const spec of ['0', '1000000', 'uniform:0:1000000', 'zipf:20:1']) parseBagLengths(spec);
  for (const spec of ['1000001', 'uniform:0:1000001', 'zipf:20:0', 'zipf:20.1:5', 'poisson:1000000.5', '-1'])
    assert.throws(() => parseBagLengths(spec), { code: 'USAGE' }, spec);
});
