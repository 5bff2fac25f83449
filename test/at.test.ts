import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../src/at.ts';

test('at gives the entry, and throws where there is none', () => {
  assert.equal(at(['a', 'b'], 1), 'b');
  assert.equal(at(Int32Array.of(4, 5), 0), 4);
  for (const index of [-1, 2, 0.5, Number.NaN])
    assert.throws(() => at(['a', 'b'], index), new RangeError(`a list of 2 has no entry ${index}`));
});
