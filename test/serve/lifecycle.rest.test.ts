/** A server from start to end: what it refuses to start with, deadlines and full queues, and how it stops. */
import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { pathToFileURL } from 'node:url';
import { nativeCounts } from '../../src/ffi/owned-handles.ts';
import { readSecurity } from '../../src/serve/security/security.ts';
import type { ServerEvent } from '../../src/serve/server.ts';
import { authority, signed } from '../support/certificates.ts';
import {
  Client,
  jsonIn,
  outputsIn,
  RawConnection,
  type Reply,
  refusal,
  requestText,
} from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { lengthsOf, NAMES } from '../support/request-forms.ts';
import { f32, i32 } from '../support/request-tensors.ts';
import { descriptors, refuseCounting, sockets, threads } from '../support/resources.ts';
import { SEED } from '../support/seed.ts';
import { programs, rowsModel, saidBy, serve } from '../support/served.ts';

const INFER = '/v2/models/rows/infer';
function bodyOf(samples: number, extra: object = {}) {
  const { dense, bags } = saidBy(new Random(SEED), samples);
  const tensors = {
    dense: f32([samples, 2], dense.flat()),
    values: i32([bags.flat(2).length], bags.flat(2)),
    lengths: i32([NAMES.length, samples], bags.flatMap(lengthsOf)),
  };
  return protocolBody(tensors, { extra });
}
const small = bodyOf(2);

describe('deadlines', () => {
  test('that cannot be met are refused, and priorities are taken', async () => {
    await using served = await serve();
    using client = new Client(served.port);
    const timeout = (timeout: number, priority = 0) => bodyOf(2, { parameters: { timeout, priority } });
    const reply = await client.infer('rows', timeout(1));
    assert.match(refusal(reply), /^(503 DEADLINE_UNMEETABLE|504 DEADLINE_EXCEEDED)$/);
    const replies = await Promise.all(
      [0, 1, 5, 4_000_000_000].map((level) => client.infer('rows', timeout(0, level))),
    );
    const plain = outputsIn(await client.infer('rows', small));
    for (const own of [...replies, await client.infer('rows', timeout(2 ** 50, 2))])
      assert.deepEqual(outputsIn(own), plain);
    const inQuery = await client.infer('rows', small, '?timeout=1&priority=2');
    assert.match(refusal(inQuery), /DEADLINE/);
  });

  test("are the server's where requests do not say", async () => {
    await using served = await serve({ slaMs: 0.001 });
    using client = new Client(served.port);
    assert.match(
      refusal(await client.infer('rows', small)),
      /^(503 DEADLINE_UNMEETABLE|504 DEADLINE_EXCEEDED)$/,
    );
    outputsIn(await client.infer('rows', bodyOf(2, { parameters: { timeout: 60_000_000 } })));
  });
});

test('a full queue refuses, and says when to try again', async () => {
  await using served = await serve({ batching: { slaMs: 1000, queueSamples: 100 } });
  using client = new Client(served.port);
  let refused = 0;
  while (refused === 0) {
    const replies = await Promise.all(Array.from({ length: 100 }, () => client.infer('rows', bodyOf(60))));
    for (const reply of replies)
      if (reply.status !== 200) {
        assert.equal(refusal(reply), '503 OVERLOADED');
        refused += 1;
      }
  }
  outputsIn(await client.infer('rows', bodyOf(100)));
});

