/** Clients of gRPC that send what is wrong, too much, too little or too slowly, or go away: they alone notice. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { constants } from 'node:http2';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { decode } from '../../../src/serve/grpc/codec/decode.ts';
import { encode } from '../../../src/serve/grpc/codec/encode.ts';
import { ModelInferRequest, ModelInferResponse } from '../../../src/serve/grpc/codec/messages.ts';
import { GrpcClient, grpcOutputs, grpcRefusal, inferMessage } from '../../support/grpc-client.ts';
import { ending, endOf, frame, H2Client } from '../../support/h2-client.ts';
import { Client, RawConnection } from '../../support/http-client.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';
import { type Served, saidBy, serve } from '../../support/served.ts';
import { inOnePiece } from '../../support/serving-cases.ts';

const BODY_BYTES = 1 << 20;
const REQUEST_BYTES = 3 * BODY_BYTES;
const good = inOnePiece(saidBy(new Random(SEED), 3));
const sent = inferMessage('rows', good);
const message = encode(ModelInferRequest, {
  model_name: 'rows',
  inputs: Object.entries(good).map(([name, { dtype, shape }]) => ({
    name,
    datatype: dtype === 'float32' ? 'FP32' : 'INT32',
    shape,
  })),
  raw_input_contents: Object.values(good).map(
    ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  ),
});

let served: Served;
let client: GrpcClient;
let by: H2Client;
let answer: unknown;
const port = () => served.server.grpcPort as number;
before(async () => {
  served = await serve({
    grpcPort: 0,
    limits: { bodyBytes: BODY_BYTES },
    requestBytes: REQUEST_BYTES,
    // Where something is left behind, it does not end.
    drainMs: 600_000,
  });
  client = new GrpcClient(port());
  by = new H2Client(port());
  answer = grpcOutputs(await client.call('ModelInfer', sent));
});
const answersAsEver = async () =>
  assert.deepEqual(grpcOutputs(await client.call('ModelInfer', sent)), answer);
after(async () => {
  client[Symbol.dispose]();
  by[Symbol.dispose]();
  await served[Symbol.asyncDispose]();
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});

/** All memory of requests is free again: a body of the largest size finds room as often as it must. */
async function holdsNothing(): Promise<void> {
  using http = new Client(served.port);
  const large = {
    ...good,
    other: { dtype: 'int32', shape: [BODY_BYTES / 8], data: new Int32Array(BODY_BYTES / 8) },
  };
  for (let i = 0; i < 8; i++)
    assert.equal(
      await grpcRefusal(client.call('ModelInfer', inferMessage('rows', large as never))),
      'INVALID_ARGUMENT TENSOR_UNEXPECTED',
    );
  const until = Date.now() + 5000;
  for (;;) {
    const metrics = (await http.get('/metrics')).body.toString();
    if (/^hotrow_slots_used_bytes 0$/m.test(metrics)) return;
    assert.ok(Date.now() < until, 'a slot is not given back');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test('a call by hand is answered', async () => {
  for (const headers of [
    {},
    { 'content-type': 'application/grpc+proto' },
    { 'grpc-encoding': 'identity' },
  ] as const)
    for (const ends of [[], [3, 9], [1, 2, 3, 4, 5]]) {
      const bytes = frame(message);
      const parts = [...ends, bytes.length].map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
      const ended = await by.call(headers as never, ...parts);
      assert.equal(endOf(ended), '0');
      assert.equal(decode(ModelInferResponse, ended.body.subarray(5)).model_name, 'rows');
    }
});

describe('what is no call', () => {
  for (const [name, headers, wanted] of [
    ['another type', { 'content-type': 'application/json' }, 'HTTP 415'],
    ['messages in JSON', { 'content-type': 'application/grpc+json' }, 'HTTP 415'],
    ['another method', { ':method': 'PUT' }, 'HTTP 405'],
    ['an unknown method', { ':path': '/inference.GRPCInferenceService/Other' }, '12 ROUTE_UNKNOWN'],
    ['another service', { ':path': '/other.Service/ModelInfer' }, '12 ROUTE_UNKNOWN'],
    ['a path of HTTP', { ':path': '/v2/models/rows/infer' }, '12 ROUTE_UNKNOWN'],
    [
      'a stream of requests',
      { ':path': '/inference.GRPCInferenceService/ModelStreamInfer' },
      '12 ROUTE_UNKNOWN',
    ],
    ['an unknown encoding', { 'grpc-encoding': 'snappy' }, '12 CONTENT_UNSUPPORTED'],
    ['a negative timeout', { 'grpc-timeout': '-1S' }, '3 REQUEST_INVALID'],
    ['a timeout without a unit', { 'grpc-timeout': '100' }, '3 REQUEST_INVALID'],
    ['of an unknown unit', { 'grpc-timeout': '100x' }, '3 REQUEST_INVALID'],
    ['of nine digits', { 'grpc-timeout': '100000000S' }, '3 REQUEST_INVALID'],
    ['of a fraction', { 'grpc-timeout': '1.5S' }, '3 REQUEST_INVALID'],
    ['no time', { 'grpc-timeout': '0S' }, '4 DEADLINE_EXCEEDED'],
  ] as const)
    test(name, async () => {
      const ended = await by.call(headers as never, frame(message));
      assert.equal(endOf(ended), wanted);
      if (name === 'an unknown encoding')
        assert.equal(ended.headers['grpc-accept-encoding'], 'identity,gzip');
      await answersAsEver();
    });

  test('HTTP/1.1, and what is no HTTP', async () => {
    for (const text of ['GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n', 'x'.repeat(100_000)]) {
      using connection = await RawConnection.open(port(), false);
      connection.send(text);
      await connection.closed;
      await answersAsEver();
    }
  });
});

describe('what is no message', () => {
  const bytes = frame(message);
  for (const [name, parts, wanted, headers = {}] of [
    ['nothing', [], '3 REQUEST_INVALID'],
    ['a part of a frame', [bytes.subarray(0, 4)], '3 REQUEST_INVALID'],
    ['a frame alone', [bytes.subarray(0, 5)], '3 REQUEST_INVALID'],
    ['a message cut short', [bytes.subarray(0, -1)], '3 REQUEST_INVALID'],
    ['a byte too many', [bytes, Uint8Array.of(0)], '3 REQUEST_INVALID'],
    ['two messages', [bytes, bytes], '3 REQUEST_INVALID'],
    ['an unknown kind of frame', [frame(message, 2)], '3 REQUEST_INVALID'],
    [
      'a compressed message that is not',
      [frame(message, 1)],
      '3 REQUEST_INVALID',
      { 'grpc-encoding': 'gzip' },
    ],
    ['a compressed message without a word of how', [frame(gzipSync(message), 1)], '3 REQUEST_INVALID'],
    [
      'half a compressed message',
      [frame(gzipSync(message).subarray(0, 50), 1)],
      '3 REQUEST_INVALID',
      { 'grpc-encoding': 'gzip' },
    ],
    ['4 GiB', [frame(new Uint8Array(10), 0, 2 ** 32 - 1)], '8 BODY_TOO_LARGE'],
    ['one byte more than may be', [frame(new Uint8Array(10), 0, BODY_BYTES + 1)], '8 BODY_TOO_LARGE'],
    [
      'a compressed one of more than may be',
      [frame(new Uint8Array(10), 1, BODY_BYTES + 1)],
      '8 BODY_TOO_LARGE',
      { 'grpc-encoding': 'gzip' },
    ],
    ['a message of random bytes', [frame(Buffer.alloc(1000, 0xa7))], '3 REQUEST_INVALID'],
    ['an empty message', [frame(new Uint8Array())], '5 MODEL_UNKNOWN'],
  ] as const)
    test(name, async () => {
      assert.equal(endOf(await by.call(headers as never, ...parts)), wanted);
      await answersAsEver();
    });

  test('a body that is too large, by a client that goes on sending', async () => {
    assert.equal(
      await grpcRefusal(client.call('ModelInfer', { ...sent, id: 'x'.repeat(8 * BODY_BYTES) })),
      'RESOURCE_EXHAUSTED BODY_TOO_LARGE',
    );
    await answersAsEver();
  });
});

describe('compressed messages', () => {
  test('are read', async () => {
    using packing = new GrpcClient(port(), { 'grpc.default_compression_algorithm': 2 });
    assert.deepEqual(grpcOutputs(await packing.call('ModelInfer', sent)), answer);
    assert.equal(endOf(await by.call({ 'grpc-encoding': 'gzip' }, frame(gzipSync(message), 1))), '0');
    assert.equal(endOf(await by.call({ 'grpc-encoding': 'gzip' }, frame(message))), '0');
  });

  test('that grow beyond what may be sent are refused, however small they come', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * BODY_BYTES));
    assert.ok(bomb.length < BODY_BYTES);
    const bombs = Array.from({ length: 8 }, () => by.call({ 'grpc-encoding': 'gzip' }, frame(bomb, 1)));
    for (const ended of await Promise.all(bombs))
      assert.match(endOf(ended), /^8 (BODY_TOO_LARGE|OVERLOADED)$/);
    await answersAsEver();
    await holdsNothing();
  });
});

