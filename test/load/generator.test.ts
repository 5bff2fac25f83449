/** A process's share of a load, over real connections to a stub. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { AbortError, HotrowError } from '../../src/errors.ts';
import { Generator, nowMs, type RunOrder } from '../../src/load/generator.ts';
import type { RequestSpec } from '../../src/load/request-pool.ts';
import { describeServer, serverUrl } from '../../src/load/served-model.ts';
import { answer, refuse, type StubRequest, StubServer } from './stub-server.ts';

const { signal } = new AbortController();
const TOKEN = 'token-of-a-client';
const SPEC: RequestSpec = { pattern: 'random', indexType: 'int64', bodies: 10, poolBytes: 2 ** 20 };

async function run(
  { url }: StubServer,
  order: Partial<RunOrder>,
  spec: Partial<RequestSpec> = {},
  connections = 256,
) {
  const { model } = await describeServer(serverUrl(url), 'm', signal);
  const requests = { ...SPEC, ...spec };
  const generator = await Generator.prepare({
    url,
    token: TOKEN,
    model,
    requests,
    seed: 1,
    connections,
    sleeps: true,
  });
  try {
    const usual = { warmupMs: 0, durationMs: Number.POSITIVE_INFINITY, patienceMs: 60_000, seed: 1 };
    const { tally, opened } = await generator.run({ rate: 1000, startMs: nowMs(), ...usual, ...order });
    return { ...tally.counts, tally, opened, facts: generator.facts };
  } finally {
    generator.close();
  }
}

test('a server describes itself and its model', async () => {
  await using server = await StubServer.listen(() => {});
  const { server: software, model } = await describeServer(serverUrl(server.url), undefined, signal);
  assert.equal(software, 'stub 3');
  assert.deepEqual([model.name, model.denseFeatures, model.features.length], ['m', 2, 2]);
});

test('servers that are gone, are none, or have another model are told apart', async () => {
  await using other = await StubServer.listen(() => {}, ['m', 'n']);
  const { url } = other;
  const refuses = (model: string | undefined, code: string, message: RegExp) =>
    assert.rejects(describeServer(serverUrl(url), model, signal), (error) => {
      assert.ok(error instanceof HotrowError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
  await refuses('x', 'MODEL_UNKNOWN', /has no model x/);
  await refuses(undefined, 'USAGE', /has 2 models/);
  await refuses('broken', 'SERVER_ANSWER_INVALID', /parameters must have required/);
  await other[Symbol.asyncDispose]();
  await refuses('m', 'SERVER_UNREACHABLE', /ECONNREFUSED/);
});

test('a server that is not waited for any longer', async () => {
  const controller = new AbortController();
  await using server = await StubServer.listen(() => {});
  const described = describeServer(serverUrl(server.url), 'slow', controller.signal);
  controller.abort();
  await assert.rejects(described, AbortError);
});

test('an open loop: requests go on while none is answered', async () => {
  // Nobody is answered before 40 wait: a client that waited for answers would never send so many.
  const held: [StubRequest, ServerResponse][] = [];
  let most = 0;
  await using server = await StubServer.listen((request, response) => {
    held.push([request, response]);
    most = Math.max(most, held.length);
    if (held.length >= 40) for (const [{ samples }, own] of held.splice(0)) answer(own, samples);
  });
  const { inTime, opened, tally } = await run(server, { count: 40 });
  assert.deepEqual([most, inTime, opened], [40, 40, 40]);
  // The last one was due some 39 ms after the first, and answered with it.
  assert.ok(tally.latency.atRank(40) > tally.latency.atRank(1) + 10);
});

test('a server that stalls: all that were due meanwhile count as waiting for it', async () => {
  // The 20th answer, and all after it, are held until 60 more requests are in.
  const held: [StubRequest, ServerResponse][] = [];
  let isOver = false;
  await using server = await StubServer.listen((request, response, n) => {
    if (n < 20 || isOver) {
      answer(response, request.samples);
      return;
    }
    held.push([request, response]);
    if (held.length < 60) return;
    isOver = true;
    for (const [{ samples }, own] of held.splice(0)) answer(own, samples);
  });
  const { inTime, tally } = await run(server, { count: 100, rate: 500 });
  assert.equal(inTime, 100);
  // 60 waited for the last of them, the first of these 59 gaps of 2 ms on average: 40 in 100 waited for a third of that and more.
  assert.ok(tally.latency.atRank(100 - 25) > 20, `${tally.latency.atRank(75)}`);
});

test('what waits for a connection is counted', async () => {
  await using server = await StubServer.listen(({ samples }, response, n) => {
    // The first answer waits until the rest must have been sent.
    if (n === 0) setTimeout(() => answer(response, samples), 300);
    else answer(response, samples);
  });
  const { inTime, waited, opened } = await run(server, { count: 30 }, {}, 1);
  assert.deepEqual([inTime, opened], [30, 1]);
  assert.ok(waited >= 1, `${waited} waited`);
});

test('failures are counted by what they are; deadline, priority, token and form reach the server', async () => {
  const seen: StubRequest[] = [];
  await using server = await StubServer.listen((request, response, n) => {
    seen.push(request);
    if (n % 4 === 0) response.destroy();
    else if (n % 4 === 1) answer(response, request.samples + 1);
    else if (n % 4 === 2) refuse(response, 400, 'LENGTHS_INVALID');
    else answer(response, request.samples);
  });
  const spec = { timeoutUs: 60_000_000, priority: 1, indexType: 'int32', userFeatures: 'ads' } as const;
  const { inTime, failed, tally } = await run(server, { count: 8 }, { ...spec, samples: '5' });
  assert.deepEqual([inTime, failed], [2, 6]);
  assert.equal(tally.why.get('400 LENGTHS_INVALID'), 2);
  assert.equal(tally.why.get('answer: another number of samples than was asked'), 2);
  const [{ json, tensors, samples, headers }] = seen as [StubRequest];
  assert.equal(headers.authorization, `Bearer ${TOKEN}`);
  assert.deepEqual([json.parameters.timeout, json.parameters.priority, samples], [60_000_000, 1, 5]);
  assert.deepEqual([...tensors.keys()], ['user.dense', 'user.values', 'user.lengths', 'values', 'lengths']);
  assert.equal(tensors.get('values')?.datatype, 'INT32');
});

test('what is never answered ends with patience', async () => {
  await using server = await StubServer.listen(() => {});
  const { scheduled, unanswered, tally } = await run(server, { count: 5, patienceMs: 30 });
  assert.deepEqual([scheduled, unanswered, tally.latency.count], [5, 5, 5]);
});
