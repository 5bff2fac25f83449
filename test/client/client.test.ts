/** The client against a server, and against what is none. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Client, type ClientOptions, type FeatureBags } from '../../src/client/client.ts';
import { type ErrorCode, HotrowError, ServerError } from '../../src/errors.ts';
import { loadModel } from '../../src/model/load-model.ts';
import { readSecurity } from '../../src/serve/security/security.ts';
import { secretFile } from '../support/certificates.ts';
import { Random } from '../support/random.ts';
import { asJson, lengthsOf, NAMES, weightOf } from '../support/request-forms.ts';
import { SEED } from '../support/seed.ts';
import { CITIES, idsModel, rowsModel, type Served, saidBy, serve } from '../support/served.ts';

const rejects = (work: Promise<unknown>, code: ErrorCode, message: RegExp = /./) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });

describe('a server', () => {
  const token = 'token-of-a-client';
  let served: Served;
  let client: Client;
  before(async () => {
    const { security } = await readSecurity({ origins: [], tokens: secretFile(token) });
    served = await serve({ models: { rows: rowsModel, 'of ids': idsModel }, security });
    client = new Client(`http://127.0.0.1:${served.port}/`, { token });
  });
  after(() => served[Symbol.asyncDispose]());

  test('gives what the model gives, in every form', async () => {
    await using model = await loadModel(rowsModel, { device: 'cpu', threads: 1 });
    const random = new Random(SEED);
    for (const weighted of [false, true]) {
      const said = saidBy(random, 3, { weighted });
      const starts = (lengths: readonly number[]) =>
        Int32Array.from([0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b, 0))]);
      const { probabilities } = await model.predict({
        batchSize: 3,
        dense: Float32Array.from(said.dense.flat()),
        denseFeatures: 2,
        bags: said.bags.map((own) => ({
          indices: Int32Array.from(own.flat()),
          offsets: starts(lengthsOf(own)),
          ...(weighted ? { weights: Float32Array.from(own.flat(), weightOf) } : {}),
        })),
      });
      const dense = said.dense.flat();
      const by = (make: (own: readonly (readonly number[])[]) => FeatureBags) =>
        Object.fromEntries(NAMES.map((name, t) => [name, make(said.bags[t] ?? [])]));
      const weights = (own: readonly (readonly number[])[]) =>
        weighted ? { weights: own.flat().map(weightOf) } : {};
      const forms: Parameters<Client['predict']>[1][] = [
        { dense, features: by((own) => ({ values: own.flat(), lengths: lengthsOf(own), ...weights(own) })) },
        {
          dense: Float32Array.from(dense),
          features: by((own) => ({
            values: BigInt64Array.from(own.flat(), BigInt),
            lengths: Int32Array.from(lengthsOf(own)),
            ...weights(own),
          })),
        },
        { samples: asJson(said, false) as object[] },
        ...(weighted ? [] : [{ dense, features: by((own) => own) }]),
      ];
      for (const request of forms) {
        const { outputs, scores, model, version } = await client.predict('rows', request, { version: '1' });
        assert.deepEqual([model, version, Object.keys(outputs)], ['rows', '1', ['probability']]);
        assert.deepEqual(scores, probabilities);
      }
    }
  });

  test('takes users, names, strings, and says which outputs it is asked for', async () => {
    const user = { dense: [2], features: { city: [CITIES.slice(0, 2)] } };
    const candidates = { dense: [1, 3], features: { ads: [[1], [2, 0]], person: [[2 ** 40], [7n]] } };
    const { outputs, id } = await client.predict('of ids', { ...candidates, user }, { id: 'x', priority: 1 });
    const sameAsJson = await client.predict(
      'of ids',
      {
        user: { dense: [2], features: { city: CITIES.slice(0, 2) } },
        candidates: [
          { dense: [1], features: { ads: [1], person: [2 ** 40] } },
          { dense: [3], features: { ads: [2, 0], person: [7] } },
        ],
      },
      { id: 'x', priority: 1 },
    );
    assert.equal(id, 'x');
    assert.deepEqual(sameAsJson.outputs, outputs);
    const names = Object.keys(outputs);
    assert.ok(names.length > 0);
    const one = await client.predict(
      'of ids',
      { ...candidates, user },
      { outputs: [names.at(-1) as string] },
    );
    assert.deepEqual(one.outputs, { [names.at(-1) as string]: outputs[names.at(-1) as string] });
    // Raw numbers, by name.
    const raw = {
      dense: { x: [2, 2], y: [1, 3] },
      features: { ...candidates.features, city: [['Rom'], []] },
    };
    const rawJson = raw.features.ads.map((ads, b) => ({
      dense: { x: raw.dense.x[b], y: raw.dense.y[b] },
      features: { ads, person: [Number(raw.features.person[b]?.[0])], city: raw.features.city[b] },
    }));
    const named = await client.predict('of ids', raw);
    assert.deepEqual(named.outputs, (await client.predict('of ids', { samples: rawJson })).outputs);
  });

  test('describes itself', async () => {
    assert.equal(await client.ready(), true);
    assert.deepEqual(
      (await client.models()).map(({ name, state }) => `${name} ${state}`),
      ['rows READY', 'of ids READY'],
    );
    const { inputs, parameters } = await client.metadata('of ids', { version: '1' });
    assert.ok(inputs.length > 0);
    assert.deepEqual(
      parameters?.features.map(({ name, kind }) => `${name} ${kind}`),
      ['ads rows', 'person hash', 'city vocabulary'],
    );
  });

  test('says what is wrong, with its code and hint', async () => {
    const request = { dense: [1, 2], features: { ads: [[99]] } };
    await rejects(client.predict('rows', request), 'TABLE_MISSING');
    await rejects(client.predict('nothing', request), 'MODEL_UNKNOWN', /^there is no model nothing$/);
    const features = Object.fromEntries(NAMES.map((name) => [name, [[99]]]));
    await assert.rejects(client.predict('rows', { dense: [1, 2], features }), (error) => {
      assert.ok(error instanceof ServerError);
      assert.equal(error.code, 'INDEX_OUT_OF_RANGE');
      assert.equal(error.status, 400);
      assert.ok(error.hint.length > 0 && !error.message.includes(error.hint));
      return true;
    });
    await rejects(new Client(`http://127.0.0.1:${served.port}`).models(), 'UNAUTHENTICATED');
  });

  test('is given the deadline of a call', async () => {
    const features = Object.fromEntries(NAMES.map((name) => [name, [[1]]]));
    const request = { dense: [1, 2], features };
    const work = client.predict('rows', request, { timeoutMs: 0.001 });
    await assert.rejects(work, ({ code }: HotrowError) => /^DEADLINE_/.test(code));
    assert.equal((await client.predict('rows', request, { timeoutMs: 60_000 })).scores.length, 1);
  });
});

/** A server that answers as a test says; `asked` has what came. */
async function stub(answer: (request: IncomingMessage, response: ServerResponse, n: number) => void) {
  const asked: { readonly url: string; readonly headers: IncomingMessage['headers'] }[] = [];
  const server = createServer((request, response) => {
    request.resume();
    request.once('end', () => {
      asked.push({ url: request.url ?? '', headers: request.headers });
      answer(request, response, asked.length);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    asked,
    port,
    client: (options: ClientOptions = {}) => new Client(`http://127.0.0.1:${port}`, options),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const ANSWER = JSON.stringify({
  model_name: 'm',
  outputs: [{ name: 'p', datatype: 'FP32', shape: [1, 1], data: [0.5] }],
});
const REQUEST = { dense: [1], batchSize: 1 };
const refuse = (
  response: ServerResponse,
  status: number,
  code: string,
  headers: Record<string, string> = {},
) => {
  response.writeHead(status, headers);
  response.end(JSON.stringify({ error: `${code}: no (hint)`, code, hint: 'hint' }));
};

describe('what goes wrong', () => {
  test('refusals and lost connections are tried again, on connections that are kept', async () => {
    await using own = await stub((request, response, n) => {
      if (n === 1) request.socket.destroy();
      else if (n === 2) refuse(response, 503, 'SHUTTING_DOWN', { 'retry-after': '1' });
      else response.end(ANSWER);
    });
    const { scores } = await own.client().predict('m', REQUEST);
    assert.deepEqual(scores, Float32Array.of(0.5));
    assert.equal(own.asked.length, 3);
  });

  test('as often as is asked for, and no more than the budget', async () => {
    await using own = await stub((_, response) => refuse(response, 503, 'SHUTTING_DOWN'));
    await rejects(own.client({ retries: 0 }).predict('m', REQUEST), 'SHUTTING_DOWN', /^no$/);
    assert.equal(own.asked.length, 1);
    await rejects(own.client({ retries: 3 }).predict('m', REQUEST), 'SHUTTING_DOWN');
    assert.equal(own.asked.length, 1 + 4);
    own.asked.length = 0;
    const client = own.client({ retries: 1 });
    const calls = 30;
    for (let i = 0; i < calls; i++) await rejects(client.predict('m', REQUEST), 'SHUTTING_DOWN');
    assert.ok(own.asked.length > calls && own.asked.length <= calls + 10 + calls / 10, `${own.asked.length}`);
  });

  test('not where the wait would pass the deadline, nor what was wrong', async () => {
    await using own = await stub((_, response) =>
      refuse(response, 503, 'OVERLOADED', { 'retry-after': '3600' }),
    );
    await rejects(own.client({ timeoutMs: 10_000 }).predict('m', REQUEST), 'OVERLOADED');
    assert.equal(own.asked.length, 1);
    const [, sentMicros = ''] = /[?&]timeout=(\d+)$/.exec(own.asked[0]?.url ?? '') ?? [];
    assert.ok(Number(sentMicros) > 10_000 && Number(sentMicros) <= 10_000_000, sentMicros);
    await using wrong = await stub((_, response) => refuse(response, 400, 'TENSOR_SHAPE'));
    await rejects(wrong.client().predict('m', REQUEST), 'TENSOR_SHAPE');
    assert.equal(wrong.asked.length, 1);
  });

  test('no answer in time, and a call that is given up', async () => {
    await using own = await stub(() => {});
    await rejects(
      own.client({ timeoutMs: 20 }).predict('m', REQUEST),
      'DEADLINE_EXCEEDED',
      /no answer in 20 ms/,
    );
    const giving = new AbortController();
    const work = own.client().predict('given-up', REQUEST, { signal: giving.signal });
    const hasCome = (model: string) => own.asked.some(({ url }) => url.includes(model));
    while (!hasCome('given-up')) await new Promise((resolve) => setImmediate(resolve));
    giving.abort(new Error('enough'));
    await assert.rejects(work, ({ name, code, cause }: HotrowError) => {
      assert.deepEqual([name, code, (cause as Error).message], ['AbortError', 'ABORTED', 'enough']);
      return true;
    });
    await rejects(own.client().predict('before', REQUEST, { signal: AbortSignal.abort() }), 'ABORTED');
    assert.equal(hasCome('before'), false);
  });

  test('a wait for another try is given up too', async () => {
    await using own = await stub((_, response) =>
      refuse(response, 503, 'OVERLOADED', { 'retry-after': '3600' }),
    );
    const giving = new AbortController();
    const work = own.client().predict('m', REQUEST, { signal: giving.signal });
    while (own.asked.length < 1) await new Promise((resolve) => setImmediate(resolve));
    setTimeout(() => giving.abort(), 20);
    await rejects(work, 'ABORTED');
  });

  test('what is no server of the protocol', async () => {
    let body = '<html>';
    let status = 200;
    await using own = await stub((_, response) => {
      response.statusCode = status;
      response.end(body);
    });
    const client = own.client({ retries: 0 });
    await rejects(client.predict('m', REQUEST), 'SERVER_ANSWER_INVALID');
    await rejects(client.models(), 'SERVER_ANSWER_INVALID');
    status = 404;
    await rejects(client.models(), 'SERVER_REFUSED', /status 404/);
    [status, body] = [500, JSON.stringify({ error: 'in use', code: 'OF_ANOTHER' })];
    await rejects(client.models(), 'SERVER_FAILED', /^in use$/);
    [status, body] = [302, ''];
    await rejects(client.models(), 'SERVER_UNREACHABLE', /redirect/);
    status = 503;
    assert.equal(await client.ready(), false);
  });

  test('none there', async () => {
    const own = await stub(() => {});
    await own[Symbol.asyncDispose]();
    const client = own.client({ retries: 0 });
    await rejects(client.ready(), 'SERVER_UNREACHABLE', /127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/);
  });

  test('options that are none', () => {
    const wrong: (() => unknown)[] = [
      () => new Client('localhost:8000'),
      () => new Client('ftp://localhost'),
      () => new Client('http://localhost', { retries: -1 }),
      () => new Client('http://localhost', { retries: 0.5 }),
      () => new Client('http://localhost', { timeoutMs: 0 }),
      () => new Client('http://localhost', { timeoutMs: Number.NaN }),
      () => new Client('http://localhost', { timeoutMs: 2 ** 31 }),
      () => new Client('http://name:secret@localhost'),
      () => new Client('http://localhost', { token: 'a\r\nsecret' }),
      () => new Client('http://localhost', { token: 'secret€' }),
      () => new Client('http://localhost', { headers: { 'two words': 'secret' } }),
    ];
    for (const make of wrong)
      assert.throws(
        make,
        (error: HotrowError) =>
          error.code === 'OPTION_INVALID' && !/secret/.test(`${error.message} ${error.hint} ${error.cause}`),
      );
  });

  test('what is no request is refused before anything is sent', async () => {
    await using own = await stub((_, response) => response.end(ANSWER));
    const client = own.client({});
    const cyclic: unknown[] = [];
    cyclic.push(cyclic);
    const wrong = [undefined, null, 5, 'text', { dense: null }, { features: { a: null } }, { samples: [1n] }];
    for (const request of [...wrong, { features: { a: [[Symbol('id')]] } }, { samples: cyclic }])
      await rejects(client.predict('m', request as never), 'OPTION_INVALID');
    for (const tensors of [null, { dense: { shape: [1], data: 'x' } }])
      await rejects(client.infer('m', tensors as never), 'OPTION_INVALID');
    await rejects(client.predict('\ud800', REQUEST), 'OPTION_INVALID');
    await rejects(client.predict('m', REQUEST, { outputs: 'p' as never }), 'OPTION_INVALID');
    await rejects(client.predict('m', REQUEST, { headers: { a: 'b\nc' } }), 'OPTION_INVALID');
    assert.equal(own.asked.length, 0);
  });

  test('an answer that cannot be read is told', async () => {
    await using own = await stub((_, response) => {
      response.setHeader('inference-header-content-length', own.asked.length === 1 ? '-1' : '18');
      response.end('{"outputs":[null]}');
    });
    const client = own.client({});
    for (let i = 0; i < 2; i++) await rejects(client.predict('m', REQUEST), 'SERVER_ANSWER_INVALID');
  });

  test('fields of requests, and a path before the protocol’s', async () => {
    await using own = await stub((_, response) => response.end(ANSWER));
    const client = new Client(new URL(`http://127.0.0.1:${own.port}/a/b/?x#y`), {
      headers: { 'x-a': '1' },
      token: 't',
    });
    await client.predict('a/b', REQUEST, { headers: { traceparent: 'x' } });
    const [{ url, headers }] = own.asked as [(typeof own.asked)[number]];
    assert.equal(url, '/a/b/v2/models/a%2Fb/infer');
    assert.deepEqual([headers['x-a'], headers.authorization, headers.traceparent], ['1', 'Bearer t', 'x']);
  });
});
