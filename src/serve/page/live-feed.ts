/** Who watches the server, and what they are told: made once for all of them, and only while there are any. */
import { DeviceError } from '../../errors.ts';
import { EVENT_MS } from './live-event.ts';
import { LiveFigures, type LiveReading } from './live-figures.ts';

/** Pages that may watch at once. */
export const MOST_WATCHERS = 32;

export interface LiveFeedOptions {
  readonly read: () => LiveReading;
  /** To all that watch by a thread. */
  readonly send: (thread: number, text: string) => void;
  readonly onError: (error: Error) => void;
  /** Calls `work` from time to time, until what it gives back is called; default: by the clock. */
  readonly every?: (ms: number, work: () => void) => () => void;
}

function byClock(ms: number, work: () => void): () => void {
  const timer = setInterval(work, ms);
  return () => clearInterval(timer);
}

export class LiveFeed {
  readonly #options: LiveFeedOptions;
  /** How many watch, by thread that receives requests. */
  readonly #watchers = new Map<number, number>();
  #figures = new LiveFigures();
  #last = '';
  #stop: (() => void) | undefined;

  constructor(options: LiveFeedOptions) {
    this.#options = options;
  }

  /** One more watches by a thread. Gives the first event; others follow. @throws DeviceError OVERLOADED. */
  join(thread: number): string {
    if (this.#count >= MOST_WATCHERS)
      throw new DeviceError('OVERLOADED', `${MOST_WATCHERS} pages watch this server already`, {
        hint: 'close one; Prometheus reads /metrics for any number of people',
      });
    if (this.#stop === undefined) {
      this.#last = this.#event();
      this.#stop = (this.#options.every ?? byClock)(EVENT_MS, () => this.#tick());
    }
    this.#watchers.set(thread, (this.#watchers.get(thread) ?? 0) + 1);
    return this.#last;
  }

  /** One that watched by a thread has gone. */
  leave(thread: number): void {
    const left = (this.#watchers.get(thread) ?? 0) - 1;
    if (left > 0) this.#watchers.set(thread, left);
    else this.#watchers.delete(thread);
    if (this.#count === 0) this.end();
  }

  /** Nothing is told any more, until somebody joins. */
  end(): void {
    this.#stop?.();
    this.#stop = undefined;
    // Whoever comes later does not want what was between.
    this.#figures = new LiveFigures();
  }

  get #count(): number {
    return [...this.#watchers.values()].reduce((sum, own) => sum + own, 0);
  }

  #tick(): void {
    try {
      this.#last = this.#event();
    } catch (error) {
      this.#options.onError(error as Error);
      return;
    }
    for (const thread of this.#watchers.keys()) this.#options.send(thread, this.#last);
  }

  /** An event of a stream of events: text/event-stream. */
  #event(): string {
    return `data: ${JSON.stringify(this.#figures.next(this.#options.read()))}\n\n`;
  }
}
