/** Clients that watch the server: what each is sent, from its first event to its end. */
import type { ServerResponse } from 'node:http';

export interface WatchersOptions {
  /** Has the first event for one more, and others from then on. Rejects with why it may not watch. */
  readonly join: () => Promise<string>;
  /** One has gone. */
  readonly leave: () => void;
}

const HEADERS = {
  'content-type': 'text/event-stream',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
  // For nginx, which would wait for more.
  'x-accel-buffering': 'no',
  // The connection ends with the events.
  connection: 'close',
} as const;

/** Of what a client does not read: then it is given up. */
const MOST_UNREAD_BYTES = 1 << 20;

export class Watchers {
  readonly #options: WatchersOptions;
  readonly #responses = new Set<ServerResponse>();
  #isEnded = false;

  constructor(options: WatchersOptions) {
    this.#options = options;
  }

  /** Sends events until the client goes away, or watching ends. Rejects with why it may not watch. */
  async watch(response: ServerResponse, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    const first = await this.#options.join();
    try {
      // It may have gone meanwhile.
      if (response.destroyed) return;
      const closed = new Promise<void>((resolve) => response.once('close', () => resolve()));
      response.writeHead(200, { ...HEADERS, ...headers });
      response.write(first);
      if (this.#isEnded) response.end();
      else this.#responses.add(response);
      await closed;
    } finally {
      this.#responses.delete(response);
      this.#options.leave();
    }
  }

  /** To all that watch. */
  send(event: string): void {
    for (const response of this.#responses) {
      if (response.writableLength > MOST_UNREAD_BYTES) response.destroy();
      else response.write(event);
    }
  }

  /** Nobody watches any more. */
  end(): void {
    this.#isEnded = true;
    for (const response of this.#responses) response.end();
    this.#responses.clear();
  }
}
