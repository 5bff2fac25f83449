/** Text of files, as it is shown: nothing in it steers a terminal, and it is of bounded length. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeviceError, FormatError } from '../src/errors.ts';
import { printable, printableJson, printableLines } from '../src/text.ts';
import fc from './support/properties.ts';
import { UNPRINTABLE } from './support/text.ts';

/** Text as attackers make it. */
const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom(
      '\x1b]0;title\x07',
      '\x1b[2J',
      '\x1b]52;c;eA==\x1b\\',
      '\x1b]8;;http://x\x1b\\',
      '\x9b31m',
    ),
    fc.constantFrom(
      '\0',
      '\n',
      '\r',
      '\b',
      '\x7f',
      '\u0085',
      '\u2028',
      '\u202e',
      '\u2066',
      '\ud800',
      '\udc00',
    ),
    fc.string({ unit: 'binary' }),
    fc.string({ unit: 'grapheme' }),
  ),
});

test('examples', () => {
  for (const [text, shown] of [
    ['emb_l.0.weight', 'emb_l.0.weight'],
    ['Größe – 大小 😀 👩‍👩‍👧', 'Größe – 大小 😀 👩‍👩‍👧'],
    ['\x1b[2J\x07', '\\x1b[2J\\x07'],
    ['a\nb\r\tc', 'a\\nb\\r\\tc'],
    ['\u009b\u202ex\u2028', '\\x9b\\u202ex\\u2028'],
    ['\ud83dx\ude00', '\\ud83dx\\ude00'],
    ['\u{e0041}', '\\u{e0041}'],
    ['C:\\new', 'C:\\new'],
  ] as const)
    assert.equal(printable(text), shown);
  assert.equal(printable('x'.repeat(200)), 'x'.repeat(200));
  assert.equal(printable(`begin${'x'.repeat(1000)}end`, 10), 'beginxx…(998 characters left out)…end');
  assert.equal(printable('😀'.repeat(10), 5), '😀😀…(16 characters left out)…');
});

test('is one printable line of bounded length, and the same again', () => {
  fc.assert(
    fc.property(hostile, fc.integer({ min: 1, max: 300 }), (text, most) => {
      const shown = printable(text, most);
      assert.doesNotMatch(shown, UNPRINTABLE);
      assert.ok(!shown.includes('\n'));
      assert.ok(shown.length <= 9 * most + 50);
      assert.equal(printable(shown, 4000), shown);
      assert.doesNotMatch(printableLines(text, most), UNPRINTABLE);
    }),
  );
});

test('JSON stays the same value', () => {
  fc.assert(
    fc.property(fc.dictionary(hostile, hostile), (value) => {
      const json = printableJson(value);
      assert.doesNotMatch(json, UNPRINTABLE);
      assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(value)));
    }),
  );
});

test('errors: message, hint and what is added later are lines; logs keep theirs; details are as they are', () => {
  fc.assert(
    fc.property(hostile, hostile, (name, log) => {
      const error = new FormatError('JSON_INVALID', `key ${name}`, { hint: name, tensor: name }).inFile(name);
      for (const text of [error.message, error.hint]) {
        assert.doesNotMatch(text, UNPRINTABLE);
        assert.ok(!text.includes('\n'));
      }
      assert.equal(error.details.tensor, name);
      const failed = new DeviceError('KERNEL_COMPILE_FAILED', `kernel ${name}`, { log: `1${log}\n2` });
      assert.doesNotMatch(failed.message, UNPRINTABLE);
      assert.ok(failed.message.endsWith('\n2'));
    }),
  );
});

test('30 MB of name take no more than their cut', () => {
  const name = '\x1b[31m'.repeat(6_000_000);
  const { message } = new FormatError('JSON_INVALID', `m.json: the key ${name} is not a member`).ofTensor(
    name,
  );
  assert.ok(message.length < 12_000);
  assert.match(message, /^tensor .* characters left out.*m\.json: the key .* is not a member$/);
});

test('no character is cut in two, wherever the middle is left out', () => {
  for (let most = 10; most < 20; most++)
    for (const text of ['😀'.repeat(30), `a${'😀'.repeat(30)}`]) {
      const shown = printable(text, most);
      assert.doesNotMatch(
        shown,
        /\\u|[\ud800-\udfff](?![\udc00-\udfff])(?<![\ud800-\udbff][\udc00-\udfff])/,
        `${most}`,
      );
      const [, left] = /\((\d+) characters/.exec(shown) ?? [];
      const kept = shown.replace(/…\(.*\)…/, '');
      assert.equal(Number(left) + kept.length, text.length);
    }
  assert.equal(printable('ab'.repeat(5), 10), 'ab'.repeat(5));
  assert.match(printable('ab'.repeat(5), 9), /characters left out/);
});
