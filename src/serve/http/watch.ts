/** What a thread that receives requests counts of them, and writes about them. */

import type { ErrorCode } from '../../errors.ts';
import { EventLoopDelay } from '../metrics/event-loop-delay.ts';
import type { Protocol } from '../metrics/metric-list.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import { IoMetrics, outcomeOf, RequestMetrics } from '../metrics/recorders.ts';
import { accessLine } from '../recording/log-lines.ts';
import type { InferModel } from '../requests/infer-model.ts';
import type { ObservedRequest } from '../requests/observed-request.ts';

export class FrontWatch {
  readonly #io: IoMetrics;
  readonly #models: ReadonlyMap<string, RequestMetrics>;
  readonly #delay = new EventLoopDelay();
  readonly #access: ((line: string) => void) | undefined;

  /** `access`: takes lines of the access log. */
  constructor(thread: string, models: readonly InferModel[], access?: (line: string) => void) {
    this.#io = new IoMetrics(thread);
    this.#models = new Map(models.map(({ served: { name } }) => [name, new RequestMetrics(name)]));
    this.#access = access;
  }

  get metrics(): readonly SharedMetrics[] {
    return [this.#io, ...this.#models.values()].map(({ block }) => block.shared);
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
    traceparent,
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
      traceparent,
    });
  }
}
