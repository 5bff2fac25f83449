/** Two kinds of work that must not meet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Apart } from '../../src/backend/apart.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

test('one kind goes side by side, the other waits for it, in the order of the calls', async () => {
  const apart = new Apart<'read' | 'write'>();
  const begun: string[] = [];
  const enter = async (name: string, kind: 'read' | 'write') => {
    const turn = await apart.enter(kind);
    begun.push(name);
    return turn;
  };
  const first = await enter('a', 'read');
  const second = await enter('b', 'read');
  const write = enter('c', 'write');
  const late = enter('d', 'read');
  const later = enter('e', 'read');
  await settled();
  assert.deepEqual(begun, ['a', 'b']);
  first[Symbol.dispose]();
  await settled();
  assert.deepEqual(begun, ['a', 'b']);
  second[Symbol.dispose]();
  await settled();
  assert.deepEqual(begun, ['a', 'b', 'c']);
  (await write)[Symbol.dispose]();
  await settled();
  assert.deepEqual(begun, ['a', 'b', 'c', 'd', 'e']);
  const last = enter('f', 'write');
  (await late)[Symbol.dispose]();
  await settled();
  assert.equal(begun.includes('f'), false);
  (await later)[Symbol.dispose]();
  (await last)[Symbol.dispose]();
  assert.equal(apart.enter('read') instanceof Promise, false);
});