test('memory for requests that is full refuses them, and larger bodies move as they grow', async () => {
  const bytes = 1 << 20;
  await using served = await serve({ limits: { bodyBytes: 4 * bytes }, requestBytes: 12 * bytes });
  using client = new Client(served.port);
  const { body, jsonLength = '' } = bodyOf(2);
  const padded = Buffer.concat([Buffer.alloc(3 * bytes, 0x20), body]);
  const plain = outputsIn(await client.infer('rows', small));
  const length = { 'inference-header-content-length': String(3 * bytes + Number(jsonLength)) };
  // So often that they would fill all of it, were the slots that they grew out of kept.
  for (let i = 0; i < 12; i++)
    assert.deepEqual(outputsIn(await client.ask('POST', INFER, padded, length)), plain);
  const claim = async (sends: number) => {
    const connection = await RawConnection.open(served.port);
    return connection.send(
      `POST ${INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: ${4 * bytes}\r\n\r\n`,
      Buffer.alloc(sends, 0x20),
    );
  };
  // Claims of all memory take a part of it; those who send most of what they claim do take it.
  const few = await Promise.all(Array.from({ length: 16 }, () => claim(1)));
  assert.deepEqual(outputsIn(await client.infer('rows', small)), plain);
  assert.ok(
    few.every(({ unread }) => unread === 0),
    'a claim is refused',
  );
  const many = await Promise.all(Array.from({ length: 16 }, () => claim(3 * bytes)));
  const holding = [...few, ...many];
  const refused = holding.map((connection) => connection.reply().then(refusal, () => 'gone'));
  assert.equal(await Promise.race(refused), '503 OVERLOADED');
  for (const connection of holding) connection[Symbol.dispose]();
  for (;;) {
    const reply = await client.ask('POST', INFER, padded, length);
    if (reply.status === 503) continue;
    assert.deepEqual(outputsIn(reply), plain);
    break;
  }
});

test('several threads receive requests for several models', async () => {
  await using served = await serve({ ioThreads: 2, models: { rows: rowsModel, again: rowsModel } });
  const clients = Array.from({ length: 8 }, () => new Client(served.port, 2));
  const replies = await Promise.all(
    Array.from(
      { length: 160 },
      (_, i) => clients[i % 8]?.infer(i % 3 === 0 ? 'rows' : 'again', small) as Promise<Reply>,
    ),
  );
  const [first] = replies.map(outputsIn);
  for (const [i, reply] of replies.entries())
    assert.deepEqual(outputsIn(reply), { ...first, model_name: i % 3 === 0 ? 'rows' : 'again' });
  for (const client of clients) client[Symbol.dispose]();
});

