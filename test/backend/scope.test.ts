/** What a scope has goes at its end, the last first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scope } from '../../src/backend/scope.ts';

test('each part goes once, the last first, also where one fails', () => {
  const gone: string[] = [];
  const part = (name: string, fail = false): Disposable => ({
    [Symbol.dispose]: () => {
      gone.push(name);
      if (fail) throw new Error(`${name} fails`);
    },
  });
  const scope = new Scope();
  const first = part('first');
  assert.equal(scope.use(first), first);
  scope.use(part('second', true));
  scope.use(part('third'));
  assert.deepEqual(gone, []);
  assert.throws(() => scope[Symbol.dispose](), /second fails/);
  assert.deepEqual(gone, ['third', 'second', 'first']);
  scope[Symbol.dispose]();
  assert.equal(gone.length, 3);
});
