import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statisticsJson } from '../../../src/serve/protocol/statistics.ts';

const of = (count: number) => ({ count: BigInt(count), ns: BigInt(count) * 1000n });

test('statistics have the members that clients know', () => {
  const compute = { computeInput: of(4), computeInfer: of(5), computeOutput: of(6) };
  const json = statisticsJson([
    {
      name: 'm "1"',
      version: '1',
      lastInference: 1_700_000_000_000,
      inferenceCount: 540n,
      executionCount: 2n,
      requests: { success: of(1), fail: of(2), queue: of(3), ...compute },
      batches: [{ batchSize: 270, ...compute }],
    },
  ]);
  const [input, infer, output] = [4, 5, 6].map((count) => ({ count, ns: count * 1000 }));
  assert.deepEqual(JSON.parse(json), {
    model_stats: [
      {
        name: 'm "1"',
        version: '1',
        last_inference: 1_700_000_000_000,
        inference_count: 540,
        execution_count: 2,
        inference_stats: {
          success: { count: 1, ns: 1000 },
          fail: { count: 2, ns: 2000 },
          queue: { count: 3, ns: 3000 },
          compute_input: input,
          compute_infer: infer,
          compute_output: output,
          cache_hit: { count: 0, ns: 0 },
          cache_miss: { count: 0, ns: 0 },
        },
        batch_stats: [
          { batch_size: 270, compute_input: input, compute_infer: infer, compute_output: output },
        ],
      },
    ],
  });
});

test('counts of 64 bits are written whole; no model is none', () => {
  const most = { count: 2n ** 64n - 1n, ns: 2n ** 64n - 1n };
  const requests = {
    success: most,
    fail: most,
    queue: most,
    computeInput: most,
    computeInfer: most,
    computeOutput: most,
  };
  const model = {
    name: 'm',
    version: '1',
    lastInference: 0,
    inferenceCount: 0n,
    executionCount: 0n,
    requests,
    batches: [],
  };
  assert.match(
    statisticsJson([model, model]),
    /"success":\{"count":18446744073709551615,"ns":18446744073709551615\}/,
  );
  assert.equal(JSON.parse(statisticsJson([model, model])).model_stats.length, 2);
  assert.deepEqual(JSON.parse(statisticsJson([])), { model_stats: [] });
});