describe('clients that go away', () => {
  test('in the middle of their message, or before their answer', async () => {
    const bytes = frame(message);
    for (let i = 0; i < 100; i++) {
      const stream = by.open();
      stream.write(bytes.subarray(0, i % 3 === 0 ? 3 : i % 3 === 1 ? 100 : bytes.length));
      if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      stream.close(constants.NGHTTP2_CANCEL);
    }
    const connection = connect(port(), '127.0.0.1');
    connection.on('error', () => {});
    await once(connection, 'connect');
    connection.destroy();
    await answersAsEver();
    await holdsNothing();
  });

  test('from 2,000 streams of one connection: nobody else notices, and their own next calls are answered', async () => {
    using cancelling = new GrpcClient(port());
    let answered = 0;
    let isDone = false;
    const others = (async () => {
      while (!isDone) {
        await answersAsEver();
        answered += 1;
      }
    })();
    const kept: Promise<unknown>[] = [];
    for (let n = 0; n < 2000; n += 50) {
      const calls = Array.from({ length: 50 }, () => cancelling.ask('ModelInfer', sent));
      const good = cancelling.call('ModelInfer', sent);
      kept.push(good);
      const ends = calls.map(({ answer: own }) => own.catch(({ code }) => code));
      await new Promise((resolve) => setImmediate(resolve));
      for (const { cancel } of calls) cancel();
      await Promise.all(ends);
    }
    isDone = true;
    await others;
    assert.ok(answered > 0);
    for (const own of await Promise.all(kept)) assert.deepEqual(grpcOutputs(own as never), answer);
    assert.deepEqual(grpcOutputs(await cancelling.call('ModelInfer', sent)), answer);
    await holdsNothing();
  });
});

