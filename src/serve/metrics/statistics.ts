/** The metrics of models as Triton's statistics say them. */
import { at } from '../../at.ts';
import { printable } from '../../text.ts';
import type { Duration, ModelStatistics } from '../protocol/statistics.ts';
import { type LabelsOf, type MetricKey, metricOf } from './metric-list.ts';
import { seriesKey, seriesOf } from './metrics-block.ts';
import { type Figure, LABEL_CHARACTERS } from './registry.ts';

const NS_PER_SECOND = 1e9;
const MS_PER_SECOND = 1000;

/**
 * `figures`: as `MetricsRegistry.read` gives them. Figures are by model: of several versions of a model, each has the figures of
 * all. Merging and copying are `compute_input`. Batches are not told apart by their sizes, of which there are as many as there are
 * sums of requests.
 */
export function modelStatistics(
  figures: readonly Figure[],
  models: readonly { readonly name: string; readonly version: string }[],
): ModelStatistics[] {
  const byKey = new Map(figures.map((figure) => [seriesKey(figure), figure.values]));
  const valuesOf = <K extends MetricKey>(metric: K, labels: LabelsOf<K>) =>
    byKey.get(seriesKey(seriesOf(metric, labels)));
  return models.map(({ name, version }) => {
    const model = printable(name, LABEL_CHARACTERS);
    const count = (metric: 'samples' | 'batches') => BigInt(at(valuesOf(metric, { model }) ?? [0], 0));
    const duration = (result: string) => durationOf('duration', valuesOf('duration', { model, result }));
    const phase = (phase: string) => durationOf('phases', valuesOf('phases', { model, phase }));
    const [merge, copy] = [phase('merge'), phase('copy')];
    const last = at(valuesOf('lastInference', { model }) ?? [0], 0);
    return {
      name,
      version,
      lastInference: Math.round(last * MS_PER_SECOND),
      inferenceCount: count('samples'),
      executionCount: count('batches'),
      requests: {
        success: duration('ok'),
        fail: duration('error'),
        queue: phase('queue'),
        computeInput: { count: merge.count, ns: merge.ns + copy.ns },
        computeInfer: phase('compute'),
        computeOutput: phase('answer'),
      },
      batches: [],
    };
  });
}

function durationOf(metric: MetricKey, values: Float64Array | undefined): Duration {
  const described = metricOf(metric);
  if (values === undefined || described.type !== 'histogram') return { count: 0n, ns: 0n };
  const { count } = described.buckets;
  return {
    count: BigInt(values.subarray(0, count).reduce((sum, own) => sum + own, 0)),
    ns: BigInt(Math.round(at(values, count) * NS_PER_SECOND)),
  };
}
