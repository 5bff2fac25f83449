import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import {
  METRICS,
  type MetricKey,
  metricOf,
  OUTCOMES,
  PROTOCOLS,
} from '../../../src/serve/metrics/metric-list.ts';
import { prometheusText } from '../../../src/serve/metrics/prometheus-text.ts';
import { collected, MetricsRegistry } from '../../../src/serve/metrics/registry.ts';
import { someMetrics } from './some-metrics.ts';

/** Series by name and labels, as a reader of the format sees them. */
function parsed(text: string): Map<string, number> {
  const series = new Map<string, number>();
  assert.ok(text.endsWith('\n'));
  for (const line of text.slice(0, -1).split('\n')) {
    if (line.startsWith('# HELP ') || line.startsWith('# TYPE ')) continue;
    const match = /^([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\n"])*",?)*\})?) (\S+)$/.exec(line);
    assert.ok(match, line);
    assert.ok(!series.has(match[1] as string), `${match[1]} stands twice`);
    series.set(match[1] as string, Number((match[2] as string).replace('Inf', 'Infinity')));
  }
  return series;
}

test('promtool finds nothing to say', (t) => {
  const text = prometheusText(someMetrics().registry.read());
  const ran = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  if (ran.error !== undefined) return t.skip('there is no promtool: install the package prometheus');
  assert.equal(`${ran.stdout}${ran.stderr}`, '');
  assert.equal(ran.status, 0);
  const wrong = spawnSync('promtool', ['check', 'metrics'], {
    input: text.replaceAll('_total', ''),
    encoding: 'utf8',
  });
  assert.notEqual(wrong.status, 0, 'promtool refuses nothing');
});

test('every metric has a line of help and one of its type, before its series', () => {
  const text = prometheusText(someMetrics().registry.read());
  for (const { name, type } of (Object.keys(METRICS) as MetricKey[]).map(metricOf)) {
    const head = new RegExp(`^# HELP ${name} .+\n# TYPE ${name} ${type}\n${name}(_bucket)?[{ ]`, 'm');
    assert.match(text, head);
    assert.equal(text.split(`# TYPE ${name} `).length, 2);
  }
});

