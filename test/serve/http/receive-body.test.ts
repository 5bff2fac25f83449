/** Bodies over real connections. Every slot is given back, but those of bodies that came whole, which their receivers own. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { SlotArena } from '../../../src/serve/engine/arena.ts';
import { receiveBody } from '../../../src/serve/http/receive-body.ts';
import type { BodyRoom, ReceivedBody } from '../../../src/serve/requests/body-slot.ts';
import { chunkOf, type HttpPair, httpPair, postHead } from '../../support/http-pairs.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

const MOST = 300_000;
const CHUNKED = { 'transfer-encoding': 'chunked' };
const END = '0\r\n\r\n';

interface Receiver extends AsyncDisposable {
  readonly arena: SlotArena;
  /** A client that has sent the head of a request, and what becomes of the body. */
  begin(headers: Readonly<Record<string, string | number>>): Promise<{
    readonly client: Socket;
    readonly received: Promise<ReceivedBody | undefined>;
  }>;
}

async function receiver(
  room: Partial<BodyRoom> = {},
  arenaBytes = 1 << 20,
  patienceMs = Number.POSITIVE_INFINITY,
): Promise<Receiver> {
  const arena = new SlotArena(arenaBytes, patienceMs);
  const bodies = new WeakMap<object, Promise<ReceivedBody | undefined>>();
  const pair: HttpPair = await httpPair(({ request }) => {
    const received = receiveBody(request, { arena, before: 128, behind: 64, mostBytes: MOST, ...room });
    received.catch(() => {});
    bodies.set(request, received);
  });
  return {
    arena,
    async begin(headers) {
      const client = await pair.connect();
      client.write(postHead(headers));
      const { request } = await pair.next();
      return { client, received: bodies.get(request) as Promise<ReceivedBody | undefined> };
    },
    async [Symbol.asyncDispose]() {
      await pair[Symbol.asyncDispose]();
      arena[Symbol.dispose]();
    },
  };
}

const random = new Random(SEED);
const bytesOf = (length: number) => Buffer.from(Uint8Array.from({ length }, () => random.integer(0, 255)));

function assertWhole({ arena }: Receiver, received: ReceivedBody | undefined, sent: Uint8Array): void {
  assert.ok(received !== undefined);
  const { slot, body } = received;
  assert.equal(Buffer.compare(body, sent), 0);
  assert.equal(body.buffer, slot.bytes.buffer);
  assert.equal(body.byteOffset, slot.bytes.byteOffset + 128, 'there is room for the header before it');
  assert.ok(slot.bytes.length >= 128 + sent.length + 64, 'and room behind it');
  assert.equal(arena.used, slot.bytes.length, 'no other slot is taken');
  arena.give(slot);
  assert.equal(arena.used, 0);
}

test('bodies of known length arrive whole, in however many pieces', async () => {
  await using to = await receiver();
  for (const length of [0, 1, 1000, 70_000, MOST]) {
    const sent = bytesOf(length);
    const { client, received } = await to.begin({ 'content-length': length });
    for (let at = 0; at < length; at += 50_000) client.write(sent.subarray(at, at + 50_000));
    assertWhole(to, await received, sent);
    client.destroy();
  }
});

test('bodies of unknown length arrive whole; their slot grows with them', async () => {
  await using to = await receiver();
  for (const [length, piece] of [
    [0, 1],
    [1, 1],
    [3000, 7],
    [16 << 10, 1 << 12],
    [(16 << 10) + 1, 1 << 14],
    [100_000, 9_999],
    [MOST, 60_000],
  ] as const) {
    const sent = bytesOf(length);
    const { client, received } = await to.begin(CHUNKED);
    for (let at = 0; at < length; at += piece) client.write(chunkOf(sent.subarray(at, at + piece)));
    client.write(END);
    assertWhole(to, await received, sent);
    client.destroy();
  }
});

test('a request without a body has an empty one', async () => {
  await using to = await receiver();
  const { received } = await to.begin({});
  assertWhole(to, await received, new Uint8Array());
});

test('a body that says it is too large is refused before it comes', async () => {
  await using to = await receiver();
  const { client, received } = await to.begin({ 'content-length': MOST + 1 });
  client.end();
  await assert.rejects(received, { code: 'BODY_TOO_LARGE', message: /more than 300000 bytes/ });
  assert.equal(to.arena.used, 0);
});

test('a body that becomes too large is refused then, and what comes after is not read', async () => {
  await using to = await receiver({ mostBytes: 1000 });
  const { client, received } = await to.begin(CHUNKED);
  client.write(chunkOf(bytesOf(1000)));
  client.write(chunkOf(bytesOf(1)));
  client.write(chunkOf(bytesOf(500)));
  client.write(END);
  await assert.rejects(received, { code: 'BODY_TOO_LARGE' });
  assert.equal(to.arena.used, 0);
  const other = to.arena.take(to.arena.bytes);
  assert.ok(other !== undefined);
  other.bytes.fill(0);
  const { received: next, client: another } = await to.begin(CHUNKED);
  another.write(chunkOf(bytesOf(1)));
  await assert.rejects(next, { code: 'OVERLOADED' });
  assert.ok(other.bytes.every((byte) => byte === 0));
});

