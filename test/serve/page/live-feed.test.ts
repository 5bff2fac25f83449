/** Events are made while somebody watches, once for all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LiveFeed, MOST_WATCHERS } from '../../../src/serve/page/live-feed.ts';

/** A feed whose clock goes when it is told to. */
function feed() {
  const sent: string[] = [];
  const errors: Error[] = [];
  let [reads, isBroken] = [0, false];
  let work: (() => void) | undefined;
  const own = new LiveFeed({
    read: () => {
      if (isBroken) throw new Error('no figures');
      const server = { version: '0.1.0', startedAt: 0, isDraining: false };
      return { at: ++reads, figures: [], server, models: [] };
    },
    send: (thread, text) => sent.push(`${thread} ${atOf(text)}`),
    onError: (error) => errors.push(error),
    every: (_, given) => {
      work = given;
      return () => {
        work = undefined;
      };
    },
  });
  return {
    own,
    errors,
    tick: () => work?.(),
    isRunning: () => work !== undefined,
    breaks: (is: boolean) => {
      isBroken = is;
    },
    reads: () => reads,
    taken: () => sent.splice(0),
  };
}

/** The time of an event, as a reader of the stream finds it. */
function atOf(text: string): number {
  const [, json] = /^data: (.+)\n\n$/.exec(text) ?? [];
  return JSON.parse(json ?? '').at;
}

test('all watchers of all threads are told the same, which is read once', () => {
  const { own, tick, taken, reads } = feed();
  assert.equal(atOf(own.join(0)), 1);
  assert.equal(atOf(own.join(0)), 1);
  assert.equal(atOf(own.join(1)), 1);
  assert.equal(reads(), 1);
  tick();
  assert.deepEqual(taken(), ['0 2', '1 2']);
  assert.equal(atOf(own.join(1)), 2, 'the last event');
  assert.equal(reads(), 2);
});

test('nothing is read when nobody watches', () => {
  const { own, tick, isRunning, reads, taken } = feed();
  assert.equal(isRunning(), false);
  own.join(0);
  own.join(0);
  own.leave(0);
  assert.equal(isRunning(), true);
  own.leave(0);
  assert.equal(isRunning(), false);
  tick();
  assert.deepEqual([reads(), taken()], [1, []]);
  assert.equal(atOf(own.join(3)), 2, 'not what was told before');
  tick();
  assert.deepEqual(taken(), ['3 3']);
});

test('so many watch at once, and no more', () => {
  const { own } = feed();
  for (let i = 0; i < MOST_WATCHERS; i++) own.join(i % 3);
  assert.throws(() => own.join(0), { code: 'OVERLOADED' });
  own.leave(1);
  own.join(0);
  assert.throws(() => own.join(1), { code: 'OVERLOADED' });
});

test('figures that cannot be read are told to the log, and come again', () => {
  const { own, tick, taken, errors, breaks } = feed();
  own.join(0);
  breaks(true);
  tick();
  assert.deepEqual([taken(), errors.length], [[], 1]);
  breaks(false);
  tick();
  assert.deepEqual(taken(), ['0 2']);
  breaks(true);
  own.end();
  assert.throws(() => feedThatBreaks(own), /no figures/);
});

const feedThatBreaks = (own: LiveFeed) => own.join(1);
