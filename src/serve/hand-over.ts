/**
 * Connections that one thread accepts and another serves. The threads of a process share its descriptors: what is handed over is a number,
 * which belongs to whoever receives it.
 */
import { closeSync } from 'node:fs';
import { type Server, Socket } from 'node:net';

/** Words of memory that both threads see: connections that were handed over and are not closed yet. */
const OPEN = 0;
/** Connections that were received so far; it wraps. */
const RECEIVED = 1;

export function handOverMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT);
}

/** The side that accepts. */
export class HandOver {
  readonly #words: Int32Array;
  readonly #send: (descriptor: number) => void;
  /** In their order; some may have been received since. */
  readonly #sent: number[] = [];
  /** Received, and not in `#sent` any more. */
  #forgotten = 0;
  #isEnded = false;

  /** `send`: tells the other side, in order. */
  constructor(memory: SharedArrayBuffer, send: (descriptor: number) => void) {
    this.#words = new Int32Array(memory);
    this.#send = send;
  }

  /** Connections that were handed over and are not closed yet. */
  get open(): number {
    return Atomics.load(this.#words, OPEN);
  }

  /** Hands over a connection, which is not the caller's any more. It is closed where the other side has ended. */
  give(descriptor: number): void {
    if (this.#isEnded) {
      closeSync(descriptor);
      return;
    }
    this.#forget();
    this.#sent.push(descriptor);
    Atomics.add(this.#words, OPEN, 1);
    this.#send(descriptor);
  }

  /** The other side has ended: closes what it has not received. */
  end(): void {
    this.#isEnded = true;
    this.#forget();
    for (const descriptor of this.#sent.splice(0)) closeSync(descriptor);
  }

  #forget(): void {
    const received = (Atomics.load(this.#words, RECEIVED) - this.#forgotten) | 0;
    this.#sent.splice(0, received);
    this.#forgotten = (this.#forgotten + received) | 0;
  }
}

/** The side that serves. */
export class Intake {
  readonly #words: Int32Array;
  readonly #server: Server;
  readonly #allowHalfOpen: boolean;
  readonly #open = new Set<Socket>();
  /** Told when a connection has closed. */
  #closed: () => void = () => {};

  /** `server`: gets each connection as if it had accepted it. `allowHalfOpen`: as of `createServer` of node:net. */
  constructor(
    memory: SharedArrayBuffer,
    server: Server,
    { allowHalfOpen }: { readonly allowHalfOpen: boolean },
  ) {
    this.#words = new Int32Array(memory);
    this.#server = server;
    this.#allowHalfOpen = allowHalfOpen;
  }

  receive(descriptor: number): void {
    // Before it is anybody's: it is never closed twice.
    Atomics.add(this.#words, RECEIVED, 1);
    const socket = this.#socketOf(descriptor);
    if (socket === undefined) return;
    socket.setNoDelay(true);
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#countDown();
    });
    this.#server.emit('connection', socket);
  }

  /** undefined: none can be made, and the connection is closed. */
  #socketOf(descriptor: number): Socket | undefined {
    const allowHalfOpen = this.#allowHalfOpen;
    try {
      return new Socket({ fd: descriptor, readable: true, writable: true, allowHalfOpen });
    } catch {
      closeSync(descriptor);
      this.#countDown();
      return undefined;
    }
  }

  #countDown(): void {
    Atomics.sub(this.#words, OPEN, 1);
    this.#closed();
  }

  /** Ends all connections, also those whose clients keep their side open. */
  end(): void {
    for (const socket of this.#open) socket.destroy();
  }

  /** Resolves when all connections are closed: to be asked once no more are handed over. */
  async allClosed(): Promise<void> {
    while (Atomics.load(this.#words, OPEN) > 0)
      await new Promise<void>((resolve) => {
        this.#closed = resolve;
      });
  }
}
