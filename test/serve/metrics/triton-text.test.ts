/** What is counted, under Triton's names. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { TRITON_METRICS, tritonText } from '../../../src/serve/metrics/triton-text.ts';
import { STRANGE, someMetrics } from './some-metrics.ts';

const textOf = (model: string) =>
  tritonText(someMetrics(model).registry.read(), [{ name: model, version: '1' }]);

test('each of Triton’s names says what was counted', () => {
  const lines = textOf('m')
    .split('\n')
    .filter((line) => !line.startsWith('#') && line !== '');
  const own = 'model="m",version="1"';
  // 2 ms and 4 ms to the answer, of which 0.0625 ms each after the outputs; a batch of two requests and 540 samples.
  assert.deepEqual(lines, [
    `nv_inference_request_success{${own}} 2`,
    `nv_inference_request_failure{${own},reason="REJECTED"} 1`,
    `nv_inference_request_failure{${own},reason="CANCELED"} 0`,
    `nv_inference_request_failure{${own},reason="BACKEND"} 0`,
    `nv_inference_request_failure{${own},reason="OTHER"} 0`,
    `nv_inference_count{${own}} 540`,
    `nv_inference_exec_count{${own}} 1`,
    `nv_inference_request_duration_us{${own}} 6000`,
    `nv_inference_queue_duration_us{${own}} 1500`,
    `nv_inference_compute_input_duration_us{${own}} 750`,
    `nv_inference_compute_infer_duration_us{${own}} 2000`,
    `nv_inference_compute_output_duration_us{${own}} 125`,
    `nv_inference_pending_request_count{${own}} 3`,
    'nv_gpu_memory_total_bytes{gpu_uuid="cuda:0"} 150000000000',
    'nv_gpu_memory_used_bytes{gpu_uuid="cuda:0"} 145000000000',
  ]);
});

test('every reason of a failure is one of Triton’s', () => {
  const { registry, requests } = someMetrics('m');
  const outcomes = ['bad_request', 'deadline_unmeetable', 'not_ready', 'dropped_late', 'cancelled'] as const;
  for (const outcome of [...outcomes, 'internal'] as const) requests[1].failed('grpc', outcome, 1);
  const text = tritonText(registry.read(), [{ name: 'm', version: '1' }]);
  const counts = [...text.matchAll(/^nv_inference_request_failure\{.*reason="(\w+)"\} (\d+)$/gm)];
  // One was refused already.
  assert.deepEqual(
    counts.map(([, reason, count]) => `${reason} ${count}`),
    ['REJECTED 3', 'CANCELED 1', 'BACKEND 1', 'OTHER 2'],
  );
});

test('promtool reads them, and likes all but Triton’s names', (t) => {
  const text = textOf(STRANGE);
  const ran = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  if (ran.error !== undefined) return t.skip('there is no promtool: install the package prometheus');
  const said = `${ran.stdout}${ran.stderr}`.trim().split('\n');
  for (const line of said)
    assert.match(
      line,
      /counter metrics should have "_total" suffix|abbreviated units|should not have "_count" suffix/,
    );
  for (const { name } of Object.values(TRITON_METRICS)) assert.match(text, new RegExp(`^${name}\\{`, 'm'));
});

test('without models and devices there is nothing', () => {
  assert.equal(tritonText([], []), '');
});
