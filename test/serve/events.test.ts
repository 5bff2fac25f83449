/** GET /v2/events of a server: who may watch, and how watching ends. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventsOf } from '../../src/serve/page/browser/event-stream.ts';
import type { LiveEvent } from '../../src/serve/page/live-event.ts';
import { MOST_WATCHERS } from '../../src/serve/page/live-feed.ts';
import { Client, refusal } from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { SEED } from '../support/seed.ts';
import { type Served, saidBy, serve } from '../support/served.ts';
import { inOnePiece } from '../support/serving-cases.ts';

const EVENTS = '/v2/events';

let served: Served;
let client: Client;
before(async () => {
  served = await serve({ ioThreads: 2, drainMs: 2 ** 30 });
  client = new Client(served.port);
});
after(() => served[Symbol.asyncDispose]());

/** One that watches, after its first event. */
async function watcher(port: number, token: string | null = null) {
  const events = eventsOf(`http://127.0.0.1:${port}${EVENTS}`, token);
  const first = await events.next();
  return { events, first: JSON.parse(first.value ?? '') as LiveEvent };
}

test('the page is there, and says how it may be used', async () => {
  const { status, headers, body } = await client.get('/');
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/html; charset=utf-8');
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.match(String(headers['content-security-policy']), /^default-src 'none'; script-src 'sha256-/);
  assert.match(body.toString(), /^<!doctype html>/);
  const head = await client.ask('HEAD', '/');
  assert.deepEqual([head.status, head.body.length], [200, 0]);
  assert.equal(head.headers['content-length'], String(body.length));
});

test('events say what is counted, from thread to thread', async () => {
  const { events, first } = await watcher(served.port);
  assert.equal(first.models[0]?.total.requests.ok, 0);
  assert.equal(first.models[0]?.served?.device.startsWith('cpu: '), true);
  const body = protocolBody(inOnePiece(saidBy(new Random(SEED), 3)));
  for (let i = 0; i < 20; i++) assert.equal((await client.infer('rows', body)).status, 200);
  for (;;) {
    const [model] = (JSON.parse((await events.next()).value ?? '') as LiveEvent).models;
    if (model?.total.requests.ok !== 20) continue;
    assert.equal(model.total.samples, 60);
    assert.equal(model.recent?.requests.ok, 20);
    assert.ok((model.recent?.latency?.p99 ?? 0) > 0);
    break;
  }
  await events.return();
});

test('so many watch, one that leaves makes room, and a server that ends waits for none of them', async () => {
  const { port } = served;
  const watchers = await Promise.all(Array.from({ length: MOST_WATCHERS }, () => watcher(port)));
  assert.equal(refusal(await client.get(EVENTS)), '503 OVERLOADED');
  assert.equal((await client.get('/metrics')).status, 200);
  await watchers.shift()?.events.return();
  while (watchers.length < MOST_WATCHERS) {
    const again = await watcher(port).catch(({ message }: Error) => message);
    if (typeof again === 'string') assert.match(again, /^OVERLOADED/);
    else watchers.push(again);
  }
  const ends = watchers.map(async ({ events }) => {
    while ((await events.next()).done !== true);
  });
  client[Symbol.dispose]();
  // Whoever waited would wait for ever.
  await served.server.close();
  await Promise.all(ends);
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});
