/** Requests over a connection of this process: each as the server sees it, with the client's end of it. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

/** A request that has arrived. */
export interface ServerSide {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export interface HttpPair extends AsyncDisposable {
  /** A new connection. */
  connect(): Promise<Socket>;
  /** The next request, of any connection. */
  next(): Promise<ServerSide>;
}

/** `handle` is called at once when a request arrives, as what it returns must listen then. */
export async function httpPair(handle: (side: ServerSide) => void): Promise<HttpPair> {
  const arrived: ServerSide[] = [];
  const waiting: ((side: ServerSide) => void)[] = [];
  const server = createServer((request, response) => {
    const side = { request, response };
    handle(side);
    const first = waiting.shift();
    if (first === undefined) arrived.push(side);
    else first(side);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const clients: Socket[] = [];
  return {
    async connect() {
      const client = connect({ port, host: '127.0.0.1' });
      client.on('error', () => {});
      clients.push(client);
      await once(client, 'connect');
      return client;
    },
    next() {
      const first = arrived.shift();
      return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first);
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The head of a POST. */
export function postHead(headers: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST / HTTP/1.1\r\nhost: here\r\n${lines.join('')}\r\n`;
}

/** A piece of a body that says no length. */
export function chunkOf(bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}
