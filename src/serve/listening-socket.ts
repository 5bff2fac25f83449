/** The sockets of a server: one thread accepts connections, and hands them to those that serve them. */
import { closeSync } from 'node:fs';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { ServeError, UsageError } from '../errors.ts';
import { duplicateDescriptor } from '../ffi/descriptors.ts';
import type { HandOver } from './hand-over.ts';

const BACKLOG = 4096;

export interface Accepting {
  /** Who gets connections: the one that has the fewest; of those, each in its turn. */
  readonly to: readonly HandOver[];
  /** Open at once; more are closed. */
  readonly limit: number;
  /** Told why a connection could not be accepted. */
  readonly onError: (error: unknown) => void;
}

export class ListeningSocket {
  readonly port: number;
  /** Until connections are accepted. */
  #fd: number | undefined;
  #server: Server | undefined;

  /** `fd`: a listening socket, which is this one's from now on. */
  constructor(fd: number, port: number) {
    this.#fd = fd;
    this.port = port;
  }

  /** Accepts connections from now on, also those that wait. To be called once. @throws ServeError SHUTTING_DOWN: it is closed. */
  accept({ to, limit, onError }: Accepting): void {
    if (this.#fd === undefined) throw new ServeError('SHUTTING_DOWN', 'the socket does not listen any more');
    const next = emptiestOf(to, limit);
    // Nothing is read here.
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      try {
        next()?.give(duplicateDescriptor(descriptorOf(socket)));
      } catch (error) {
        onError(error);
      } finally {
        // The duplicate stays open, and the connection with it.
        socket.destroy();
      }
    });
    server.on('error', onError);
    server.listen({ fd: this.#fd, exclusive: true }, BACKLOG);
    this.#server = server;
    this.#fd = undefined;
  }

  /** Accepts no connection any more: those that wait are reset. */
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#server?.close();
    this.#server = undefined;
  }
}

/** Chooses the one that has the fewest connections; of those, each in its turn. Undefined: all together have `limit`. */
function emptiestOf(all: readonly HandOver[], limit: number): () => HandOver | undefined {
  let turn = 0;
  return () => {
    const inTurn = [...all.slice(turn), ...all.slice(0, turn)];
    const open = inTurn.map((one) => one.open);
    if (open.reduce((sum, own) => sum + own, 0) >= limit) return undefined;
    const chosen = open.indexOf(Math.min(...open));
    turn = (turn + chosen + 1) % all.length;
    return inTurn[chosen];
  };
}

function descriptorOf(socket: Socket | Server): number {
  return (socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
}

/** A listening socket whose connections wait until it accepts them. `option`: what chooses its port. @throws UsageError USAGE. */
export async function listen(host: string, port: number, option = '--port'): Promise<ListeningSocket> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const address = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
      const hint =
        cause.code === 'EADDRINUSE' ? `choose another ${option}, or end the program that has it` : undefined;
      reject(
        new UsageError('USAGE', `cannot listen on ${address}: ${cause.message}`, {
          cause,
          ...(hint === undefined ? {} : { hint }),
        }),
      );
    });
    server.listen({ host, port, backlog: BACKLOG }, resolve);
  });
  // This server must not accept: its loop has not run since.
  const fd = duplicateDescriptor(descriptorOf(server));
  const address = server.address();
  server.close();
  if (typeof address !== 'object' || address === null)
    throw new ServeError('SHUTTING_DOWN', 'the listening socket has no address');
  return new ListeningSocket(fd, address.port);
}

/** The sockets of a server. */
export interface Listeners {
  readonly http: ListeningSocket;
  /** Undefined: it does not speak gRPC. */
  readonly grpc: ListeningSocket | undefined;
}

/** @throws UsageError USAGE. */
export async function listenAt(at: {
  readonly host: string;
  readonly port: number;
  readonly grpcPort?: number;
}): Promise<Listeners> {
  const { host, port, grpcPort } = at;
  const http = await listen(host, port);
  try {
    return { http, grpc: grpcPort === undefined ? undefined : await listen(host, grpcPort, '--grpc-port') };
  } catch (error) {
    http.close();
    throw error;
  }
}
