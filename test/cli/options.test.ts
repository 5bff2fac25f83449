/** Values of options that are none, as users and scripts type them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { duration, integer, percentage, withStrictOptions } from '../../src/cli/options.ts';

test('whole numbers are digits alone', () => {
  assert.equal(integer(0)('0'), 0);
  assert.equal(integer(1)('9007199254740991'), 2 ** 53 - 1);
  for (const text of [
    '',
    ' ',
    '-1',
    '+1',
    '0x10',
    '1e3',
    '1.0',
    '2.5',
    'NaN',
    '1e400',
    '9007199254740992',
    '١',
    '1_000',
    'Infinity',
  ])
    assert.throws(() => integer(0)(text), InvalidArgumentError, text);
  assert.throws(() => integer(1)('0'), InvalidArgumentError);
  assert.equal(integer(1, 64)('64'), 64);
  assert.throws(() => integer(1, 64)('65'), { message: 'a whole number from 1 to 64 is needed.' });
});

test('percentages and times are finite', () => {
  assert.equal(percentage('2%'), 0.02);
  assert.equal(duration('500ms'), 0.5);
  for (const text of ['', '-1', 'NaN', '1e400', '9'.repeat(400)]) {
    assert.throws(() => percentage(text), InvalidArgumentError, text);
    assert.throws(() => duration(text), InvalidArgumentError, text);
  }
  assert.throws(() => duration('0s'), InvalidArgumentError);
  // A timer would fire at once.
  assert.ok(1000 * duration(`${24 * 1440}m`) < 2 ** 31);
  assert.throws(() => duration(`${24 * 1440 + 1}m`), InvalidArgumentError);
});

test('options have a value, and one only', () => {
  const parse = (...args: string[]) => {
    const command = new Command('it')
      .option('--batch <n>')
      .option('--trace <file...>')
      .option('--hash')
      .addOption(new Option('--format <format>').choices(['table', 'json']))
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    return withStrictOptions(command).parse(args, { from: 'user' }).opts();
  };
  assert.deepEqual(parse('--batch', '1', '--trace', 'a', 'b', '--trace', 'c', '--hash', '--hash'), {
    batch: '1',
    trace: ['a', 'b', 'c'],
    hash: true,
  });
  for (const args of [
    ['--batch', '1', '--batch', '2'],
    ['--batch=1', '--batch=1'],
    ['--batch', ''],
    ['--batch='],
    ['--trace', 'a', ''],
    ['--format', 'xml'],
    ['--format', 'JSON'],
  ])
    assert.throws(() => parse(...args), CommanderError, args.join(' '));
});
