import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Deferred, deferred } from '../src/deferred.ts';
import { eachAtOnce } from '../src/each-at-once.ts';

/** Works that wait until the test ends them. */
function works() {
  const open = new Map<number, Deferred<void>>();
  const begun: number[] = [];
  const work = (thing: number) => {
    begun.push(thing);
    const own = deferred<void>();
    open.set(thing, own);
    return own.promise;
  };
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const end = async (thing: number, error?: Error) => {
    if (error === undefined) open.get(thing)?.resolve();
    else open.get(thing)?.reject(error);
    await turn();
  };
  return { begun, work, end };
}

test('so many are under way, and each is begun once', async () => {
  const { begun, work, end } = works();
  const all = eachAtOnce([0, 1, 2, 3], 2, work);
  assert.deepEqual(begun, [0, 1]);
  await end(1);
  assert.deepEqual(begun, [0, 1, 2]);
  await end(0);
  await end(2);
  await end(3);
  await all;
  assert.deepEqual(begun, [0, 1, 2, 3]);
  await eachAtOnce([], 2, work);
});

test('after a failure none is begun, and it is told when the others have ended', async () => {
  const { begun, work, end } = works();
  let isOver = false;
  const all = eachAtOnce([0, 1, 2], 2, work).finally(() => {
    isOver = true;
  });
  all.catch(() => {});
  await end(0, new Error('first'));
  assert.equal(isOver, false);
  await end(1, new Error('second'));
  await assert.rejects(all, /first/);
  assert.deepEqual(begun, [0, 1]);
});
