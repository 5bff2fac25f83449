/** Requests and batchers whose times are easily added up. */
import assert from 'node:assert/strict';
import { Batcher, type BatcherOptions, type Waiting } from '../../../src/serve/batching/batcher.ts';
import { LatencyModel } from '../../../src/serve/batching/latency-model.ts';

export interface Named extends Waiting {
  readonly name: string;
}

/** t(n) = 1 + 0.01 n ms, so that 100 samples take 2 ms. */
export function latencyModel(a = 1, b = 0.01): LatencyModel {
  const warmUp = [100, 1000].map((samples) => ({ samples, ms: a + b * samples }));
  return new LatencyModel({ capacityOf: (samples) => samples, warmUp });
}

/** An SLA of 10 ms: a batch has 400 samples at most. */
export function batcher(options: Partial<BatcherOptions> = {}): Batcher<Named> {
  return new Batcher<Named>({
    latency: latencyModel(),
    slaMs: 10,
    mostSamples: 100_000,
    queueSamples: 1_000_000,
    shrinks: false,
    ...options,
  });
}

export function request(name: string, deadlineMs: number, samples = 100, priority = 0): Named {
  return { name, samples, arrivedMs: 0, deadlineMs, priority };
}

export function accept(to: Batcher<Named>, requests: readonly Named[], nowMs = 0): void {
  for (const one of requests) assert.equal(to.offer(one, nowMs), undefined, one.name);
}

export function names(taken: ReturnType<Batcher<Named>['take']>): { batch: string; late: string } {
  const list = (requests: readonly Named[]) => requests.map(({ name }) => name).join('');
  assert.ok(taken !== undefined, 'nothing was taken');
  return { batch: list(taken.batch), late: list(taken.late) };
}

export const NEVER = Number.POSITIVE_INFINITY;