test('where there is no memory for a body it is refused', async () => {
  await using to = await receiver({}, 40_000);
  const { client, received } = await to.begin({ 'content-length': 39_900 });
  client.end(bytesOf(39_900));
  await assert.rejects(received, { code: 'OVERLOADED', message: /take 0 of the 40000 bytes/ });
  const held = to.arena.take(10_000);
  assert.ok(held !== undefined);
  const used = to.arena.used;
  // There is room for what it is at first, and none to grow.
  const growing = await to.begin(CHUNKED);
  for (let i = 0; i < 2; i++) growing.client.write(chunkOf(bytesOf(10_000)));
  growing.client.write(END);
  await assert.rejects(growing.received, { code: 'OVERLOADED' });
  assert.equal(to.arena.used, used);
});

test('the slot of a client that goes away is given back', async () => {
  await using to = await receiver();
  for (const headers of [{ 'content-length': 100_000 }, CHUNKED]) {
    for (const sends of [0, 10, 40_000]) {
      const { client, received } = await to.begin(headers);
      assert.equal(to.arena.used, 0, 'who has sent nothing has nothing');
      if (sends > 0) client.write('content-length' in headers ? bytesOf(sends) : chunkOf(bytesOf(sends)));
      client.end();
      client.destroy();
      assert.equal(await received, undefined);
      assert.equal(to.arena.used, 0);
    }
  }
});

test('who claims that much is to come has little of it until it comes', async () => {
  await using to = await receiver({ mostBytes: 1 << 20 }, 1 << 20);
  for (const headers of [{ 'content-length': 1_000_000 }, CHUNKED]) {
    const { client, received } = await to.begin(headers);
    client.write('content-length' in headers ? bytesOf(1) : chunkOf(bytesOf(1)));
    while (to.arena.used === 0) await new Promise((turn) => setImmediate(turn));
    assert.ok(to.arena.used <= 17 << 10, `${to.arena.used}`);
    client.destroy();
    assert.equal(await received, undefined);
  }
});

describe('where memory is short', () => {
  const ARENA = 40_000;
  const slowAndNext = async (to: Receiver) => {
    const slow = await to.begin({ 'content-length': 30_000 });
    const first = bytesOf(2000);
    slow.client.write(first);
    while (to.arena.used === 0) await new Promise((turn) => setImmediate(turn));
    const sent = bytesOf(20_000);
    const next = await to.begin({ 'content-length': sent.length });
    next.client.write(sent);
    return { slow, first, next, sent };
  };

  test('a body that has had its time to come is given up for others', async () => {
    await using to = await receiver({}, ARENA, 0);
    const { slow, next, sent } = await slowAndNext(to);
    await assert.rejects(slow.received, { code: 'OVERLOADED', message: /too slowly/ });
    const whole = await next.received;
    slow.client.write(bytesOf(28_000));
    assertWhole(to, whole, sent);
    // Nobody writes where it was, and what has come whole is not given up.
    const all = to.arena.take(ARENA);
    assert.ok(all !== undefined);
    assert.equal(to.arena.take(1), undefined);
    to.arena.give(all);
  });

  test('one that has not is not', async () => {
    await using to = await receiver({}, ARENA);
    const { slow, first, next } = await slowAndNext(to);
    await assert.rejects(next.received, { code: 'OVERLOADED', message: /take \d+ of the/ });
    const rest = bytesOf(28_000);
    slow.client.write(rest);
    assertWhole(to, await slow.received, Buffer.concat([first, rest]));
  });

  test('none is given up for itself', async () => {
    await using to = await receiver({}, ARENA, 0);
    const { client, received } = await to.begin(CHUNKED);
    for (let i = 0; i < 2; i++) client.write(chunkOf(bytesOf(15_000)));
    await assert.rejects(received, { code: 'OVERLOADED', message: /take \d+ of the/ });
    assert.equal(to.arena.used, 0);
  });
});

test('a body of the largest size finds room in three times as much, however it comes', async () => {
  await using to = await receiver({}, 3 * MOST);
  for (const piece of [1000, 17_000, 63_999, 149_000, 151_000]) {
    const sent = bytesOf(MOST);
    const { client, received } = await to.begin(CHUNKED);
    for (let at = 0; at < MOST; at += piece) client.write(chunkOf(sent.subarray(at, at + piece)));
    client.write(END);
    assertWhole(to, await received, sent);
    client.destroy();
  }
});

test('many bodies at once do not mix', async () => {
  await using to = await receiver();
  const sent = Array.from({ length: 12 }, () => bytesOf(random.integer(1, 40_000)));
  const begun = [];
  for (const [i, bytes] of sent.entries())
    begun.push(await to.begin(i % 2 === 0 ? { 'content-length': bytes.length } : CHUNKED));
  for (let at = 0; at < 40_000; at += 1500)
    for (const [i, bytes] of sent.entries()) {
      const piece = bytes.subarray(at, at + 1500);
      if (piece.length > 0) begun[i]?.client.write(i % 2 === 0 ? piece : chunkOf(piece));
    }
  for (const { client } of begun) client.write(END);
  const bodies = await Promise.all(begun.map(({ received }) => received));
  for (const [i, own] of bodies.entries()) {
    assert.ok(own !== undefined);
    assert.equal(Buffer.compare(own.body, sent[i] as Buffer), 0);
    to.arena.give(own.slot);
  }
  assert.equal(to.arena.used, 0);
});
