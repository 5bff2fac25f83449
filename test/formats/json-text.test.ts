/** What is refused of a JSON text before and after it is parsed. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { JsonFault, parseJson } from '../../src/formats/json-text.ts';

const refuses = (text: string, message: RegExp, duplicate?: string) =>
  assert.throws(
    () => parseJson(text),
    (error: unknown) => {
      assert.ok(error instanceof JsonFault, String(error));
      assert.match(error.message, message);
      assert.equal(error.duplicate, duplicate);
      return true;
    },
  );

describe('parseJson', () => {
  test('gives what JSON.parse gives', () => {
    for (const text of [
      '1',
      '"a"',
      '[]',
      '{"a":{"a":1},"b":[{"a":2},{"a":3}]}',
      '{"a":{"b":1},"b":{"a":2},"c":3}',
      '{"a\\"":1,"a":2}',
      '["a","a",{"a":":"}]',
    ])
      assert.deepEqual(parseJson(text), JSON.parse(text));
  });
  test('keys that stand twice, however they are written', () => {
    refuses('{"a":1,"b":2,"a":3}', /"a" stands twice/, 'a');
    refuses('{"a":1,"\\u0061":3}', /"a" stands twice/, 'a');
    refuses('[{"b":{"c":1,"c":[]}}]', /"c" stands twice/, 'c');
    refuses(`{"${'k'.repeat(9999)}":1,"${'k'.repeat(9999)}":1}`, /^.{1,150}$/, 'k'.repeat(9999));
  });
  test('keys that stand twice among many', () => {
    for (const many of [7, 8, 9, 10, 100]) {
      const keys = Array.from({ length: many }, (_, i) => `"k${i}":[{"k${i}":1}]`);
      parseJson(`{${keys}}`);
      parseJson(`[{${keys}},{${keys}}]`);
      for (let i = 0; i < many; i++) refuses(`{${keys},"k${i}":1}`, /twice/, `k${i}`);
      refuses(`{${keys},"new":1,"new":1}`, /twice/, 'new');
    }
  });
  test('nesting without end', () => {
    parseJson('['.repeat(64) + ']'.repeat(64));
    refuses('['.repeat(65) + ']'.repeat(65), /nested more than 64 deep/);
    refuses('{"a":'.repeat(100_000), /nested more than 64 deep/);
  });
  test('lists, objects and values without end', () => {
    refuses(`[${'{},'.repeat(1 << 22)}{}]`, /more than 4194304 lists and objects/);
    refuses(`[${'0,'.repeat(1 << 24)}0]`, /more than 16777214 values/);
  });
  test('texts that are no JSON', () => {
    for (const text of [
      '',
      '{',
      '{"a"',
      '{"a":1,"a"',
      '"\\',
      '[1,]',
      '{a:1,a:2}',
      '\\u0061:',
      ']]]',
      '{"\\x":1,"\\x":2}',
    ])
      refuses(text, /JSON|Unexpected|Expected|Unterminated|Bad/);
  });
});