test('series say what threads counted together', () => {
  const series = parsed(prometheusText(someMetrics('m').registry.read()));
  const expected: Readonly<Record<string, number>> = {
    'hotrow_requests_total{model="m",protocol="http",outcome="ok"}': 2,
    'hotrow_requests_total{model="m",protocol="http",outcome="queue_full"}': 1,
    'hotrow_requests_total{model="m",protocol="grpc",outcome="ok"}': 0,
    'hotrow_requests_total{model="",protocol="http",outcome="bad_request"}': 1,
    'hotrow_request_duration_seconds_bucket{model="m",result="ok",le="0.00128"}': 0,
    'hotrow_request_duration_seconds_bucket{model="m",result="ok",le="0.00224"}': 1,
    'hotrow_request_duration_seconds_bucket{model="m",result="ok",le="0.00448"}': 2,
    'hotrow_request_duration_seconds_bucket{model="m",result="ok",le="+Inf"}': 2,
    'hotrow_request_duration_seconds_sum{model="m",result="ok"}': 0.006,
    'hotrow_request_duration_seconds_count{model="m",result="ok"}': 2,
    'hotrow_request_duration_seconds_count{model="m",result="error"}': 1,
    'hotrow_request_phase_seconds_count{model="m",phase="queue"}': 2,
    'hotrow_request_phase_seconds_sum{model="m",phase="queue"}': 0.0015,
    'hotrow_request_phase_seconds_count{model="m",phase="merge"}': 2,
    'hotrow_request_phase_seconds_sum{model="m",phase="merge"}': 0.0005,
    'hotrow_request_phase_seconds_sum{model="m",phase="copy"}': 0.00025,
    'hotrow_request_phase_seconds_sum{model="m",phase="compute"}': 0.002,
    'hotrow_request_phase_seconds_sum{model="m",phase="answer"}': 0.000125,
    'hotrow_samples_total{model="m"}': 540,
    'hotrow_batches_total{model="m"}': 1,
    'hotrow_batch_samples_bucket{model="m",le="512"}': 0,
    'hotrow_batch_samples_bucket{model="m",le="1024"}': 1,
    'hotrow_batch_samples_sum{model="m"}': 540,
    'hotrow_batch_requests_sum{model="m"}': 2,
    'hotrow_batch_requests_bucket{model="m",le="2"}': 1,
    'hotrow_engine_busy_seconds_total{model="m",instance="0"}': 0.001375,
    'hotrow_batch_fit_fixed_seconds{model="m",instance="0",capacity="512"}': 0.000125,
    'hotrow_batch_fit_per_sample_seconds{model="m",instance="0",capacity="512"}': 1.220703125e-7,
    'hotrow_queue_requests{model="m"}': 3,
    'hotrow_queue_samples{model="m"}': 810,
    hotrow_slots_used_bytes: 100,
    hotrow_slots_capacity_bytes: 1000,
    hotrow_slots_waiting_requests: 0,
    'hotrow_connections{protocol="http"}': 2,
    'hotrow_received_bytes_total{protocol="http"}': 3048,
    'hotrow_sent_bytes_total{protocol="http"}': 12,
    'hotrow_event_loop_delay_seconds{thread="io-0",statistic="p99"}': 0.002,
    'hotrow_event_loop_delay_seconds{thread="io-0",statistic="max"}': 0.004,
    'hotrow_device_memory_free_bytes{device="cuda:0"}': 5e9,
    'hotrow_device_memory_total_bytes{device="cuda:0"}': 150e9,
    'hotrow_hot_row_coverage_ratio{model="m",table=""}': 0.5,
    'hotrow_hot_row_coverage_ratio{model="m",table="ads"}': 0.75,
    'hotrow_model_last_inference_timestamp_seconds{model="m"}': 1_700_000_000.5,
    'hotrow_model_info{model="m",version="1"}': 1,
    'hotrow_model_loaded_timestamp_seconds{model="m",version="1"}': 1_700_000_000.25,
    hotrow_process_start_time_seconds: 1_700_000_000,
    'hotrow_build_info{version="0.1.0",node="v20.20.2"}': 1,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(series.get(name), value, name);
  // What was not said is not there.
  assert.ok(![...series.keys()].some((name) => /device="cpu"|table="city"|thread="io-1"/.test(name)));
  const requests = [...series.keys()].filter((name) => name.startsWith('hotrow_requests_total{'));
  assert.equal(requests.length, 2 * PROTOCOLS.length * Object.keys(OUTCOMES).length);
});

test('buckets never fall, and the last is the count', () => {
  const series = [...parsed(prometheusText(someMetrics('m').registry.read()))];
  const counts = series.filter(([name]) => name.includes('_count{'));
  assert.ok(counts.length >= 9);
  for (const [name, count] of counts) {
    const prefix = name.replace('_count{', '_bucket{').replace(/\}$/, ',le=');
    const own = series.flatMap(([other, value]) => (other.startsWith(prefix) ? [value] : []));
    assert.ok(own.length > 5);
    assert.deepEqual(
      own,
      [...own].sort((a, b) => a - b),
    );
    assert.equal(own.at(-1), count);
  }
});

test('quotes and backslashes of labels are escaped', () => {
  const text = prometheusText(someMetrics().registry.read());
  assert.match(text, /hotrow_samples_total\{model="a \\"strange\\"\\\\model\\\\nof\\\\u202e others"\} 540\n/);
  assert.equal(parsed(text).size, parsed(prometheusText(someMetrics('m').registry.read())).size);
});

test('endless values are written as Prometheus reads them', () => {
  const registry = new MetricsRegistry();
  registry.collect(() => [
    collected('slotBytes', {}, Number.POSITIVE_INFINITY),
    collected('slotCapacity', {}, Number.NEGATIVE_INFINITY),
    collected('slotsWaiting', {}, 1e21),
  ]);
  const values = [...prometheusText(registry.read()).matchAll(/^hotrow_\S+ (.+)$/gm)].map(
    ([, value]) => value,
  );
  assert.deepEqual(values, ['+Inf', '-Inf', '1e+21']);
});

test('without figures there is no text', () => {
  assert.equal(prometheusText(new MetricsRegistry().read()), '');
});
