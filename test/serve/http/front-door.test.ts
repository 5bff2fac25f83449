/** Clients that send what is wrong, too much, too little or too slowly, or go away: they alone notice. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { deferred } from '../../../src/deferred.ts';
import { DEFAULT_FRONT_LIMITS } from '../../../src/serve/door.ts';
import { SlotArena } from '../../../src/serve/engine/arena.ts';
import { handOverMemory } from '../../../src/serve/hand-over.ts';
import { FrontDoor } from '../../../src/serve/http/front-door.ts';
import { FrontModels } from '../../../src/serve/requests/front-models.ts';
import { ServerState } from '../../../src/serve/state.ts';
import { accepting } from '../../support/accepting.ts';
import { Client, jsonIn, outputsIn, RawConnection, refusal, requestText } from '../../support/http-client.ts';
import { protocolBody, type SentBody } from '../../support/infer-bodies.ts';
import { NO_PAGE } from '../../support/no-page.ts';
import { NO_REPOSITORY } from '../../support/no-repository.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';
import { type Served, saidBy, serve } from '../../support/served.ts';
import { inOnePiece, wrongTensors } from '../../support/serving-cases.ts';

const INFER = '/v2/models/rows/infer';
const BODY_BYTES = 1 << 20;
const REQUEST_BYTES = 2 * BODY_BYTES;

const good = inOnePiece(saidBy(new Random(SEED), 3));
const sent = protocolBody(good);
const asText = (text: string): SentBody => ({ body: Buffer.from(text) });

let served: Served;
let client: Client;
let answer: string;
before(async () => {
  served = await serve({
    limits: { bodyBytes: BODY_BYTES },
    requestBytes: REQUEST_BYTES,
    batching: { slaMs: 1000, queueSamples: 1000, mostSamples: 1000 },
  });
  client = new Client(served.port);
  answer = JSON.stringify(outputsIn(await client.infer('rows', sent)));
});
const answersAsEver = async () =>
  assert.equal(JSON.stringify(outputsIn(await client.infer('rows', sent))), answer);

/** A slot of such a body: of a size that none outgrows. */
const SMALL_BYTES = 16 << 10;
const SLOT_BYTES = SMALL_BYTES + 192 + 64;

/** What was taken for requests has been given back: as many as fill all of it find room at once, and so do as many samples as may wait. */
async function holdsNothing(): Promise<void> {
  const spaces = (bytes: number) => Buffer.alloc(bytes, 0x20);
  const bytes = requestText(INFER, { body: spaces(SMALL_BYTES) });
  const most = Math.floor(REQUEST_BYTES / SLOT_BYTES);
  // Clients that went away may be heard of a little later.
  for (let tries = 200; ; tries--) {
    const connections = await Promise.all(
      Array.from({ length: most }, () => RawConnection.open(served.port)),
    );
    for (const connection of connections) connection.send(bytes.subarray(0, -1));
    let one = '';
    while (one !== '503 OVERLOADED' && connections.every(({ unread }) => unread === 0))
      one = refusal(await client.infer('rows', { body: spaces(SMALL_BYTES) }));
    for (const connection of connections) connection.send(bytes.subarray(-1));
    const all = await Promise.all(connections.map(async (connection) => refusal(await connection.reply())));
    for (const connection of connections) connection[Symbol.dispose]();
    if (all.includes('503 OVERLOADED') && tries > 0) continue;
    assert.deepEqual([...new Set(all)], ['400 JSON_INVALID']);
    break;
  }
  const samples = 1000;
  const { status, body } = await client.infer(
    'rows',
    protocolBody(inOnePiece(saidBy(new Random(SEED), samples))),
  );
  assert.equal(status, 200, body.toString());
  assert.equal(jsonIn({ body }).outputs[0].shape[0], samples);
}
after(async () => {
  await holdsNothing();
  client[Symbol.dispose]();
  await served[Symbol.asyncDispose]();
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});

