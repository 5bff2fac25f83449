/** Connections on their way from one thread to another: none is lost, none is closed twice. */
import assert from 'node:assert/strict';
import { fstatSync, openSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HandOver, handOverMemory, Intake } from '../../src/serve/hand-over.ts';
import { listen } from '../../src/serve/listening-socket.ts';
import { RawConnection } from '../support/http-client.ts';
import { refuseCounting, sockets } from '../support/resources.ts';

/** A port, and what was sent of the connections that came to it. */
async function accepted() {
  const memory = handOverMemory();
  const sent: number[] = [];
  let told = () => {};
  const handOver = new HandOver(memory, (descriptor) => {
    sent.push(descriptor);
    told();
  });
  const opened: RawConnection[] = [];
  const socket = await listen('127.0.0.1', 0);
  socket.accept({ to: [handOver], limit: 100, onError: assert.ifError });
  return {
    memory,
    handOver,
    sent,
    port: socket.port,
    /** Opens connections, one after the other, each until it was sent. */
    open: async (count: number) => {
      for (let i = 0; i < count; i++) {
        const isSent = new Promise<void>((resolve) => {
          told = resolve;
        });
        opened.push(await RawConnection.open(socket.port));
        await isSent;
      }
      return opened.slice(-count);
    },
    [Symbol.dispose]: () => {
      for (const connection of opened) connection[Symbol.dispose]();
      socket.close();
    },
  };
}

test('what was not received ends with the other side, and what comes later at once', async () => {
  using own = await accepted();
  const before = await own.open(3);
  assert.equal(own.handOver.open, 3);
  own.handOver.end();
  for (const connection of before) assert.equal(await connection.rest(), '');
  using later = await RawConnection.open(own.port);
  assert.equal(await later.rest(), '');
  assert.equal(own.sent.length, 3);
});

test('what was received goes on when its thread is given up', { skip: refuseCounting }, async () => {
  const before = sockets();
  {
    using own = await accepted();
    const server = createServer({ allowHalfOpen: true });
    const intake = new Intake(own.memory, server, { allowHalfOpen: true });
    const served: Socket[] = [];
    server.on('connection', (socket) => {
      served.push(socket);
      socket.on('data', (bytes) => socket.write(bytes));
      socket.on('end', () => setImmediate(() => socket.end('that was all')));
    });
    // Received between others that are sent: numbers of descriptors come again.
    const [first] = (await own.open(1)) as [RawConnection];
    intake.receive(own.sent[0] as number);
    first.socket.end('a');
    assert.equal(await first.rest(), 'athat was all');
    await intake.allClosed();
    assert.equal(own.handOver.open, 0);
    const [second, third] = (await own.open(2)) as [RawConnection, RawConnection];
    intake.receive(own.sent[1] as number);
    assert.equal(own.handOver.open, 2);
    own.handOver.end();
    assert.equal(await third.rest(), '');
    assert.equal(served[1]?.remotePort, second.socket.localPort);
    second.socket.end('b');
    assert.equal(await second.rest(), 'bthat was all');
    assert.equal(served.length, 2);
  }
  // Where closing takes another turn of the loop.
  while (sockets() > before) await new Promise((next) => setImmediate(next));
  assert.equal(sockets(), before);
});

test('a descriptor that no connection can be made of is closed, and counts no more', async () => {
  const memory = handOverMemory();
  const intake = new Intake(memory, createServer(), { allowHalfOpen: false });
  const handOver = new HandOver(memory, (descriptor) => intake.receive(descriptor));
  const descriptor = openSync(fileURLToPath(import.meta.url), 'r');
  handOver.give(descriptor);
  assert.equal(handOver.open, 0);
  assert.throws(() => fstatSync(descriptor), { code: 'EBADF' });
  await intake.allClosed();
  handOver.end();
});
