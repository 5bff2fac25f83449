import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { IndexArray } from '../../src/embedding/bag.ts';
import { UsageError } from '../../src/errors.ts';
import { measureHotness, nearestPattern } from '../../src/workload/hotness.ts';
import { readTrace } from '../../src/workload/trace.ts';
import { tracePath } from '../support/golden.ts';
import fc from '../support/properties.ts';
import { file, numbers, refuses } from '../support/trace-files.ts';

describe('text traces', () => {
  test('one row index a line', async () => {
    const trace = await readTrace(await file('a.txt', '5\n0\n500000\n5\n'));
    assert.equal(trace.format, 'text');
    assert.deepEqual(trace.streams.map(numbers), [[5, 0, 500_000, 5]]);
  });

  for (const [what, content] of [
    ['CRLF', '1\r\n22\r\n333\r\n'],
    ['no end of the last line', '1\n22\n333'],
    ['no end of the last line after CRLF', '1\r\n22\r\n333\r'],
    ['blank lines at the end', '1\n22\n333\n\n\r\n\n'],
    ['leading zeros', '01\n022\n0333\n'],
  ] as const) {
    test(what, async () => {
      const { streams } = await readTrace(await file('b.txt', content));
      assert.deepEqual(streams.map(numbers), [[1, 22, 333]]);
    });
  }

  test('gzipped, whatever its name', async () => {
    const { streams } = await readTrace(await file('c.log', gzipSync('7\n8\n9\n')));
    assert.deepEqual(streams.map(numbers), [[7, 8, 9]]);
  });

  test('lines that straddle the chunks of a large file', async () => {
    const expected = Array.from({ length: 600_000 }, (_, i) => (i * 7919) % 1_000_003);
    const { streams } = await readTrace(await file('large.txt', `${expected.join('\n')}\n`));
    assert.deepEqual(numbers(streams[0]), expected);
  });

  test('what is written is read back', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(2 ** 31 - 1), { minLength: 1 }),
        fc.constantFrom('\n', '\r\n'),
        fc.boolean(),
        fc.boolean(),
        async (indices, end, ended, zipped) => {
          const text = indices.join(end) + (ended ? end : '');
          const path = await file('round-trip', zipped ? gzipSync(text) : text);
          assert.deepEqual((await readTrace(path)).streams.map(numbers), [indices]);
        },
      ),
      { numRuns: 60 },
    ));

  test('the largest row index', async () => {
    const { streams } = await readTrace(await file('d.txt', `${2 ** 31 - 1}\n`));
    assert.deepEqual(numbers(streams[0]), [2 ** 31 - 1]);
  });
});

describe('bad text traces', () => {
  test('letters name line and value', async () => {
    const error = await refuses('1\n2\n3\n4\n5\n6\nabc\n8\n', 'TRACE_INVALID', /line 7: "abc"/);
    assert.equal(error.details.position, 7);
    assert.equal(error.details.value, 'abc');
  });

  for (const [what, text] of [
    ['negative', '-3'],
    ['decimal', '1.5'],
    ['exponent', '1e3'],
    ['hexadecimal', '0x10'],
    ['2^31', '2147483648'],
    ['2^53 + 1', '9007199254740993'],
    ['40 digits', '1234567890123456789012345678901234567890'],
    ['two numbers', '1 2'],
    ['comma-separated', '1,2'],
    ['non-ASCII digits', '١'],
  ] as const) {
    test(`${what}: ${text}`, async () => {
      const error = await refuses(`4\n${text}\n5\n`, 'TRACE_INVALID', /line 2: /);
      assert.equal(error.details.position, 2);
    });
  }

  test('a carriage return inside a line', () =>
    refuses('1\r2\n', 'TRACE_INVALID', /line 1: /).then(() => {}));

  test('without a line end', () => refuses('4\nx', 'TRACE_INVALID', /line 2: "x"/).then(() => {}));

  test('a long line is not echoed whole', async () => {
    const { message } = await refuses(`1\n${'x'.repeat(3 << 20)}\n`, 'TRACE_INVALID', /line 2: /);
    assert.ok(message.length < 400, `${message.length} characters`);
  });

  for (const [what, content] of [
    ['no bytes', ''],
    ['blank lines alone', '\n\r\n\n'],
    ['gzipped nothing', gzipSync('')],
  ] as const) {
    test(`${what}: empty`, () => refuses(content, 'TRACE_EMPTY', /no lookups/).then(() => {}));
  }

  test('binary', async () => {
    const path = await file(
      'binary.txt',
      Uint8Array.from({ length: 4096 }, (_, i) => i * 31),
    );
    await assert.rejects(readTrace(path), { code: 'FORMAT_UNKNOWN', message: /binary file.*not a trace/ });
  });

  test('floating-point numbers, as numpy.savetxt writes them', async () => {
    const error = await refuses('3.0e+00\n4.0e+00\n', 'TRACE_INVALID', /line 1: "3.0e\+00"/);
    assert.match(error.hint, /fmt='%d'/);
  });

  test('no such file', () =>
    assert.rejects(
      readTrace('/nowhere/trace.txt'),
      (error) => error instanceof UsageError && error.code === 'FILE_NOT_FOUND',
    ));

  test('truncated gzip', async () => {
    const whole = gzipSync(Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 500_000).join('\n'));
    const path = await file('cut.gz', whole.subarray(0, whole.length / 2));
    await assert.rejects(readTrace(path), { code: 'GZIP_INVALID' });
  });
});

describe("the artifact's traces", () => {
  for (const [name, pattern, lookups, distinct, covered] of [
    ['med_hot.500K.txt', 'med_hot', 429_951, 102_524, [0.0105, 0.03, 0.111, 0.288, 0.618, 0.935]],
    ['low_hot.500K.txt', 'low_hot', 379_910, 231_073, [0.0036, 0.0136, 0.043, 0.106, 0.26, 0.521]],
  ] as const) {
    const path = tracePath(name);
    test(name, { skip: path === undefined ? `${name} is not on this machine` : false }, async () => {
      const { streams } = await readTrace(path as string);
      const [stream] = streams as [IndexArray];
      const hotness = measureHotness(stream);
      assert.equal(hotness.lookups, lookups);
      assert.equal(hotness.distinct, distinct);
      const batch = measureHotness(stream.subarray(0, 307_200));
      batch.coverage.forEach(({ share }, i) => {
        // The published shares are rounded to a tenth of a point.
        assert.ok(Math.abs(share - (covered[i] as number)) < 0.001, `${share}, expected ${covered[i]}`);
      });
      assert.equal(nearestPattern(stream, 500_000).pattern, pattern);
    });
  }
});