describe('what is wrong is refused', () => {
  const { body, jsonLength = '' } = sent;
  const cut = (bytes: number): SentBody => ({ body: body.subarray(0, body.length - bytes), jsonLength });
  const cases: [string, SentBody, string, string?][] = [
    ...wrongTensors(good).map(([name, tensors, code]): [string, SentBody, string] => [
      name,
      protocolBody(tensors),
      `400 ${code}`,
    ]),
    ['a truncated body', cut(1), '400 REQUEST_INVALID'],
    ['a body without its tensors', cut(body.length - Number(jsonLength)), '400 REQUEST_INVALID'],
    [
      'bytes behind the tensors',
      { body: Buffer.concat([body, Buffer.alloc(4)]), jsonLength },
      '400 REQUEST_INVALID',
    ],
    [
      'a length of JSON that is too long',
      { body, jsonLength: String(body.length + 1) },
      '400 REQUEST_INVALID',
    ],
    ['a length of JSON that is too short', { body, jsonLength: '3' }, '400 JSON_INVALID'],
    ['a negative length of JSON', { body, jsonLength: '-1' }, '400 REQUEST_INVALID'],
    ['a length of JSON that is no number', { body, jsonLength: '0x10' }, '400 REQUEST_INVALID'],
    ['two lengths of JSON', { body, jsonLength: `${jsonLength}, ${jsonLength}` }, '400 REQUEST_INVALID'],
    [
      'a negative timeout',
      protocolBody(good, { extra: { parameters: { timeout: -1 } } }),
      '400 REQUEST_INVALID',
    ],
    ['a timeout in the query', sent, '400 REQUEST_INVALID', '?timeout=-5'],
    ['a priority', protocolBody(good, { extra: { parameters: { priority: 1.5 } } }), '400 REQUEST_INVALID'],
    [
      'an unknown output',
      protocolBody(good, { extra: { outputs: [{ name: 'other' }] } }),
      '400 OUTPUT_UNKNOWN',
    ],
    ['no body', asText(''), '400 JSON_INVALID'],
    ['no JSON', asText('{'), '400 JSON_INVALID'],
    ['JSON that is no request', asText('[1]'), '400 REQUEST_INVALID'],
    ['JSON as deep as its length', asText('['.repeat(500_000)), '400 JSON_INVALID'],
    ['an object as deep', asText('{"inputs":'.repeat(50_000)), '400 JSON_INVALID'],
    ['bytes that are no UTF-8', { body: Buffer.from([0x7b, 0xff, 0xfe]) }, '400 JSON_INVALID'],
    [
      'safetensors cut short',
      { body: Buffer.from([50, 0, 0, 0, 0, 0, 0, 0, 0x7b]) },
      '400 SAFETENSORS_INVALID',
    ],
    ['another type', { ...sent, contentType: 'image/png' }, '415 CONTENT_UNSUPPORTED'],
  ];

  test('one by one', async () => {
    for (const [name, bad, wanted, query] of cases)
      assert.equal(refusal(await client.infer('rows', bad, query)), wanted, name);
    const gzip = await client.ask('POST', INFER, body, { 'content-encoding': 'gzip' });
    assert.equal(refusal(gzip), '415 CONTENT_UNSUPPORTED');
  });

  test('and disturbs nobody who asks at the same moment', async () => {
    const mixed = cases.flatMap(([, bad, wanted, query]) => [
      client.infer('rows', bad, query).then((reply) => assert.equal(refusal(reply), wanted)),
      answersAsEver(),
    ]);
    await Promise.all(mixed);
  });

  test('when it is too large, also where the client goes on sending', async () => {
    await using roomy = await serve({ limits: { bodyBytes: BODY_BYTES }, requestBytes: 3 * BODY_BYTES });
    const large = Buffer.alloc(8 * BODY_BYTES, 0x20);
    for (const fields of [`Content-Length: ${large.length}`, 'Transfer-Encoding: chunked']) {
      using connection = await RawConnection.open(roomy.port);
      connection.send(`POST ${INFER} HTTP/1.1\r\nHost: h\r\n${fields}\r\n\r\n`);
      if (fields.startsWith('T')) connection.send(`${large.length.toString(16)}\r\n`);
      // All of it is taken, though nobody wants it: a client that cannot write may not read either.
      await new Promise<void>((resolve, reject) =>
        connection.socket.write(large, (error) => (error ? reject(error) : resolve())),
      );
      const reply = await connection.reply();
      assert.equal(refusal(reply), '413 BODY_TOO_LARGE');
      assert.equal(reply.headers.connection, 'close');
      assert.equal(await connection.rest(), '');
      await answersAsEver();
    }
  });

  test('before its body comes, and hears no more on that connection', async () => {
    using connection = await RawConnection.open(served.port);
    connection.send(`POST ${INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: ${64 * BODY_BYTES}\r\n\r\n`);
    assert.equal(refusal(await connection.reply()), '413 BODY_TOO_LARGE');
    connection.send(Buffer.alloc(100_000));
    assert.equal(await connection.rest(), '');
  });
});

