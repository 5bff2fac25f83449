/**
 * Connections to the server, kept alive. HTTP by hand on sockets: of a small request `node:http` takes six times the CPU of this, of one
 * of 92 KB three times, and what the generator takes, a server on the same machine lacks.
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { at } from '../at.ts';
import { AnswerReader, type HttpAnswer, MalformedAnswer } from './http-answer.ts';

/** What became of a request: an answer of whatever status, or why there is none. */
export type Reply = HttpAnswer | { readonly broken: string };

/** Where connections lead. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** Servers end connections that were idle for five seconds and more, when they do not say when. */
const IDLE_SECONDS = 5;
/** One that is so near its end is not used any more. */
const MARGIN_SECONDS = 1;

interface Waiting {
  readonly message: Buffer;
  readonly replied: (reply: Reply) => void;
}

/** Up to `limit` connections, a request at a time on each; the one that has been idle for longest is used first, as many clients use theirs. */
export class Connections {
  readonly #target: Target;
  readonly #limit: number;
  readonly #all = new Set<Connection>();
  /** Since the longest first. */
  readonly #idle = new Set<Connection>();
  readonly #waiting: Waiting[] = [];
  #firstWaiting = 0;
  #opened = 0;
  #isClosed = false;

  constructor(target: Target, limit: number) {
    this.#target = target;
    this.#limit = limit;
  }

  /** Connections that were opened so far. */
  get opened(): number {
    return this.#opened;
  }

  /** Sends a message of HTTP/1.1. False: all connections are busy, and it waits for one. */
  send(message: Buffer, replied: (reply: Reply) => void): boolean {
    const connection = this.#takeIdle() ?? this.#open();
    if (connection !== undefined) connection.send(message, replied);
    else this.#waiting.push({ message, replied });
    return connection !== undefined;
  }

  /** Ends all connections: nobody hears of what is under way. */
  reset(): void {
    const all = [...this.#all];
    this.#all.clear();
    this.#idle.clear();
    this.#waiting.length = 0;
    this.#firstWaiting = 0;
    for (const connection of all) connection.destroy();
  }

  close(): void {
    this.#isClosed = true;
    this.reset();
  }

  #takeIdle(): Connection | undefined {
    for (const connection of this.#idle) {
      this.#idle.delete(connection);
      if (connection.isFresh()) return connection;
      this.#all.delete(connection);
      connection.destroy();
    }
    return undefined;
  }

  #open(): Connection | undefined {
    if (this.#all.size >= this.#limit || this.#isClosed) return undefined;
    this.#opened += 1;
    const connection = new Connection(this.#target, {
      free: () => this.#freed(connection),
      gone: () => this.#gone(connection),
    });
    this.#all.add(connection);
    return connection;
  }

  #freed(connection: Connection): void {
    if (!this.#all.has(connection)) return;
    const next = this.#nextWaiting();
    if (next !== undefined) connection.send(next.message, next.replied);
    else this.#idle.add(connection);
  }

  #gone(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    this.#idle.delete(connection);
    const next = this.#nextWaiting();
    if (next !== undefined) this.#open()?.send(next.message, next.replied);
  }

  /** First come, first served. */
  #nextWaiting(): Waiting | undefined {
    if (this.#firstWaiting === this.#waiting.length) return undefined;
    const next = at(this.#waiting, this.#firstWaiting);
    this.#firstWaiting += 1;
    if (this.#firstWaiting === this.#waiting.length || this.#firstWaiting > 10_000) {
      this.#waiting.splice(0, this.#firstWaiting);
      this.#firstWaiting = 0;
    }
    return next;
  }
}

/** One connection. */
class Connection {
  readonly #socket: Socket;
  readonly #reader = new AnswerReader();
  readonly #free: () => void;
  readonly #gone: () => void;
  #replied: ((reply: Reply) => void) | undefined;
  #isGone = false;
  #idleSince = 0;
  #idleSeconds = IDLE_SECONDS;

  constructor(
    { host, port, tls }: Target,
    { free, gone }: { readonly free: () => void; readonly gone: () => void },
  ) {
    this.#free = free;
    this.#gone = gone;
    const socket = tls ? connectTls({ host, port, servername: host }) : connect({ host, port });
    this.#socket = socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error: NodeJS.ErrnoException) =>
      this.#fail(`connection: ${error.code ?? error.message}`),
    );
    socket.on('close', () => {
      const answer = this.#reader.end();
      if (answer !== undefined) this.#answer(answer);
      this.#fail(this.#reader.isAmid ? 'connection: closed amid an answer' : 'connection: closed');
    });
  }

  /** Whether the server still has it, as far as one can tell. */
  isFresh(): boolean {
    return (performance.now() - this.#idleSince) / 1000 < this.#idleSeconds - MARGIN_SECONDS;
  }

  /** Nothing else is under way on it. */
  send(message: Buffer, replied: (reply: Reply) => void): void {
    this.#replied = replied;
    this.#socket.write(message);
  }

  destroy(): void {
    this.#isGone = true;
    this.#replied = undefined;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    if (this.#isGone) return;
    try {
      const answer = this.#reader.push(chunk);
      if (answer !== undefined) this.#answer(answer);
    } catch (error) {
      if (!(error instanceof MalformedAnswer)) throw error;
      this.#fail(`answer: ${error.message}`);
    }
  }

  #answer(answer: HttpAnswer): void {
    const replied = this.#replied;
    if (replied === undefined) {
      this.#fail('answer: to no request');
      return;
    }
    this.#replied = undefined;
    if (answer.keepAlive) {
      this.#idleSince = performance.now();
      this.#idleSeconds = answer.idleSeconds ?? this.#idleSeconds;
      replied(answer);
      this.#free();
      return;
    }
    replied(answer);
    this.#fail('');
  }

  /** The connection is of no more use. */
  #fail(broken: string): void {
    if (this.#isGone) return;
    const replied = this.#replied;
    this.destroy();
    replied?.({ broken });
    this.#gone();
  }
}
