/** Checks of callers' values: at each bound and past it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Check,
  called,
  deepFrozen,
  finite,
  flag,
  listOf,
  membersOf,
  oneOf,
  optional,
  path,
  reading,
  someOf,
  text,
  whole,
} from '../../src/checks/value.ts';
import { FormatError, UsageError } from '../../src/errors.ts';

const AT = 'call: option';

function takes<T>(check: Check<T>, values: readonly T[]): void {
  for (const value of values) assert.deepEqual(check(value, AT), value);
}

function refuses(check: Check<unknown>, values: readonly unknown[]): void {
  for (const value of values)
    assert.throws(() => check(value, AT), { code: 'OPTION_INVALID', name: 'UsageError' });
}

test('whole numbers, from the least to the most', () => {
  takes(whole(2, 5), [2, 3, 5]);
  refuses(whole(2, 5), [1, 6, 2.5, Number.NaN, Number.POSITIVE_INFINITY, '3', 3n, null, undefined]);
  takes(whole(), [0, Number.MAX_SAFE_INTEGER]);
  refuses(whole(), [-1, Number.MAX_SAFE_INTEGER + 1]);
  assert.ok(Object.is(whole()(-0, AT), 0));
});

test('finite numbers, flags, strings, names of files, some strings', () => {
  takes(finite, [-1.5, 0, Number.MAX_VALUE]);
  refuses(finite, [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, '1', 1n]);
  takes(flag, [true, false]);
  refuses(flag, [0, 'true', undefined]);
  takes(text, ['', 'a']);
  refuses(text, [1, undefined]);
  takes(path, ['a', '/b c']);
  refuses(path, ['a\0b', '\0', 7]);
  takes(oneOf(['a', 'b']), ['a', 'b']);
  refuses(oneOf(['a', 'b']), ['c', 'constructor', undefined]);
});

test('functions that can be called, which classes cannot', () => {
  const plain = () => 1;
  assert.equal(called()(plain, AT), plain);
  refuses(called(), [class A {}, class {}, {}, 'f', undefined]);
});

test('lists and members are new ones, each entry and member checked, others refused', () => {
  const given = [1, 2];
  const own = listOf(whole())(given, AT);
  assert.deepEqual(own, given);
  assert.notEqual(own, given);
  refuses(listOf(whole()), [[1, -1], {}, 'ab', undefined]);
  const members = membersOf<{ a: number; b?: number }>({ a: whole(), b: optional(whole()) });
  takes(members, [{ a: 1 }, { a: 1, b: 2 }]);
  assert.deepEqual(members({ a: 1, b: undefined } as never, AT), { a: 1 });
  refuses(members, [{}, { a: -1 }, { a: 1, b: -1 }, { a: 1, c: 1 }, [], null, 'a']);
  assert.throws(() => members({ a: 1, bb: 2 }, 'call'), { message: 'call: there is no "bb"' });
  assert.deepEqual(someOf<{ a: number }>({ a: whole() })({ a: 1, c: 2 }, AT), { a: 1 });
});

test('what a caller throws while it is read has the cause; what Hotrow throws stays', () => {
  const cause = new Error('theirs');
  const throwing = (error: Error) => () =>
    reading(AT, () => {
      throw error;
    });
  assert.throws(
    throwing(cause),
    (error) => error instanceof UsageError && error.code === 'OPTION_INVALID' && error.cause === cause,
  );
  const own = new FormatError('JSON_INVALID', 'ours');
  assert.throws(throwing(own), (error) => error === own);
});

test('plain data is frozen all through', () => {
  const value = deepFrozen({ list: [{ a: 1 }], own: { b: { c: 2 } } });
  for (const part of [value, value.list, value.list[0], value.own, value.own.b])
    assert.ok(Object.isFrozen(part));
});
