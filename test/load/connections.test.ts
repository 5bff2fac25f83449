import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { Connections, type Reply } from '../../src/load/connections.ts';

/** A server of sockets; each message is four bytes. */
async function listen(received: (socket: Socket, text: string) => void): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      for (let i = 0; i < chunk.length; i += 4) received(socket, chunk.toString('latin1', i, i + 4));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
const target = (server: Server) => ({
  host: '127.0.0.1',
  port: (server.address() as AddressInfo).port,
  tls: false,
});
const OK = (text: string, more = '') => `HTTP/1.1 200 OK\r\nContent-Length: 4\r\n${more}\r\n${text}`;
const words = (reply: Reply) => ('broken' in reply ? reply.broken : reply.body.toString());

test('connections grow to their limit; what waits for one goes in its turn', async () => {
  const waiting: [Socket, string][] = [];
  const server = await listen((socket, text) => waiting.push([socket, text]));
  const connections = new Connections(target(server), 2);
  const replies: string[] = [];
  const sent = ['aaaa', 'bbbb', 'cccc', 'dddd'].map((text) =>
    connections.send(Buffer.from(text), (reply) => replies.push(words(reply))),
  );
  assert.deepEqual(sent, [true, true, false, false]);
  assert.equal(connections.opened, 2);
  while (replies.length < 4) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    assert.ok(waiting.length <= 2);
    const [socket, text] = waiting.shift() ?? [];
    if (text !== undefined) socket?.write(OK(text));
  }
  assert.deepEqual(replies.toSorted(), ['aaaa', 'bbbb', 'cccc', 'dddd']);
  assert.ok(replies.indexOf('cccc') < replies.indexOf('dddd'));
  assert.equal(connections.opened, 2);
  connections.close();
  server.close();
});

const once = (connections: Connections, text: string) =>
  new Promise<string>((resolve) => {
    connections.send(Buffer.from(text), (reply) => resolve(words(reply)));
  });

test('a connection is used again, unless its server ends it or will soon', async () => {
  const server = await listen((socket, text) => {
    const more = { last: 'Connection: close\r\n', soon: 'Keep-Alive: timeout=1\r\n' }[text] ?? '';
    socket.write(OK(text, more));
  });
  const connections = new Connections(target(server), 5);
  const opened: number[] = [];
  for (const text of ['aaaa', 'bbbb', 'last', 'cccc', 'soon', 'dddd', 'eeee']) {
    assert.equal(await once(connections, text), text);
    opened.push(connections.opened);
  }
  assert.deepEqual(opened, [1, 1, 1, 2, 2, 3, 3]);
  connections.close();
  server.close();
});

test('the connection that has been idle for longest is used first', async () => {
  const used: Socket[] = [];
  const server = await listen((socket, text) => {
    used.push(socket);
    socket.write(OK(text));
  });
  const connections = new Connections(target(server), 3);
  await Promise.all(['aaaa', 'bbbb', 'cccc'].map((text) => once(connections, text)));
  for (let i = 0; i < 6; i++) await once(connections, 'dddd');
  assert.equal(new Set(used.slice(0, 3)).size, 3);
  assert.equal(new Set(used.slice(3, 6)).size, 3);
  assert.deepEqual(used.slice(6), used.slice(3, 6));
  assert.equal(connections.opened, 3);
  connections.close();
  server.close();
});

test('broken connections: each request hears why, once, and others go on', async () => {
  const server = await listen((socket, text) => {
    if (text === 'shut') socket.destroy();
    else if (text === 'amid') socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc');
    else if (text === 'junk') socket.write('what?\r\n\r\n');
    else if (text === 'ends') socket.end('HTTP/1.0 200 OK\r\n\r\nto the end');
    else socket.write(OK(text));
  });
  const connections = new Connections(target(server), 1);
  const texts = ['shut', 'good', 'amid', 'junk', 'ends', 'fine'];
  const replies = await Promise.all(texts.map((text) => once(connections, text)));
  assert.match(replies[0] ?? '', /^connection: (closed|ECONNRESET)$/);
  assert.deepEqual(replies.slice(1), [
    'good',
    'connection: closed amid an answer',
    'answer: no answer of HTTP/1.1',
    'to the end',
    'fine',
  ]);
  connections.close();
  server.close();
});

test('a server that is gone refuses each', async () => {
  const server = await listen(() => {});
  const gone = target(server);
  await new Promise((resolve) => server.close(resolve));
  const connections = new Connections(gone, 1);
  assert.deepEqual(await Promise.all(['aaaa', 'bbbb'].map((text) => once(connections, text))), [
    'connection: ECONNREFUSED',
    'connection: ECONNREFUSED',
  ]);
  connections.close();
});

test('a reset leaves nobody waiting, and nobody is told', async () => {
  const server = await listen(() => {});
  const connections = new Connections(target(server), 1);
  let told = 0;
  for (const text of ['aaaa', 'bbbb'])
    connections.send(Buffer.from(text), () => {
      told += 1;
    });
  connections.reset();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(told, 0);
  assert.equal(connections.opened, 1);
  connections.close();
  server.close();
});