describe('a connection', () => {
  const open = () => RawConnection.open(served.port);
  const isAnswer = (reply: Awaited<ReturnType<RawConnection['reply']>>) =>
    assert.equal(JSON.stringify(outputsIn(reply)), answer);

  test('goes on after what was refused, where its body was small', async () => {
    using connection = await open();
    connection.send(requestText('/v2/models/other/infer', sent));
    assert.equal(refusal(await connection.reply()), '404 MODEL_UNKNOWN');
    connection.send('GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n');
    assert.equal(refusal(await connection.reply()), '404 ROUTE_UNKNOWN');
    connection.send(requestText(INFER, sent));
    isAnswer(await connection.reply());
  });

  test('may have many requests on their way', async () => {
    using connection = await open();
    const one = requestText(INFER, sent);
    connection.send(...new Array(20).fill(one), 'HEAD /v2 HTTP/1.1\r\nHost: h\r\n\r\n', one);
    for (let i = 0; i < 20; i++) isAnswer(await connection.reply());
    assert.equal((await connection.reply(true)).status, 200);
    isAnswer(await connection.reply());
  });

  test('gets the answers to what came before garbage, then one to that', async () => {
    using connection = await open();
    const one = requestText(INFER, sent);
    connection.send(Buffer.concat([one, one, Buffer.from('GARBAGE\r\n\r\n')]));
    isAnswer(await connection.reply());
    isAnswer(await connection.reply());
    assert.equal(refusal(await connection.reply()), '400 REQUEST_INVALID');
    assert.equal(await connection.rest(), '');
  });

  test('of garbage gets an answer and ends', async () => {
    for (const [bytes, wanted] of [
      ['\x16\x03\x01 TLS?\r\n\r\n', '400 REQUEST_INVALID'],
      ['GET /v2 HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n', '400 REQUEST_INVALID'],
      [
        `POST ${INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n`,
        '400 REQUEST_INVALID',
      ],
      [
        `POST ${INFER} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n`,
        '400 REQUEST_INVALID',
      ],
      [`GET /v2 HTTP/1.1\r\nHost: h\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`, '431 REQUEST_INVALID'],
      [`GET /${'v'.repeat(20_000)} HTTP/1.1\r\nHost: h\r\n\r\n`, '431 REQUEST_INVALID'],
    ] as const) {
      using connection = await open();
      connection.send(bytes);
      assert.equal(refusal(await connection.reply()), wanted, JSON.stringify(bytes.slice(0, 30)));
      assert.equal(await connection.rest(), '');
    }
    await answersAsEver();
  });

  test('with no host, or with two, is refused; HTTP/1.0 knows of none', async () => {
    const ask = async (text: string) => {
      using connection = await open();
      return await connection.send(text).reply();
    };
    for (const fields of ['', 'Host: a\r\nhost: a\r\n', 'HOST: a\r\nHost: b\r\n'])
      assert.equal(refusal(await ask(`GET /v2 HTTP/1.1\r\n${fields}\r\n`)), '400 REQUEST_INVALID');
    assert.equal((await ask('GET /v2 HTTP/1.0\r\n\r\n')).status, 200);
  });

  test('that asks for a tunnel is refused, after what came before it', async () => {
    using connection = await open();
    connection.send(
      'GET /v2 HTTP/1.1\r\nHost: h\r\n\r\nCONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n',
    );
    assert.equal((await connection.reply()).status, 200);
    assert.equal(refusal(await connection.reply()), '405 REQUEST_INVALID');
    assert.equal(await connection.rest(), '');
  });

  test('whose client ends in the middle of a body ends too', async () => {
    const one = requestText(INFER, sent);
    for (const bytes of [10, one.length - sent.body.length, one.length - 1]) {
      using connection = await open();
      connection.send(one.subarray(0, bytes));
      connection.socket.end();
      const rest = await connection.rest();
      assert.ok(rest === '' || rest.startsWith('HTTP/1.1 400 '), rest);
      using gone = await open();
      gone.send(one.subarray(0, bytes));
      gone.socket.resetAndDestroy();
    }
    await answersAsEver();
  });

  test('whose client ends its side is over: it asks for nothing any more', async () => {
    using connection = await open();
    connection.send(requestText(INFER, sent));
    connection.socket.end();
    const rest = await connection.rest();
    assert.ok(rest === '' || rest.startsWith('HTTP/1.1 200 '), rest);
    await answersAsEver();
  });

  test('may send its body in pieces, or byte by byte', async () => {
    using chunked = await open();
    const { body, jsonLength } = sent;
    chunked.send(
      `POST ${INFER} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nInference-Header-Content-Length: ${jsonLength}\r\n\r\n`,
    );
    for (let i = 0; i < body.length; i += 7) {
      const piece = body.subarray(i, i + 7);
      chunked.send(`${piece.length.toString(16)}\r\n`, piece, '\r\n');
    }
    chunked.send('0\r\n\r\n');
    isAnswer(await chunked.reply());
    using slow = await open();
    for (const byte of requestText(INFER, sent)) slow.send(Uint8Array.of(byte));
    isAnswer(await slow.reply());
  });

  test('that asks before it sends is told to', async () => {
    using connection = await open();
    const bytes = requestText(INFER, sent, ['Expect: 100-continue']);
    const head = bytes.subarray(0, bytes.length - sent.body.length);
    connection.send(head);
    assert.equal((await connection.reply()).status, 100);
    connection.send(sent.body);
    isAnswer(await connection.reply());
    connection.send(requestText(INFER, sent, ['Expect: something-else']));
    isAnswer(await connection.reply());
  });
});