describe('limits', () => {
  test('of header fields', async () => {
    using own = new H2Client(port());
    // The limit holds when the client has heard of it.
    assert.equal(endOf(await own.call({ 'x-long': 'y'.repeat(10_000) }, frame(message))), '0');
    const ended = await own.call({ 'x-long': 'y'.repeat(20_000) }, frame(message));
    assert.match(endOf(ended), /^(reset \d+|HTTP 431)$/);
    await answersAsEver();
  });

  test('of streams of a connection', async () => {
    using own = new H2Client(port());
    await own.ready;
    assert.equal(own.session.remoteSettings.maxConcurrentStreams, 512);
    const open = Array.from({ length: 600 }, () => own.open());
    await answersAsEver();
    // Those that wait for their turn get it when others end.
    const last = ending(open.at(-1) as never);
    for (const stream of open) stream.end(frame(message));
    assert.equal(endOf(await last), '0');
  });

  test('of the time that a message may take', async () => {
    await using impatient = await serve({ grpcPort: 0, limits: { headersMs: 50, requestMs: 50 } });
    using own = new H2Client(impatient.server.grpcPort as number);
    for (const part of [new Uint8Array(), frame(message).subarray(0, 40)]) {
      const stream = own.open();
      stream.write(part);
      assert.equal(endOf(await ending(stream)), '4 DEADLINE_EXCEEDED');
    }
    assert.equal(endOf(await own.call({}, frame(message))), '0');
  });

  test('of the time of a connection that says nothing', async () => {
    await using impatient = await serve({ grpcPort: 0, limits: { headersMs: 50, idleMs: 50 } });
    using silent = await RawConnection.open(impatient.server.grpcPort as number, false);
    await silent.closed;
    using idle = new H2Client(impatient.server.grpcPort as number);
    assert.equal(endOf(await idle.call({}, frame(message))), '0');
    await idle.closed;
  });
});

