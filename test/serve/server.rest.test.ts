/** A server at length: thousands of connections that do nothing, and thousands of requests, after which nothing has grown. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { nativeCounts } from '../../src/ffi/owned-handles.ts';
import { Client, outputsIn, RawConnection, refusal, requestText } from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { lengthsOf, NAMES } from '../support/request-forms.ts';
import { f32, i32 } from '../support/request-tensors.ts';
import { descriptors, refuseCounting, threads } from '../support/resources.ts';
import { SEED } from '../support/seed.ts';
import { saidBy, serve } from '../support/served.ts';

const INFER = '/v2/models/rows/infer';
const random = new Random(SEED);
function bodyOf(samples: number) {
  const { dense, bags } = saidBy(random, samples);
  return protocolBody({
    dense: f32([samples, 2], dense.flat()),
    values: i32([bags.flat(2).length], bags.flat(2)),
    lengths: i32([NAMES.length, samples], bags.flatMap(lengthsOf)),
  });
}

/** Both ends of a connection are in this process. */
const openFiles = Number(spawnSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).stdout);
const IDLE = Math.min(8000, Math.floor((Number.isNaN(openFiles) ? 4096 : openFiles) / 2) - 400);

test('connections that do nothing disturb nobody, and end when the server does', async () => {
  const served = await serve();
  using client = new Client(served.port);
  const body = bodyOf(3);
  const answer = outputsIn(await client.infer('rows', body));
  const idle: RawConnection[] = [];
  while (idle.length < IDLE)
    idle.push(...(await Promise.all(Array.from({ length: 100 }, () => RawConnection.open(served.port)))));
  assert.ok(idle.length >= 500);
  for (let i = 0; i < 20; i++) {
    const own = idle[i * 7] as RawConnection;
    own.send(requestText(INFER, body));
    assert.deepEqual(outputsIn(await own.reply()), answer);
    assert.deepEqual(outputsIn(await client.infer('rows', body)), answer);
  }
  await served.server.close();
  await Promise.all(idle.map((connection) => connection.rest()));
  for (const connection of idle) connection[Symbol.dispose]();
});

test('more connections than there may be are closed, and the others go on', async () => {
  await using served = await serve({ limits: { connections: 10 } });
  const connections = await Promise.all(Array.from({ length: 30 }, () => RawConnection.open(served.port)));
  const answers = await Promise.all(
    connections.map((connection) =>
      connection
        .send('GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n')
        .reply()
        .then(
          ({ status }) => status,
          () => 0,
        ),
    ),
  );
  assert.equal(answers.filter((status) => status === 200).length, 10);
  assert.equal(answers.filter((status) => status === 0).length, 20);
  for (const connection of connections) connection[Symbol.dispose]();
});

test('nothing grows, whatever clients do', { skip: refuseCounting }, async () => {
  const requestBytes = 8 << 20;
  await using served = await serve({ ioThreads: 1, requestBytes, limits: { bodyBytes: 2 << 20 } });
  const bodies = Array.from({ length: 20 }, (_, i) => bodyOf(1 + ((i * 7) % 50)));
  const round = async () => {
    using client = new Client(served.port, 16);
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        client.infer('rows', bodies[i % bodies.length] as (typeof bodies)[0]),
      ),
    );
    for (const answer of answers) if (answer.status !== 200) assert.match(refusal(answer), /^503/);
    const gone = await Promise.all(Array.from({ length: 100 }, () => RawConnection.open(served.port)));
    for (const [i, connection] of gone.entries()) {
      const bytes = requestText(INFER, bodies[i % bodies.length] as (typeof bodies)[0]);
      connection.send(i % 4 === 0 ? bytes.subarray(0, i * 3) : bytes);
      if (i % 4 === 1) connection.send('GARBAGE\r\n\r\n');
      setImmediate(() => connection.socket.resetAndDestroy());
    }
    await Promise.all(gone.map(({ closed }) => closed));
  };
  /** Slots are all free again: a body and what it grew from take more than half of them. */
  const isFree = async () => {
    using client = new Client(served.port);
    const large = Buffer.alloc(2 << 20, 0x20);
    for (;;) {
      const replies = await Promise.all([large, large].map((body) => client.infer('rows', { body })));
      if (replies.every(({ status }) => status === 400)) return;
    }
  };
  await round();
  await isFree();
  const counts = () => {
    const { allocations, allocatedBytes: _, ...others } = nativeCounts();
    return { allocations, exactly: { ...others, threads: threads(), descriptors: descriptors() } };
  };
  const before = counts();
  for (let i = 0; i < 15; i++) await round();
  await isFree();
  const { allocations, exactly } = counts();
  assert.deepEqual(exactly, before.exactly);
  // Programs for sizes of batches that had not come yet; of thousands of requests nothing.
  assert.ok(allocations - before.allocations < 100, `${allocations - before.allocations} allocations more`);
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});
