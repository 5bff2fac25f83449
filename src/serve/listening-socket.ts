/** The socket that the threads of a server share. */
import { closeSync } from 'node:fs';
import { createServer, isIP } from 'node:net';
import { ServeError, UsageError } from '../errors.ts';
import { duplicateDescriptor } from '../ffi/descriptors.ts';

const BACKLOG = 4096;

/** Open until it is closed, and in all who have duplicated it. */
export interface ListeningSocket {
  readonly fd: number;
  readonly port: number;
  close(): void;
}

/** A listening socket that nobody accepts connections of yet. `option`: what chooses its port. @throws UsageError USAGE. */
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
  const { _handle: handle } = server as unknown as { readonly _handle: { readonly fd: number } };
  const fd = duplicateDescriptor(handle.fd);
  const address = server.address();
  server.close();
  if (typeof address !== 'object' || address === null)
    throw new ServeError('SHUTTING_DOWN', 'the listening socket has no address');
  return { fd, port: address.port, close: () => closeSync(fd) };
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
