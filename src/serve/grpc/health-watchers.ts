/** Clients that watch a service's health: each is told when its status changes. */
import type { ServerHttp2Stream } from 'node:http2';
import { ServeError } from '../../errors.ts';
import { errorAnswer } from '../protocol/error-answer.ts';
import { HealthCheckResponse, SERVING_STATUS } from './codec/messages.ts';
import { framedMessage } from './frames.ts';
import { ANSWER_HEADERS, failureTrailers } from './status.ts';

/** What clients are told whose connection ends. */
const LEAVING = failureTrailers(
  errorAnswer(new ServeError('SHUTTING_DOWN', 'the connection ends', { hint: 'watch again on another' })),
  undefined,
);

interface Watcher {
  readonly service: string;
  /** That was told last. */
  status: number;
}

export class HealthWatchers {
  readonly #statusOf: (service: string) => number | undefined;
  readonly #watchers = new Map<ServerHttp2Stream, Watcher>();

  /** `statusOf`: of a service, now; undefined: there is none of that name. */
  constructor(statusOf: (service: string) => number | undefined) {
    this.#statusOf = statusOf;
  }

  /** Tells a client the status now, and from now on. */
  add(stream: ServerHttp2Stream, service: string): void {
    const status = this.#statusOf(service) ?? SERVING_STATUS.SERVICE_UNKNOWN;
    stream.respond(ANSWER_HEADERS, { waitForTrailers: true });
    stream.write(framedMessage(HealthCheckResponse, { status }));
    this.#watchers.set(stream, { service, status });
    stream.once('close', () => this.#watchers.delete(stream));
  }

  /** Something has changed. */
  look(): void {
    for (const [stream, watcher] of this.#watchers) {
      const status = this.#statusOf(watcher.service) ?? SERVING_STATUS.SERVICE_UNKNOWN;
      if (status === watcher.status) continue;
      watcher.status = status;
      stream.write(framedMessage(HealthCheckResponse, { status }));
    }
  }

  /** Ends those of `streams`; a client asks again, elsewhere. */
  end(streams: Iterable<ServerHttp2Stream>): void {
    for (const stream of streams) {
      if (!this.#watchers.delete(stream)) continue;
      stream.once('wantTrailers', () => stream.sendTrailers(LEAVING));
      stream.end();
    }
  }
}
