import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServeError } from '../../../src/errors.ts';
import { type DelayHistogram, EventLoopDelay } from '../../../src/serve/metrics/event-loop-delay.ts';
import type { Outcome } from '../../../src/serve/metrics/metric-list.ts';
import { EngineMetrics, outcomeOf } from '../../../src/serve/metrics/recorders.ts';
import { modelStatistics } from '../../../src/serve/metrics/statistics.ts';
import { errorAnswer } from '../../../src/serve/protocol/error-answer.ts';
import { statisticsJson } from '../../../src/serve/protocol/statistics.ts';
import { STRANGE, someMetrics } from './some-metrics.ts';

test('answers with errors have outcomes', () => {
  const expected: Readonly<Record<string, Outcome>> = {
    OVERLOADED: 'queue_full',
    OUT_OF_MEMORY: 'queue_full',
    DEADLINE_UNMEETABLE: 'deadline_unmeetable',
    DEADLINE_EXCEEDED: 'dropped_late',
    SHUTTING_DOWN: 'not_ready',
    DISPOSED: 'not_ready',
    ABORTED: 'cancelled',
    INTERNAL: 'internal',
    KERNEL_FAILED: 'internal',
    INDEX_OUT_OF_RANGE: 'bad_request',
    BODY_TOO_LARGE: 'bad_request',
  };
  for (const [code, outcome] of Object.entries(expected)) {
    const error = code === 'INTERNAL' ? new Error('no code') : new ServeError(code as 'SHUTTING_DOWN', 'x');
    assert.equal(outcomeOf(errorAnswer(error)), outcome, code);
  }
});

test("Triton's statistics are the same figures", () => {
  for (const model of ['m', STRANGE]) {
    const { registry, engine } = someMetrics(model);
    engine.waited(0.5);
    engine.ran({ samples: 10, requests: 1, mergeMs: 0, copyMs: 0, computeMs: 0.5 }, 1_700_000_001_000);
    const [own, unknown] = modelStatistics(registry.read(), [
      { name: model, version: '3' },
      { name: 'unknown', version: '1' },
    ]);
    assert.deepEqual(own, {
      name: model,
      version: '3',
      lastInference: 1_700_000_001_000,
      inferenceCount: 550n,
      executionCount: 2n,
      requests: {
        success: { count: 2n, ns: 6_000_000n },
        fail: { count: 1n, ns: 125_000n },
        queue: { count: 3n, ns: 2_000_000n },
        computeInput: { count: 3n, ns: 750_000n },
        computeInfer: { count: 3n, ns: 2_500_000n },
        computeOutput: { count: 2n, ns: 125_000n },
      },
      batches: [],
    });
    assert.equal(unknown?.requests.success.count, 0n);
    assert.equal(unknown?.lastInference, 0);
    const [first] = JSON.parse(statisticsJson(own === undefined ? [] : [own])).model_stats;
    assert.equal(first.inference_stats.queue.ns, 2_000_000);
  }
});

test('delays of the event loop are without the time between looks, and begin anew', () => {
  const calls: string[] = [];
  const histogram: DelayHistogram & { count: number } = {
    count: 0,
    mean: 10.5e6,
    max: 14e6,
    percentile: (p) => (p === 50 ? 9.9e6 : 12e6),
    reset: () => void calls.push('reset'),
    enable: () => calls.push('enable') > 0,
    disable: () => calls.push('disable') > 0,
  };
  const delay = new EventLoopDelay(histogram);
  const published: unknown[] = [];
  const metrics = { delays: (ms: unknown) => void published.push(ms) };
  delay.publish(metrics);
  histogram.count = 5;
  delay.publish(metrics);
  delay.close();
  assert.deepEqual(published, [{ mean: 0.5, p50: 0, p99: 2, max: 4 }]);
  assert.deepEqual(calls, ['enable', 'reset', 'disable']);
});

test('the event loop of this thread is watched', async () => {
  const delay = new EventLoopDelay();
  const published: { max: number }[] = [];
  const metrics = { delays: (ms: { max: number }) => void published.push(ms) };
  while (published.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    delay.publish(metrics);
  }
  delay.close();
  assert.ok((published[0]?.max ?? -1) >= 0);
});

test('tables of one name, and of none, have one series', () => {
  const engine = new EngineMetrics({ model: 'm', instance: '0', tables: ['a', 'a', ''] });
  const tables = engine.block.shared.series.flatMap(({ metric, labels }) =>
    metric === 'coverage' ? [labels[1]] : [],
  );
  assert.deepEqual(tables, ['', 'a']);
});
