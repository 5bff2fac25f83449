/** Figures as Prometheus reads them: its text format, version 0.0.4. */
import { at } from '../../at.ts';
import type { HistogramMetric } from './metric.ts';
import { METRICS, type MetricKey, metricOf } from './metric-list.ts';
import type { Figure } from './registry.ts';

export const PROMETHEUS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** `figures`: as `MetricsRegistry.read` gives them. A metric without any is left out. */
export function prometheusText(figures: readonly Figure[]): string {
  const byMetric = new Map<MetricKey, Figure[]>();
  for (const figure of figures) {
    const own = byMetric.get(figure.metric);
    if (own === undefined) byMetric.set(figure.metric, [figure]);
    else own.push(figure);
  }
  const lines: string[] = [];
  for (const key of Object.keys(METRICS) as MetricKey[]) {
    const own = byMetric.get(key);
    if (own === undefined) continue;
    const metric = metricOf(key);
    lines.push(`# HELP ${metric.name} ${escapedHelp(metric.help)}`, `# TYPE ${metric.name} ${metric.type}`);
    for (const { labels, values } of own) {
      const pairs = metric.labels.map((name, i) => `${name}="${escapedLabel(at(labels, i))}"`);
      if (metric.type === 'histogram') histogramLines(metric, pairs, values, lines);
      else lines.push(`${metric.name}${braced(pairs)} ${number(at(values, 0))}`);
    }
  }
  return lines.map((line) => `${line}\n`).join('');
}

function histogramLines(
  { name, buckets }: HistogramMetric,
  pairs: readonly string[],
  values: Float64Array,
  lines: string[],
): void {
  let count = 0;
  for (let i = 0; i < buckets.count; i++) {
    count += at(values, i);
    const bound = i < buckets.bounds.length ? number(at(buckets.bounds, i)) : '+Inf';
    lines.push(`${name}_bucket${braced([...pairs, `le="${bound}"`])} ${number(count)}`);
  }
  lines.push(`${name}_sum${braced(pairs)} ${number(at(values, buckets.count))}`);
  lines.push(`${name}_count${braced(pairs)} ${number(count)}`);
}

function braced(pairs: readonly string[]): string {
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function number(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (Number.isFinite(value)) return String(value);
  return value > 0 ? '+Inf' : '-Inf';
}

function escapedHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapedLabel(text: string): string {
  return escapedHelp(text).replaceAll('"', '\\"');
}
