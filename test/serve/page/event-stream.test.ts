/** How the page reads a stream of events, however it comes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { eventsOf, TokenWanted } from '../../../src/serve/page/browser/event-stream.ts';

async function answering(handle: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(handle).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v2/events`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function all(events: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const event of events) found.push(event);
  return found;
}

test('events come whole, wherever the stream is cut', async () => {
  const text = 'data: {"a":"é"}\n\n: a remark\n\nevent: x\ndata: 1\ndata: 2\n\ndata: not whole';
  await using server = await answering(async (_, response) => {
    for (const byte of Buffer.from(text)) {
      response.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    response.end();
  });
  assert.deepEqual(await all(eventsOf(server.url, null)), ['{"a":"é"}', '1\n2']);
});

test('the token goes along, where there is one', async () => {
  const seen: unknown[] = [];
  await using server = await answering(({ headers }, response) => {
    seen.push(headers.authorization);
    response.end();
  });
  await all(eventsOf(server.url, 'abc'));
  await all(eventsOf(server.url, null));
  assert.deepEqual(seen, ['Bearer abc', undefined]);
});

test('what the server says against it is told', async () => {
  let [status, body] = [401, ''];
  await using server = await answering((_, response) => {
    response.statusCode = status;
    response.end(body);
  });
  await assert.rejects(all(eventsOf(server.url, 'abc')), TokenWanted);
  [status, body] = [503, '{"error":"OVERLOADED: 32 pages watch"}'];
  await assert.rejects(all(eventsOf(server.url, null)), { message: 'OVERLOADED: 32 pages watch' });
  [status, body] = [502, '<html>'];
  await assert.rejects(all(eventsOf(server.url, null)), { message: 'the server answered with 502' });
});

test('a server that falls silent is given up', async () => {
  await using server = await answering((_, response) => {
    response.write('data: 1\n\n');
  });
  await assert.rejects(all(eventsOf(server.url, null, 50)), { message: 'nothing has come for 0.05 s' });
});

test('whoever stops reading ends the connection', async () => {
  let closed: Promise<unknown> | undefined;
  await using server = await answering((_, response) => {
    closed = once(response, 'close');
    response.write('data: 1\n\n');
  });
  for await (const event of eventsOf(server.url, null)) {
    assert.equal(event, '1');
    break;
  }
  await closed;
});
