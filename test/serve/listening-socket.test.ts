/** How connections are spread over those that serve them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { HandOver, handOverMemory, Intake } from '../../src/serve/hand-over.ts';
import { listen } from '../../src/serve/listening-socket.ts';
import { Client, RawConnection } from '../support/http-client.ts';
import { refuseCounting } from '../support/resources.ts';
import { programs, serve } from '../support/served.ts';

/** A port whose connections go to so many servers, and the numbers of those that got one, in order. */
async function spread(servers: number, limit = 10_000) {
  const chosen: number[] = [];
  let told = () => {};
  const all = Array.from({ length: servers }, (_, i) => {
    const memory = handOverMemory();
    const server = createServer((socket) => {
      chosen.push(i);
      told();
      socket.on('error', () => {}).resume();
    });
    const intake = new Intake(memory, server, { allowHalfOpen: false });
    return { intake, handOver: new HandOver(memory, (descriptor) => intake.receive(descriptor)) };
  });
  const socket = await listen('127.0.0.1', 0);
  const to = all.map(({ handOver }) => handOver);
  socket.accept({ to, limit, onError: assert.ifError });
  const cameTo = async (count: number) => {
    while (chosen.length < count)
      await new Promise<void>((resolve) => {
        told = resolve;
      });
  };
  return {
    port: socket.port,
    chosen,
    cameTo,
    /** Opens a connection, and tells which server got it. */
    open: async () => {
      const count = chosen.length + 1;
      const connection = await RawConnection.open(socket.port);
      await cameTo(count);
      return { connection, server: chosen[count - 1] as number };
    },
    allClosed: (server: number) => all[server]?.intake.allClosed(),
    close: () => socket.close(),
  };
}

test('the emptiest gets the next connection; of those, each in its turn', async () => {
  const own = await spread(3);
  const opened: Awaited<ReturnType<typeof own.open>>[] = [];
  const open = async (count: number) => {
    const before = own.chosen.length;
    for (let i = 0; i < count; i++) opened.push(await own.open());
    return own.chosen.slice(before);
  };
  assert.deepEqual(await open(8), [0, 1, 2, 0, 1, 2, 0, 1]);
  for (const { connection, server } of opened) if (server === 1) connection[Symbol.dispose]();
  await own.allClosed(1);
  // 3, 0 and 2 are open.
  assert.deepEqual(await open(5), [1, 1, 2, 1, 2]);
  for (const { connection } of opened) connection[Symbol.dispose]();
  own.close();
});

test('more than the limit are closed, of all servers together, until there is room', async () => {
  const own = await spread(2, 3);
  const first = await Promise.all(Array.from({ length: 3 }, () => RawConnection.open(own.port)));
  await own.cameTo(3);
  using refused = await RawConnection.open(own.port);
  assert.equal(await refused.rest(), '');
  for (const connection of first) connection[Symbol.dispose]();
  await Promise.all([own.allClosed(0), own.allClosed(1)]);
  const { connection } = await own.open();
  assert.equal(own.chosen.length, 4);
  connection[Symbol.dispose]();
  own.close();
});

const MANY = 1000;
const mostWaiting = () => Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));

test('many that come at once wait', {
  skip: refuseCounting ?? (mostWaiting() > MANY ? undefined : 'the system lets fewer connections wait'),
}, async () => {
  const own = await spread(2);
  const client = `
    const { connect } = require('node:net');
    let left = ${MANY};
    for (let i = 0; i < ${MANY}; i++)
      connect(${own.port}, '127.0.0.1', () => { if (--left === 0) process.exit(0); });`;
  // Nobody accepts meanwhile: this thread waits for the other program, which has ended once it is connected.
  const { status, stderr } = spawnSync(process.execPath, ['-e', client], {
    timeout: 60_000,
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  await own.cameTo(MANY);
  own.close();
});

test('threads have as many connections as the others, of each protocol', async () => {
  const THREADS = 3;
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-spread-'));
  const front = join(folder, 'front.mjs');
  const channelName = folder;
  // The thread of a server, which tells what it gets.
  writeFileSync(
    front,
    `import { parentPort, workerData } from 'node:worker_threads';
    const channel = new BroadcastChannel(${JSON.stringify(channelName)});
    channel.unref();
    parentPort.on('message', ({ kind, protocol }) => {
      if (kind === 'connection') channel.postMessage({ protocol, thread: workerData.name });
    });
    await import(${JSON.stringify(pathToFileURL(programs.front).href)});\n`,
  );
  const came: { readonly protocol: string; readonly thread: string }[] = [];
  let told = () => {};
  using channel = Object.assign(new BroadcastChannel(channelName), {
    [Symbol.dispose]: () => channel.close(),
  });
  channel.onmessage = (event) => {
    came.push((event as MessageEvent).data);
    told();
  };
  await using served = await serve({ ioThreads: THREADS, grpcPort: 0, programs: { ...programs, front } });
  const all: RawConnection[] = [];
  const open = async (port: number) => {
    const count = came.length + 1;
    const connection = await RawConnection.open(port);
    all.push(connection);
    while (came.length < count)
      await new Promise<void>((resolve) => {
        told = resolve;
      });
    return { connection, thread: came[count - 1]?.thread as string };
  };
  const kept = new Map<string, RawConnection[]>();
  for (const port of [served.port, served.server.grpcPort as number])
    for (let i = 0; i < 8; i++) {
      const { connection, thread } = await open(port);
      if (port === served.port) kept.set(thread, [...(kept.get(thread) ?? []), connection]);
    }
  for (const protocol of ['http', 'grpc']) {
    const counts = Array.from(
      { length: THREADS },
      (_, i) => came.filter((one) => one.protocol === protocol && one.thread === `http-${i}`).length,
    );
    assert.deepEqual(counts.toSorted(), [2, 3, 3], protocol);
  }
  // One of a thread's connections goes, and the next comes to that thread; a connection for asking is open all the time.
  using asking = new Client(served.port, 1);
  const isOpen = async (count: number) =>
    new RegExp(`^hotrow_connections\\{protocol="http"\\} ${count}$`, 'm').test(
      (await asking.get('/metrics')).body.toString(),
    );
  while (!(await isOpen(9)));
  for (const thread of ['http-1', 'http-0']) {
    for (const connection of kept.get(thread) ?? []) connection[Symbol.dispose]();
    const left = 9 - (kept.get(thread)?.length ?? 0);
    while (!(await isOpen(left)));
    for (const _ of kept.get(thread) ?? []) assert.equal((await open(served.port)).thread, thread);
    while (!(await isOpen(9)));
  }
  for (const connection of all) connection[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});
