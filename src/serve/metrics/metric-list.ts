/** Every metric of the server. docs/metrics.md is generated from this list. */
import { Buckets } from './buckets.ts';
import type { Metric } from './metric.ts';

/** 20 µs to 10.5 s; a bucket is at most 25 % wide. */
const LATENCY = new Buckets({ first: 20e-6, doublings: 19, steps: 4 });
/** 1, 2, 4, … 2^20. */
const SAMPLES = new Buckets({ first: 1, doublings: 20, steps: 1 });
/** 1, 2, 4, … 1,024. */
const REQUESTS = new Buckets({ first: 1, doublings: 10, steps: 1 });

/** How a request came. */
export const PROTOCOLS = ['http', 'grpc'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** What became of a request, and what that means. */
export const OUTCOMES = {
  ok: 'answered with outputs',
  bad_request: 'the client is wrong: refused before any work',
  queue_full: 'refused on arrival: too much waits already',
  deadline_unmeetable: 'refused on arrival: it would be late',
  not_ready: 'refused: the model is loading, or the server is shutting down',
  dropped_late: 'accepted, and dropped when it could no longer be in time',
  cancelled: 'the client went away',
  internal: 'the server failed',
} as const;
export type Outcome = keyof typeof OUTCOMES;

/** What a request goes through, in this order. */
export const PHASES = {
  queue: 'waiting for the engine',
  merge: 'writing the requests of its batch into one',
  copy: 'copying the batch to the device, and its outputs back',
  compute: 'the model',
  answer: 'from the outputs to the answer',
} as const;
export type Phase = keyof typeof PHASES;

/** Figures of how long turns of a thread's event loop come late. */
export const DELAYS = ['mean', 'p50', 'p99', 'max'] as const;

export const METRICS = {
  requests: {
    name: 'hotrow_requests_total',
    type: 'counter',
    help: 'Inference requests that are over, by what became of them. Those that named no model of the server have an empty model.',
    labels: ['model', 'protocol', 'outcome'],
    unit: 'requests',
  },
  duration: {
    name: 'hotrow_request_duration_seconds',
    type: 'histogram',
    help: 'From the arrival of a request to its answer. result is ok, or error for every other outcome.',
    labels: ['model', 'result'],
    unit: 'seconds',
    buckets: LATENCY,
  },
  phases: {
    name: 'hotrow_request_phase_seconds',
    type: 'histogram',
    help: 'How long requests that were answered spent in each phase; what a batch did counts for each of its requests.',
    labels: ['model', 'phase'],
    unit: 'seconds',
    buckets: LATENCY,
  },
  samples: {
    name: 'hotrow_samples_total',
    type: 'counter',
    help: 'Samples that were scored.',
    labels: ['model'],
    unit: 'samples',
  },
  batches: {
    name: 'hotrow_batches_total',
    type: 'counter',
    help: 'Batches that ran.',
    labels: ['model'],
  },
  batchSamples: {
    name: 'hotrow_batch_samples',
    type: 'histogram',
    help: 'Samples of a batch.',
    labels: ['model'],
    unit: 'samples',
    buckets: SAMPLES,
  },
  batchRequests: {
    name: 'hotrow_batch_requests',
    type: 'histogram',
    help: 'Requests of a batch.',
    labels: ['model'],
    unit: 'requests',
    buckets: REQUESTS,
  },
  busy: {
    name: 'hotrow_engine_busy_seconds_total',
    type: 'counter',
    help: 'Time in which batches were merged, copied and computed. Its rate is how busy an engine is, from 0 to 1.',
    labels: ['model', 'instance'],
    unit: 'seconds',
  },
  fitFixed: {
    name: 'hotrow_batch_fit_fixed_seconds',
    type: 'gauge',
    help: 'a of t(n) = a + b n, how long a batch of n samples is expected to take, fitted at a high quantile. capacity is the most samples of the class.',
    labels: ['model', 'instance', 'capacity'],
    unit: 'seconds',
    merge: 'max',
  },
  fitPerSample: {
    name: 'hotrow_batch_fit_per_sample_seconds',
    type: 'gauge',
    help: 'b of t(n) = a + b n.',
    labels: ['model', 'instance', 'capacity'],
    unit: 'seconds',
    merge: 'max',
  },
  queuedRequests: {
    name: 'hotrow_queue_requests',
    type: 'gauge',
    help: 'Requests that wait for an engine.',
    labels: ['model'],
    unit: 'requests',
  },
  queuedSamples: {
    name: 'hotrow_queue_samples',
    type: 'gauge',
    help: 'Samples that wait for an engine.',
    labels: ['model'],
    unit: 'samples',
  },
  slotBytes: {
    name: 'hotrow_slots_used_bytes',
    type: 'gauge',
    help: 'Memory of slots that hold requests.',
    labels: [],
    unit: 'bytes',
  },
  slotCapacity: {
    name: 'hotrow_slots_capacity_bytes',
    type: 'gauge',
    help: 'Memory that slots may take together.',
    labels: [],
    unit: 'bytes',
  },
  slotsWaiting: {
    name: 'hotrow_slots_waiting_requests',
    type: 'gauge',
    help: 'Requests that wait for a slot.',
    labels: [],
    unit: 'requests',
  },
  connections: {
    name: 'hotrow_connections',
    type: 'gauge',
    help: 'Connections that are open.',
    labels: ['protocol'],
  },
  received: {
    name: 'hotrow_received_bytes_total',
    type: 'counter',
    help: 'Bytes of requests: bodies, before they are decompressed.',
    labels: ['protocol'],
    unit: 'bytes',
  },
  sent: {
    name: 'hotrow_sent_bytes_total',
    type: 'counter',
    help: 'Bytes of answers: bodies.',
    labels: ['protocol'],
    unit: 'bytes',
  },
  eventLoopDelay: {
    name: 'hotrow_event_loop_delay_seconds',
    type: 'gauge',
    help: "How late turns of a thread's event loop came, since the figures were last taken.",
    labels: ['thread', 'statistic'],
    unit: 'seconds',
    merge: 'max',
  },
  deviceFree: {
    name: 'hotrow_device_memory_free_bytes',
    type: 'gauge',
    help: 'Memory of a device that is free, of all processes together; for devices that have their own.',
    labels: ['device'],
    unit: 'bytes',
    merge: 'max',
  },
  deviceTotal: {
    name: 'hotrow_device_memory_total_bytes',
    type: 'gauge',
    help: 'Memory of a device that has its own.',
    labels: ['device'],
    unit: 'bytes',
    merge: 'max',
  },
  coverage: {
    name: 'hotrow_hot_row_coverage_ratio',
    type: 'gauge',
    help: 'The share of sampled lookups that went to hot rows: the 1 % of rows that were looked up most a little before. With an empty table, of all tables; each table only where there are at most 100.',
    labels: ['model', 'table'],
    unit: 'ratio',
    merge: 'mean',
  },
  lastInference: {
    name: 'hotrow_model_last_inference_timestamp_seconds',
    type: 'gauge',
    help: 'When a batch last ran, in seconds since 1970.',
    labels: ['model'],
    unit: 'seconds',
    merge: 'max',
  },
  modelInfo: {
    name: 'hotrow_model_info',
    type: 'gauge',
    help: '1 for each version of a model that is served.',
    labels: ['model', 'version'],
    merge: 'max',
  },
  modelLoaded: {
    name: 'hotrow_model_loaded_timestamp_seconds',
    type: 'gauge',
    help: 'When the version of the model was loaded, in seconds since 1970: its age is time() minus this.',
    labels: ['model', 'version'],
    unit: 'seconds',
    merge: 'max',
  },
  patchNumber: {
    name: 'hotrow_model_patch_number',
    type: 'gauge',
    help: 'The number of the last row patch that the version has; 0: none.',
    labels: ['model', 'version'],
    merge: 'max',
  },
  patchWritten: {
    name: 'hotrow_model_patch_timestamp_seconds',
    type: 'gauge',
    help: 'When its last row patch was written, in seconds since 1970: its age is time() minus this.',
    labels: ['model', 'version'],
    unit: 'seconds',
    merge: 'max',
  },
  modelLoads: {
    name: 'hotrow_model_loads_total',
    type: 'counter',
    help: 'Loads of a model, the first among them, by how they ended. What is served stays when a load fails.',
    labels: ['model', 'outcome'],
  },
  started: {
    name: 'hotrow_process_start_time_seconds',
    type: 'gauge',
    help: 'When the process started, in seconds since 1970.',
    labels: [],
    unit: 'seconds',
    merge: 'max',
  },
  build: {
    name: 'hotrow_build_info',
    type: 'gauge',
    help: '1, with the versions of Hotrow and Node.',
    labels: ['version', 'node'],
    merge: 'max',
  },
} as const satisfies Readonly<Record<string, Metric>>;

export type MetricKey = keyof typeof METRICS;
/** The metrics of a type. */
export type KeyOf<T extends Metric['type']> = {
  [K in MetricKey]: (typeof METRICS)[K]['type'] extends T ? K : never;
}[MetricKey];
/** A value for each label of a metric. */
export type LabelsOf<K extends MetricKey> = Readonly<Record<(typeof METRICS)[K]['labels'][number], string>>;

/** A metric by its key, as what any metric is. */
export function metricOf(key: MetricKey): Metric {
  return METRICS[key];
}