describe('deadlines', () => {
  test("that cannot be met are refused: the call's, and the request's", async () => {
    const timeout = (timeout: number) => inferMessage('rows', good, { parameters: { timeout } });
    const late = /^(UNAVAILABLE DEADLINE_UNMEETABLE|DEADLINE_EXCEEDED DEADLINE_EXCEEDED)$/;
    assert.match(await grpcRefusal(client.call('ModelInfer', timeout(1))), late);
    for (const given of ['1n', '900n', '1u'])
      assert.match(
        endOf(await by.call({ 'grpc-timeout': given }, frame(message))),
        /^(14 DEADLINE_UNMEETABLE|4 DEADLINE_EXCEEDED)$/,
      );
    for (const given of ['1H', '99999999H', '30S', '5000m'])
      assert.equal(endOf(await by.call({ 'grpc-timeout': given }, frame(message))), '0', given);
    assert.deepEqual(grpcOutputs(await client.call('ModelInfer', timeout(5_000_000))), answer);
  });

  test("are the server's where nobody says", async () => {
    await using hasty = await serve({ grpcPort: 0, slaMs: 0.001 });
    using own = new H2Client(hasty.server.grpcPort as number);
    assert.match(endOf(await own.call({}, frame(message))), /DEADLINE/);
    assert.equal(endOf(await own.call({ 'grpc-timeout': '10S' }, frame(message))), '0');
  });
});

test('a full queue refuses, and says when to try again', async () => {
  await using full = await serve({ grpcPort: 0, batching: { slaMs: 1000, queueSamples: 100 } });
  using own = new H2Client(full.server.grpcPort as number);
  const large = inOnePiece(saidBy(new Random(SEED), 60));
  using others = new GrpcClient(full.server.grpcPort as number);
  let refused = 0;
  while (refused === 0) {
    const calls = Array.from({ length: 100 }, () => others.call('ModelInfer', inferMessage('rows', large)));
    for (const { reason } of (await Promise.allSettled(calls)) as PromiseRejectedResult[]) {
      if (reason === undefined) continue;
      const of = (name: string) => Number(reason.metadata.get(name)[0]);
      assert.equal(await grpcRefusal(Promise.reject(reason)), 'RESOURCE_EXHAUSTED OVERLOADED');
      assert.ok(of('retry-after') >= 1, 'retry-after');
      assert.ok(of('grpc-retry-pushback-ms') >= 1, `grpc-retry-pushback-ms ${of('grpc-retry-pushback-ms')}`);
      refused += 1;
    }
  }
  assert.equal(endOf(await own.call({}, frame(message))), '0');
});

describe('a server that stops', () => {
  test('answers what has come, tells that it goes, and ends', async () => {
    const stopping = await serve({ grpcPort: 0 });
    const own = stopping.server.grpcPort as number;
    using idle = new H2Client(own);
    using silent = await RawConnection.open(own, false);
    using asking = new H2Client(own);
    const streams = Array.from({ length: 100 }, () => asking.open());
    const ends = streams.map(ending);
    for (const stream of streams) stream.write(frame(message).subarray(0, 20));
    // When a later one is answered, the server has heard of all of them.
    assert.equal(endOf(await asking.call({}, frame(message))), '0');
    await idle.ready;
    const told = [idle, asking].map(({ session }) => once(session, 'goaway'));
    const closing = stopping.server.close();
    await Promise.all(told);
    for (const stream of streams) stream.end(frame(message).subarray(20));
    assert.deepEqual([...new Set((await Promise.all(ends)).map(endOf))], ['0']);
    await Promise.all([closing, idle.closed, asking.closed, silent.closed]);
    using late = new GrpcClient(own);
    await assert.rejects(late.call('ServerLive', {}, { deadline: Date.now() + 10_000 }), { code: 14 });
  });

  test('does not wait for ever for who sends nothing more', async () => {
    const stopping = await serve({ grpcPort: 0, drainMs: 100 });
    using half = new H2Client(stopping.server.grpcPort as number);
    half.open().write(frame(message).subarray(0, 20));
    await half.ready;
    assert.equal(endOf(await half.call({}, frame(message))), '0');
    await stopping.server.close();
    await half.closed;
  });
});

test('its port is told, and one that is taken is refused', async () => {
  const listening = served.events.find(({ kind }) => kind === 'listening');
  assert.deepEqual(listening, {
    kind: 'listening',
    host: '127.0.0.1',
    port: served.port,
    grpcPort: port(),
    tls: false,
  });
  await assert.rejects(serve({ grpcPort: port() }), { code: 'USAGE', hint: /another --grpc-port/ });
  await using without = await serve();
  assert.equal(without.server.grpcPort, undefined);
});