test('clients that go away while they wait leave nothing behind', async () => {
  const one = requestText(INFER, sent);
  for (let round = 0; round < 5; round++) {
    const connections = await Promise.all(Array.from({ length: 60 }, () => RawConnection.open(served.port)));
    const kept: Promise<void>[] = [];
    for (const [i, connection] of connections.entries()) {
      connection.send(one);
      if (i % 3 === 0)
        kept.push(connection.reply().then((reply) => assert.equal(JSON.stringify(outputsIn(reply)), answer)));
      else if (i % 3 === 1) connection.socket.resetAndDestroy();
      else setImmediate(() => connection.socket.resetAndDestroy());
    }
    await Promise.all(kept);
    for (const connection of connections) connection[Symbol.dispose]();
  }
  await holdsNothing();
});

test('bodies that are only claimed take no room', async () => {
  const connections = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const connection = await RawConnection.open(served.port);
      return connection.send(
        `POST ${INFER} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n`,
      );
    }),
  );
  await answersAsEver();
  for (const connection of connections) connection[Symbol.dispose]();
});

test('a client that never ends sending is listened to for so many bytes', async () => {
  using connection = await RawConnection.open(served.port);
  connection.send(`POST ${INFER} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(1 << 20, 0x20), Buffer.from('\r\n')]);
  let pieces = 0;
  while (!connection.socket.destroyed && pieces < 4096)
    await new Promise<void>((resolve) => {
      connection.socket.once('close', resolve);
      connection.socket.write(piece, (error) => {
        connection.socket.off('close', resolve);
        if (!error) pieces += 1;
        resolve();
      });
    });
  assert.ok(pieces < 128, `${pieces} MiB`);
  await answersAsEver();
});

describe('the thread of a server', () => {
  /** Of a server that has no models. */
  async function frontDoor(metrics: () => Promise<string>) {
    const log: string[] = [];
    const arena = new SlotArena(1 << 16);
    const closed = deferred<void>();
    const connections = handOverMemory();
    const door = new FrontDoor({
      connections,
      state: new ServerState(new SharedArrayBuffer(4)),
      security: { access: { origins: [] } },
      models: new FrontModels(),
      arena,
      slaMs: undefined,
      limits: DEFAULT_FRONT_LIMITS,
      metrics,
      statistics: () => Promise.resolve(''),
      repository: NO_REPOSITORY,
      ...NO_PAGE,
      observe: ({ status }) => log.push(`status ${status}`),
      onConnection: (event) => {
        if (event === 'closed') closed.resolve();
      },
      onError: (error) => log.push(String(error)),
    });
    const accepted = await accepting(connections, door);
    const connection = await RawConnection.open(accepted.port);
    connection.send('GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n');
    return {
      door,
      log,
      connection,
      closed: closed.promise,
      [Symbol.dispose]: () => {
        accepted[Symbol.dispose]();
        arena[Symbol.dispose]();
      },
    };
  }

  test('is done when the last request is, though its client has gone', async () => {
    const [asked, document] = [deferred<void>(), deferred<string>()];
    using front = await frontDoor(() => {
      asked.resolve();
      return document.promise;
    });
    const { door, log, connection, closed } = front;
    await asked.promise;
    connection[Symbol.dispose]();
    await closed;
    const drained = door.drain().then(() => log.push('drained'));
    for (let turn = 0; turn < 10; turn++) await new Promise((next) => setImmediate(next));
    assert.deepEqual(log, []);
    assert.equal(door.requests, 1);
    document.resolve('');
    await drained;
    assert.deepEqual(log, ['status 0', 'drained']);
  });

  test('tells of an answer that cannot be sent, and ends its connection', async () => {
    using front = await frontDoor(() => Promise.resolve(undefined as unknown as string));
    const { door, log, connection } = front;
    assert.equal(await connection.rest(), '');
    await door.drain();
    assert.equal(door.requests, 0);
    assert.match(log.join(), /^TypeError /);
  });
});

test('slow clients are ended', async () => {
  await using impatient = await serve({ limits: { headersMs: 200, requestMs: 200, idleMs: 200 } });
  const texts = [
    '',
    'GET /v2 HT',
    'GET /v2 HTTP/1.1\r\nHost: h\r\n',
    `POST ${INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{`,
  ];
  await Promise.all(
    texts.map(async (text) => {
      using connection = await RawConnection.open(impatient.port);
      if (text !== '') connection.send(text);
      assert.equal(refusal(await connection.reply()), '408 REQUEST_INVALID');
      assert.equal(await connection.rest(), '');
    }),
  );
  using idle = await RawConnection.open(impatient.port);
  idle.send('GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n');
  assert.equal((await idle.reply()).status, 200);
  assert.equal(await idle.rest(), '');
});

test('who is told to go and keeps the connection open holds it no longer', async () => {
  await using impatient = await serve({ limits: { headersMs: 200, requestMs: 60_000, idleMs: 60_000 } });
  const texts = ['GARBAGE\r\n\r\n', 'GET /v2 HT', 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'];
  const kept = await Promise.all(
    texts.map(async (text) => {
      const connection = (await RawConnection.open(impatient.port)).send(text);
      assert.match(refusal(await connection.reply()), /^4/);
      return connection;
    }),
  );
  using asking = new Client(impatient.port);
  const open = async () =>
    Number(
      /^hotrow_connections\{[^}]*"http"[^}]*\} (\d+)$/m.exec(
        (await asking.get('/metrics')).body.toString(),
      )?.[1],
    );
  while ((await open()) > 1);
  for (const connection of kept) connection[Symbol.dispose]();
});
