/** What becomes of clients that watch, also of those that come or go at the wrong moment. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { type Deferred, deferred } from '../../../src/deferred.ts';
import { Watchers } from '../../../src/serve/http/watchers.ts';

/** A response that remembers what it is told. */
class Told extends EventEmitter {
  readonly said: string[] = [];
  writableLength = 0;
  destroyed = false;

  writeHead(status: number, headers: Readonly<Record<string, string>>): void {
    this.said.push(`${status} ${headers['content-type']} ${headers.vary}`);
  }

  write(text: string): void {
    this.said.push(text);
  }

  end(): void {
    this.said.push('end');
    this.emit('close');
  }

  destroy(): void {
    this.destroyed = true;
    this.said.push('destroyed');
    this.emit('close');
  }
}

function watchers() {
  const joins: Deferred<string>[] = [];
  let left = 0;
  const own = new Watchers({
    join: () => {
      const join = deferred<string>();
      joins.push(join);
      return join.promise;
    },
    leave: () => {
      left += 1;
    },
  });
  const watch = (response = new Told()) => {
    const watching = own.watch(response as unknown as ServerResponse, { vary: 'origin' });
    return { response, watching, join: joins.at(-1) as Deferred<string> };
  };
  return { own, watch, left: () => left };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const HEAD = '200 text/event-stream origin';

test('each is sent its first event and all that follow, until it goes', async () => {
  const { own, watch, left } = watchers();
  const { response, watching, join } = watch();
  own.send('too early');
  join.resolve('first');
  await turn();
  own.send('second');
  assert.equal(left(), 0);
  response.destroy();
  await watching;
  assert.equal(left(), 1);
  own.send('third');
  assert.deepEqual(response.said, [HEAD, 'first', 'second', 'destroyed']);
});

test('one that may not watch has not joined', async () => {
  const { watch, left } = watchers();
  const { response, watching, join } = watch();
  join.reject(new Error('no room'));
  await assert.rejects(watching, { message: 'no room' });
  assert.deepEqual([response.said, left()], [[], 0]);
});

test('one that has gone before its first event leaves again', async () => {
  const { watch, left } = watchers();
  const { response, watching, join } = watch();
  response.destroy();
  join.resolve('first');
  await watching;
  assert.deepEqual([response.said, left()], [['destroyed'], 1]);
});

test('one that does not read is given up, and the others go on', async () => {
  const { own, watch, left } = watchers();
  const [slow, quick] = [watch(), watch()];
  slow.join.resolve('first');
  quick.join.resolve('first');
  await turn();
  slow.response.writableLength = (1 << 20) + 1;
  quick.response.writableLength = 1 << 20;
  own.send('second');
  await slow.watching;
  assert.deepEqual(slow.response.said.slice(2), ['destroyed']);
  assert.deepEqual(quick.response.said.slice(2), ['second']);
  assert.equal(left(), 1);
});

test('when watching ends, it ends for all, also for those that are about to begin', async () => {
  const { own, watch, left } = watchers();
  const [old, late] = [watch(), watch()];
  old.join.resolve('first');
  await turn();
  own.end();
  await old.watching;
  late.join.resolve('first');
  await late.watching;
  for (const { response } of [old, late]) assert.deepEqual(response.said, [HEAD, 'first', 'end']);
  assert.equal(left(), 2);
});
