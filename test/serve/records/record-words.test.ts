import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  headerBytes,
  RecordWord,
  TableFlag,
  TableWord,
  tableWords,
} from '../../../src/serve/records/record-words.ts';

const HEADER = readFileSync(new URL('../../../kernels/cpu/hotrow_cpu.h', import.meta.url), 'utf8');

/** The value of a constant of the library's header. */
function constant(name: string): number {
  const found = new RegExp(`\\b${name} = (\\d+)`).exec(HEADER);
  assert.ok(found, `${name} is not in hotrow_cpu.h`);
  return Number(found[1]);
}

const snake = (name: string) => name.replace(/([A-Z]|\d+)/g, '_$1').toUpperCase();

test('words and flags are those of the library', () => {
  for (const values of [RecordWord, TableWord, TableFlag]) {
    for (const [name, value] of Object.entries(values))
      assert.equal(value, constant(`HR_REQUEST_${snake(name)}`), name);
  }
  assert.equal(tableWords(0), constant('HR_REQUEST_WORDS'));
  assert.equal(tableWords(3) - tableWords(2), constant('HR_REQUEST_TABLE_WORDS'));
  assert.deepEqual([headerBytes(0), headerBytes(1), headerBytes(2)], [64, 64, 128]);
});
