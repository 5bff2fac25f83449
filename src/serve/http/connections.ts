/** The open connections of a server: which wait for answers, and how each ends. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { RequestError } from '../../errors.ts';
import { errorAnswer } from '../protocol/error-answer.ts';
import { Handshakes } from '../security/handshakes.ts';

/** Of a body that nobody wants: so much is read all the same, and the connection goes on. */
const UNWANTED_BYTES = 64 << 10;
/** How long a client that still sends gets to read its answer, and how much of what it sends is thrown away. */
const LINGER_MS = 2000;
const LINGER_BYTES = 64 << 20;

export class Connections {
  /** By connection: answers that have not gone out. */
  readonly #open = new Map<Socket, Set<ServerResponse>>();
  /** On which nothing more is heard. */
  readonly #ending = new WeakSet<Socket>();
  readonly #handshakes = new Handshakes();

  /** A connection on which TLS is to be spoken; `opened` follows when hands have been shaken. */
  connected(socket: Socket): void {
    this.#handshakes.begun(socket);
  }

  opened(socket: Socket): void {
    this.#handshakes.done(socket);
    this.#open.set(socket, new Set());
    socket.once('close', () => this.#open.delete(socket));
  }

  /** A request has come; false: its connection ends, and nobody is to answer it. */
  asked({ socket }: IncomingMessage, response: ServerResponse): boolean {
    if (this.#ending.has(socket)) return false;
    const waiting = this.#open.get(socket);
    waiting?.add(response);
    response.on('close', () => waiting?.delete(response));
    return true;
  }

  /**
   * To be called before an answer is written: whether it ends its connection, since much of the body is still to come. What comes is
   * thrown away for a while then: were the socket closed at once, the answer would be lost with it.
   */
  endsUnread(request: IncomingMessage): boolean {
    if (request.complete) return false;
    if (!hasMuchBody(request)) {
      // Whoever wanted it may have stopped in the middle.
      request.resume();
      return false;
    }
    const { socket } = request;
    this.#ending.add(socket);
    // What HTTP's server calls when the last answer of a connection has gone out.
    socket.destroySoon = () => {
      endWithin(LINGER_MS, socket);
      let left = LINGER_BYTES;
      request.on('data', ({ length }: Buffer) => {
        left -= length;
        if (left < 0) socket.destroy();
      });
      request.resume();
    };
    return true;
  }

  /** Ends those that wait for no answer, also where nothing was ever asked. */
  endIdle(): void {
    this.#handshakes.end();
    for (const [socket, waiting] of this.#open) if (waiting.size === 0) socket.destroySoon();
  }

  /** A tunnel to elsewhere was asked for: HTTP's server has left the socket to us. */
  refuseTunnel(socket: Socket): void {
    socket.on('error', () => {});
    this.refuse({ name: TUNNEL, message: 'a tunnel', code: TUNNEL }, socket);
  }

  /** What is no HTTP, or comes too slowly, gets an answer where it can have one: after those to what came before it. */
  refuse({ code }: NodeJS.ErrnoException, socket: Socket): void {
    // Where hands were not shaken, nothing can be said.
    if (code === 'ECONNRESET' || !socket.writable || !this.#open.has(socket)) {
      socket.destroy();
      return;
    }
    if (this.#ending.has(socket)) return;
    this.#ending.add(socket);
    const before = [...(this.#open.get(socket) ?? [])].filter(({ req }) => req.complete);
    let left = before.length;
    if (left === 0) answerBroken(code, socket);
    for (const response of before)
      response.once('close', () => {
        left -= 1;
        if (left === 0) answerBroken(code, socket);
      });
  }
}

function hasMuchBody({ headers }: IncomingMessage): boolean {
  const said = headers['content-length'];
  return said === undefined ? headers['transfer-encoding'] !== undefined : Number(said) > UNWANTED_BYTES;
}

/** The code of a request for a tunnel. */
const TUNNEL = 'CONNECT';

/** The statuses of what a parser of HTTP refuses. */
const BROKEN: Readonly<Record<string, readonly [status: string, what: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'the header fields are too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ['413 Payload Too Large', 'the chunk extensions are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'the request did not come in time'],
  [TUNNEL]: ['405 Method Not Allowed', 'this server is no proxy'],
};

function answerBroken(code: string | undefined, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const [status, what] = BROKEN[code ?? ''] ?? ['400 Bad Request', 'this is no request of HTTP/1.1'];
  const { body } = errorAnswer(
    new RequestError('REQUEST_INVALID', what, { hint: 'the connection is closed; send it again on another' }),
  );
  endWithin(
    LINGER_MS,
    socket,
    `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** Ends the server's side of a connection with a last answer, and all of it soon: a client may keep its own side open for ever. */
function endWithin(ms: number, socket: Socket, last = ''): void {
  socket.end(last);
  const late = setTimeout(() => socket.destroy(), ms);
  socket.once('close', () => clearTimeout(late));
}
