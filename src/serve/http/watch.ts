/** What a thread that receives requests counts of them, and writes about them. */

import type { ErrorCode } from '../../errors.ts';
import { EventLoopDelay } from '../metrics/event-loop-delay.ts';
import type { Protocol } from '../metrics/metric-list.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import { IoMetrics, outcomeOf, RequestMetrics } from '../metrics/recorders.ts';
import { accessLine } from '../recording/log-lines.ts';
import type { ObservedRequest } from '../requests/observed-request.ts';

export class FrontWatch {
  readonly #io: IoMetrics;
  /** By name: also of those that have gone, which may come back. */
  readonly #models = new Map<string, RequestMetrics>();
  readonly #delay = new EventLoopDelay();
  readonly #access: ((line: string) => void) | undefined;

  /** `access`: takes lines of the access log. */
  constructor(thread: string, access?: (line: string) => void) {
    this.#io = new IoMetrics(thread);
    this.#access = access;
  }

  get metrics(): readonly SharedMetrics[] {
    return [this.#io.block.shared];
  }

  /** Counts requests for a model from now on. Gives back what is new to be read: nothing for one that it has counted before. */
  addModel(name: string): readonly SharedMetrics[] {
    if (this.#models.has(name)) return [];
    const own = new RequestMetrics(name);
    this.#models.set(name, own);
    return [own.block.shared];
  }

  connection(protocol: Protocol, event: 'opened' | 'closed'): void {
    this.#io[event](protocol);
  }

  /** Writes what changes slowly. */
  publish(): void {
    this.#delay.publish(this.#io);
  }

  request(request: ObservedRequest): void {
    const { protocol, route, model, status, code, totalMs, ended, answerBytes } = request;
    this.#io.received(protocol, ended?.bodyBytes ?? 0);
    this.#io.sent(protocol, answerBytes);
    if (route === 'infer') {
      const own = this.#models.get(model ?? '');
      if (status === 200) own?.answered(protocol, totalMs, ended?.answerMs ?? 0);
      else {
        const outcome =
          status === 0 ? 'cancelled' : outcomeOf({ code: (code ?? 'INTERNAL') as ErrorCode, status });
        if (own === undefined) this.#io.failed(protocol, outcome);
        else own.failed(protocol, outcome, totalMs);
      }
    }
    if (this.#access !== undefined) this.#access(this.#line(request));
  }

  close(): void {
    this.#delay.close();
  }

  #line({
    protocol,
    method,
    path,
    model,
    status,
    grpcStatus,
    code,
    totalMs,
    trace,
    ended,
    answerBytes,
  }: ObservedRequest): string {
    return accessLine({
      time: Date.now(),
      protocol,
      method,
      path,
      model,
      status,
      grpcStatus,
      code,
      samples: ended?.samples,
      bytes: ended?.bodyBytes ?? 0,
      answerBytes,
      queueMs: ended?.answered?.queueMs,
      computeMs: ended?.answered?.computeMs,
      totalMs,
      ...trace,
    });
  }
}
