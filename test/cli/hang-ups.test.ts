import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { HangUps } from '../../src/cli/hang-ups.ts';
import { deferred } from '../../src/deferred.ts';

/** Sends this process the signal, and waits until it has come. */
async function hangUp(): Promise<void> {
  const come = once(process, 'SIGHUP');
  // Signals that are waited for keep no process alive.
  const alive = setInterval(() => {}, 1000);
  process.kill(process.pid, 'SIGHUP');
  await come;
  clearInterval(alive);
}

test('what comes before anybody heeds it counts once; it ends no process until the last', async () => {
  const listeners = process.listenerCount('SIGHUP');
  {
    using hangUps = new HangUps();
    let renewals = 0;
    await hangUp();
    await hangUp();
    hangUps.heed(async () => {
      renewals += 1;
    });
    assert.equal(renewals, 1);
    await hangUp();
    assert.equal(renewals, 2);
    hangUps.ignore();
    await hangUp();
    assert.equal(renewals, 2);
  }
  assert.equal(process.listenerCount('SIGHUP'), listeners);
});

test('where nothing came, nothing is renewed at the start', () => {
  using hangUps = new HangUps();
  hangUps.heed(() => assert.fail('nobody asked'));
});

test('a renewal runs alone: what comes meanwhile counts once more, and others do not wait for it', async () => {
  using hangUps = new HangUps();
  const { promise: isRead, resolve: read } = deferred<void>();
  let slow = 0;
  let quick = 0;
  const isDone = deferred<void>();
  hangUps.heed(
    async () => {
      slow += 1;
      if (slow === 1) await isRead;
      else isDone.resolve();
    },
    async () => {
      quick += 1;
    },
  );
  for (let i = 0; i < 3; i++) await hangUp();
  assert.deepEqual([slow, quick], [1, 3]);
  read();
  await isDone.promise;
  await hangUp();
  assert.deepEqual([slow, quick], [3, 4]);
});
