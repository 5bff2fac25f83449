import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { InFlight } from '../../src/backend/in-flight.ts';

test('closing waits for all calls under way, also for those that fail, and refuses others', async () => {
  let givenBack = 0;
  const calls = new InFlight('a model', () => givenBack++);
  const ends: (() => void)[] = [];
  const call = async (work = () => new Promise<number>((resolve) => ends.push(() => resolve(7)))) => {
    using _call = calls.enter();
    return await work();
  };
  const [first, second] = [call(), call()];
  const third = call(() => new Promise((_, reject) => ends.push(() => reject(new Error('no')))));
  let closed = false;
  const closing = calls.close().then(() => {
    closed = true;
  });
  await assert.rejects(call(), { code: 'DISPOSED', message: /a model was used after it was closed/ });
  assert.equal(ends.length, 3, 'what is refused does not run');
  for (const end of ends) {
    await setImmediate();
    assert.deepEqual([closed, givenBack], [false, 0]);
    end();
  }
  assert.deepEqual([await first, await second], [7, 7]);
  await assert.rejects(third, /no/);
  await Promise.all([closing, calls.close()]);
  assert.equal(givenBack, 1);
});

test('what has nothing under way is closed at once', async () => {
  let givenBack = 0;
  const calls = new InFlight('a model', () => givenBack++);
  calls.enter()[Symbol.dispose]();
  calls.end();
  await calls.close();
  assert.equal(givenBack, 1);
  assert.throws(() => calls.checkOpen(), { code: 'DISPOSED' });
});
