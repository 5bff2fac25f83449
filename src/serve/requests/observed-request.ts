/** What is told of a request that has ended, for counters and logs. */
import type { Protocol } from '../metrics/metric-list.ts';
import type { Route } from '../protocol/route.ts';
import type { TraceContext } from '../recording/trace-context.ts';
import type { Ended } from './infer-model.ts';

export interface ObservedRequest {
  readonly protocol: Protocol;
  readonly method: string;
  readonly path: string;
  readonly route: Route['kind'] | 'unknown';
  readonly model: string | undefined;
  /** Of HTTP, or the one that gRPC's stands for. 0: its client went away. */
  readonly status: number;
  /** Of gRPC. */
  readonly grpcStatus?: number;
  readonly code: string | undefined;
  readonly totalMs: number;
  readonly trace: TraceContext;
  readonly ended: Ended | undefined;
  readonly answerBytes: number;
}
