/**
 * What Triton counts too, under Triton's names, for dashboards and alerts that were made for it. Its counters do not end in `_total`,
 * and its times are in µs.
 */
import { at } from '../../at.ts';
import { printable } from '../../text.ts';
import type { Duration, ModelStatistics } from '../protocol/statistics.ts';
import { OUTCOMES, type Outcome } from './metric-list.ts';
import { headOf, linesOf, sampleOf } from './prometheus-text.ts';
import { type Figure, LABEL_CHARACTERS } from './registry.ts';
import { modelStatistics } from './statistics.ts';

interface TritonMetric {
  readonly name: `nv_${string}`;
  readonly type: 'counter' | 'gauge';
  /** A sentence for people. */
  readonly help: string;
  readonly labels: readonly string[];
}

const MODEL = ['model', 'version'] as const;
const GPU = ['gpu_uuid'] as const;

/** Names, types and labels are Triton's. */
export const TRITON_METRICS = {
  success: {
    name: 'nv_inference_request_success',
    type: 'counter',
    help: 'Inference requests that were answered.',
    labels: MODEL,
  },
  failure: {
    name: 'nv_inference_request_failure',
    type: 'counter',
    help: 'Inference requests that were not, by reason: REJECTED for want of room or time, CANCELED by the client, BACKEND for faults of the server, OTHER.',
    labels: [...MODEL, 'reason'],
  },
  inferences: {
    name: 'nv_inference_count',
    type: 'counter',
    help: 'Samples that were scored.',
    labels: MODEL,
  },
  executions: { name: 'nv_inference_exec_count', type: 'counter', help: 'Batches that ran.', labels: MODEL },
  request: {
    name: 'nv_inference_request_duration_us',
    type: 'counter',
    help: 'µs of requests that were answered, from arrival to answer.',
    labels: MODEL,
  },
  queue: {
    name: 'nv_inference_queue_duration_us',
    type: 'counter',
    help: 'µs that requests waited for an engine.',
    labels: MODEL,
  },
  computeInput: {
    name: 'nv_inference_compute_input_duration_us',
    type: 'counter',
    help: 'µs that requests spent in merging and copying.',
    labels: MODEL,
  },
  computeInfer: {
    name: 'nv_inference_compute_infer_duration_us',
    type: 'counter',
    help: 'µs that requests spent in the model.',
    labels: MODEL,
  },
  computeOutput: {
    name: 'nv_inference_compute_output_duration_us',
    type: 'counter',
    help: 'µs from outputs to answers.',
    labels: MODEL,
  },
  pending: {
    name: 'nv_inference_pending_request_count',
    type: 'gauge',
    help: 'Requests that wait for an engine.',
    labels: MODEL,
  },
  gpuTotal: {
    name: 'nv_gpu_memory_total_bytes',
    type: 'gauge',
    help: "Memory of a GPU. gpu_uuid is the server's name of it, such as cuda:0.",
    labels: GPU,
  },
  gpuUsed: {
    name: 'nv_gpu_memory_used_bytes',
    type: 'gauge',
    help: 'Memory of a GPU that is in use, by all processes together.',
    labels: GPU,
  },
} as const satisfies Readonly<Record<string, TritonMetric>>;

/** How Triton calls what keeps a request from its answer. */
export const FAILURE_REASONS = ['REJECTED', 'CANCELED', 'BACKEND', 'OTHER'] as const;
type FailureReason = (typeof FAILURE_REASONS)[number];

const REASONS: Readonly<Record<Exclude<Outcome, 'ok'>, FailureReason>> = {
  bad_request: 'OTHER',
  queue_full: 'REJECTED',
  deadline_unmeetable: 'REJECTED',
  not_ready: 'OTHER',
  dropped_late: 'REJECTED',
  cancelled: 'CANCELED',
  internal: 'BACKEND',
};

/** `figures`: as `MetricsRegistry.read` gives them. `models`: those that are served. */
export function tritonText(
  figures: readonly Figure[],
  models: readonly { readonly name: string; readonly version: string }[],
): string {
  const statistics = modelStatistics(figures, models);
  const labelled = statistics.map((own) => {
    const model = printable(own.name, LABEL_CHARACTERS);
    return { own, model, labels: [model, printable(own.version, LABEL_CHARACTERS)] };
  });
  /** The sum of a metric's figures with such labels. */
  const sumOf = (metric: Figure['metric'], is: (labels: readonly string[]) => boolean) =>
    figures
      .filter((figure) => figure.metric === metric && is(figure.labels))
      .reduce((sum, { values }) => sum + at(values, 0), 0);
  const ofModels = (metric: TritonMetric, value: (own: ModelStatistics, model: string) => number) =>
    samplesOf(
      metric,
      labelled.map(({ own, model, labels }) => [labels, value(own, model)]),
    );
  const failures = labelled.flatMap(({ model, labels }) =>
    FAILURE_REASONS.map((reason): Sample => {
      const has = ([own, , outcome]: readonly string[]) =>
        own === model && isFailure(outcome) && REASONS[outcome] === reason;
      return [[...labels, reason], sumOf('requests', has)];
    }),
  );
  const devices = figures.filter(({ metric }) => metric === 'deviceTotal');
  const totals = devices.map(({ labels, values }): Sample => [labels, at(values, 0)]);
  const used = totals.map(([labels, total]): Sample => {
    return [labels, total - sumOf('deviceFree', ([device]) => device === labels[0])];
  });
  const all = TRITON_METRICS;
  return linesOf([
    ...ofModels(all.success, ({ requests }) => Number(requests.success.count)),
    ...samplesOf(all.failure, failures),
    ...ofModels(all.inferences, ({ inferenceCount }) => Number(inferenceCount)),
    ...ofModels(all.executions, ({ executionCount }) => Number(executionCount)),
    ...ofModels(all.request, ({ requests }) => microseconds(requests.success)),
    ...ofModels(all.queue, ({ requests }) => microseconds(requests.queue)),
    ...ofModels(all.computeInput, ({ requests }) => microseconds(requests.computeInput)),
    ...ofModels(all.computeInfer, ({ requests }) => microseconds(requests.computeInfer)),
    ...ofModels(all.computeOutput, ({ requests }) => microseconds(requests.computeOutput)),
    ...ofModels(all.pending, (_, model) => sumOf('queuedRequests', ([own]) => own === model)),
    ...samplesOf(all.gpuTotal, totals),
    ...samplesOf(all.gpuUsed, used),
  ]);
}

type Sample = readonly [labels: readonly string[], value: number];

/** A metric without samples is left out. */
function samplesOf(metric: TritonMetric, samples: readonly Sample[]): string[] {
  if (samples.length === 0) return [];
  return [...headOf(metric), ...samples.map(([labels, value]) => sampleOf(metric, labels, value))];
}

function isFailure(outcome: string | undefined): outcome is Exclude<Outcome, 'ok'> {
  return outcome !== undefined && outcome !== 'ok' && outcome in OUTCOMES;
}

/** Whole ones, as Triton counts them. */
function microseconds({ ns }: Duration): number {
  return Number(ns / 1000n);
}