describe('a server that stops', () => {
  test('answers what has come, tells that it goes, and ends', async () => {
    const served = await serve();
    const { port } = served;
    const connections = await Promise.all(Array.from({ length: 40 }, () => RawConnection.open(port)));
    const [silent, half, document, ...asking] = connections as [RawConnection, RawConnection, RawConnection];
    using _silent = silent;
    const bytes = requestText(INFER, small);
    for (const connection of asking as RawConnection[]) {
      connection.send('GET /v2/health/ready HTTP/1.1\r\nHost: h\r\n\r\n');
      assert.equal((await connection.reply()).status, 200);
      connection.send(bytes);
    }
    half.send(bytes.subarray(0, -1));
    document.send('GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n');
    assert.equal((await document.reply()).status, 200);
    let isClosed = false;
    const closing = served.server.close().then(() => {
      isClosed = true;
    });
    assert.equal(served.server.close(), served.server.close());
    const first = await Promise.all((asking as RawConnection[]).map((connection) => connection.reply()));
    for (const reply of first) outputsIn(reply);
    // Some of them were answered after the end had begun.
    document.send('GET /v2/health/ready HTTP/1.1\r\nHost: h\r\n\r\n');
    const ready = await document.reply();
    assert.deepEqual(
      [ready.status, ready.headers.connection, jsonIn(ready)],
      [503, 'close', { ready: false }],
    );
    assert.equal(await document.rest(), '');
    assert.equal(isClosed, false);
    half.send(bytes.subarray(-1));
    outputsIn(await half.reply());
    await closing;
    assert.equal(await silent.rest(), '');
    await assert.rejects(RawConnection.open(port), { code: 'ECONNREFUSED' });
    assert.deepEqual(
      served.events.map(({ kind }) => kind).filter((kind) => kind !== 'loading'),
      ['loaded', 'listening', 'draining', 'closed'],
    );
    for (const connection of connections) connection[Symbol.dispose]();
  });

  test('waits for nobody longer than it should', async () => {
    const served = await serve({ drainMs: 50 });
    using stuck = await RawConnection.open(served.port);
    stuck.send(requestText(INFER, small).subarray(0, -1));
    using client = new Client(served.port);
    outputsIn(await client.infer('rows', small));
    await served.server.close();
    assert.equal(await stuck.rest(), '');
  });

  test('ends connections whose clients keep their side open', async () => {
    const own = authority();
    const { certFile: certificate, keyFile: key } = signed(own);
    const tls = await readSecurity({ origins: [], tls: { certificate, key } });
    for (const security of [undefined, tls.security]) {
      // Where one is left, it does not end.
      const served = await serve({
        grpcPort: 0,
        drainMs: 50,
        stopMs: 600_000,
        ...(security === undefined ? {} : { security }),
      });
      const kept: Socket[] = [];
      for (const port of [served.port, served.server.grpcPort as number])
        for (const shakesHands of security === undefined ? [false] : [false, true]) {
          const to = { port, host: '127.0.0.1', allowHalfOpen: true };
          const socket = shakesHands
            ? connectTls({ ...to, ca: own.cert, ALPNProtocols: port === served.port ? [] : ['h2'] })
            : connect(to);
          kept.push(socket.on('error', () => {}).resume());
          await once(socket, shakesHands ? 'secureConnect' : 'connect');
          if (port === served.port) socket.write('GET /v2 HTTP/1.1\r\nHost: h\r\n');
        }
      await served.server.close();
      assert.equal(served.events.at(-1)?.kind, 'closed');
      assert.deepEqual(
        served.events.filter(({ kind }) => kind === 'error'),
        [],
      );
      for (const socket of kept) socket.destroy();
    }
  });

  const realThread = (program: 'engine' | 'front', code: string) => {
    const file = join(tmpdir(), `hotrow-thread-${process.pid}-${program}.mjs`);
    const real = JSON.stringify(pathToFileURL(programs[program]).href);
    writeFileSync(
      file,
      `import { parentPort } from 'node:worker_threads';\nawait import(${real});\n${code}\n`,
    );
    return { ...programs, [program]: file };
  };

  test('ends when an engine does not', async () => {
    const served = await serve({
      programs: realThread('engine', 'setInterval(() => {}, 1000);'),
      stopMs: 20,
    });
    await served.server.close();
    const errors = served.events.flatMap((event) => (event.kind === 'error' ? [event.error.message] : []));
    assert.deepEqual(errors, ['engines did not stop in 20 ms']);
    assert.equal(served.events.at(-1)?.kind, 'closed');
  });

  const endsWhenTold = (kind: string) =>
    `parentPort.on('message', (message) => message.kind === '${kind}' && process.exit(0));`;
  /** With the first requests of clients. */
  const endsWhenAsked = `
    parentPort.on('message', ({ start }) => {
      if (start === undefined) return;
      const [counts, bell] = [new Int32Array(start.counts), new Int32Array(start.bell)];
      let seen;
      setInterval(() => {
        if (Atomics.load(counts, 0) === 0) return;
        const rung = Atomics.load(bell, 0);
        seen ??= rung;
        if (rung !== seen) process.exit(0);
      }, 1);
    });`;
  for (const [program, code] of [
    ['engine', endsWhenAsked],
    ['front', endsWhenTold('answer')],
  ] as const)
    test(`fails when a thread ends by itself: ${program}`, async () => {
      const served = await serve({ programs: realThread(program, code) });
      using client = new Client(served.port);
      const asking = (async () => {
        await client.get('/metrics');
        for (;;) {
          const reply = await client.infer('rows', small);
          if (reply.status !== 200) return refusal(reply);
        }
      })().catch(() => 'gone');
      await assert.rejects(served.server.failed, /a thread of the server ended/);
      // What waited for the engine does not wait for ever.
      assert.match(
        await asking,
        program === 'front' ? /gone/ : /^503 (MODEL_UNAVAILABLE|SHUTTING_DOWN)$|gone/,
      );
      await served.server.close();
      assert.equal(served.events.at(-1)?.kind, 'closed');
    });

  test('closes a connection that its thread did not take any more', { skip: refuseCounting }, async () => {
    const before = sockets();
    const served = await serve({ programs: realThread('front', endsWhenTold('connection')) });
    using connection = await RawConnection.open(served.port);
    assert.equal(await connection.rest(), '');
    await assert.rejects(served.server.failed, /a thread of the server ended/);
    await served.server.close();
    connection[Symbol.dispose]();
    await connection.closed;
    assert.equal(sockets(), before);
  });

  test('ends when a thread is gone before it has drained', async () => {
    const served = await serve({ programs: realThread('front', endsWhenTold('drain')) });
    await served.server.close();
    assert.equal(served.events.at(-1)?.kind, 'closed');
  });

  test('gives the memory for requests back', { skip: refuseCounting }, async () => {
    const mapped = () =>
      Number(/VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
    const requestBytes = 2 ** 30;
    await (await serve({ requestBytes })).server.close();
    const before = mapped();
    for (let i = 0; i < 2; i++) await (await serve({ requestBytes })).server.close();
    assert.ok(mapped() - before < 2 ** 30, `${mapped() - before} bytes more`);
  });

  test('gives everything back', { skip: refuseCounting }, async () => {
    const one = async () => {
      await using served = await serve({ ioThreads: 2 });
      using client = new Client(served.port);
      outputsIn(await client.infer('rows', small));
    };
    await one();
    const counts = () => ({
      ...nativeCounts(),
      threads: threads(),
      descriptors: descriptors(),
      sockets: sockets(),
    });
    const before = counts();
    for (let i = 0; i < 2; i++) await one();
    assert.deepEqual(counts(), before);
  });
});

describe('a server does not start', () => {
  const starts = async (overrides: Parameters<typeof serve>[0], error: object) => {
    const counts = () => ({ threads: threads(), descriptors: descriptors(), sockets: sockets() });
    const before = counts();
    await assert.rejects(serve(overrides), error);
    assert.deepEqual(counts(), before);
  };

  test('at an address that is taken, before any model is loaded', { skip: refuseCounting }, async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    await starts(
      { port, models: { rows: '/nothing/there.pt' } },
      { code: 'USAGE', message: /EADDRINUSE/, hint: /--port/ },
    );
    other.close();
  });

  test('with a model that is not there, or broken', { skip: refuseCounting }, async () => {
    await starts({ models: { rows: rowsModel, other: '/nothing/there.pt' } }, { code: 'FILE_NOT_FOUND' });
    const broken = join(tmpdir(), `hotrow-broken-${process.pid}.safetensors`);
    writeFileSync(broken, 'no safetensors');
    await starts({ models: { broken } }, { name: 'FormatError' });
  });

  test('when it is given up', { skip: refuseCounting }, async () => {
    await starts({ signal: AbortSignal.abort() }, { code: 'SHUTTING_DOWN' });
    for (const at of ['loading', 'loaded']) {
      const controller = new AbortController();
      const { signal } = controller;
      const onEvent = ({ kind }: ServerEvent) => {
        if (kind === at) controller.abort();
      };
      await starts({ signal, onEvent }, { code: 'SHUTTING_DOWN' });
      assert.equal(getEventListeners(signal, 'abort').length, 0);
    }
  });

  test('and a signal is not listened to any more once it has', async () => {
    const { signal } = new AbortController();
    await using _served = await serve({ signal });
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });
});
