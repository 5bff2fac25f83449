/** Copies of neighbours, which are one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCopy, type DirectCopy } from '../../../../src/backend/cuda/memory/direct-copies.ts';

const [home, other] = [{ of: 'one' }, { of: 'another' }] as unknown as [
  DirectCopy['home'],
  DirectCopy['home'],
];
const copy = (from: number, to: number, bytes: number, own = home): DirectCopy => ({
  home: own,
  from,
  to,
  bytes,
});

function added(...copies: readonly DirectCopy[]): DirectCopy[] {
  const all: DirectCopy[] = [];
  for (const one of copies) addCopy(all, { ...one });
  return all;
}

test('what lies side by side here and there is one copy, with what is between', () => {
  assert.deepEqual(added(copy(0, 100, 8), copy(8, 108, 4)), [copy(0, 100, 12)]);
  assert.deepEqual(added(copy(0, 100, 8), copy(16, 116, 4)), [copy(0, 100, 20)]);
  assert.deepEqual(added(copy(0, 100, 8), copy(8, 108, 4), copy(12, 112, 4)), [copy(0, 100, 16)]);
});

test('what lies apart, before, or in other memory is another', () => {
  for (const second of [copy(8, 112, 4), copy(16, 108, 4), copy(8, 108, 4, other)])
    assert.deepEqual(added(copy(0, 100, 8), second), [copy(0, 100, 8), second]);
  assert.deepEqual(added(copy(8, 108, 4), copy(0, 100, 8)), [copy(8, 108, 4), copy(0, 100, 8)]);
});
