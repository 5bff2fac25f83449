/** Figures as Prometheus reads them: its text format, version 0.0.4. */
import { at } from '../../at.ts';
import type { HistogramMetric, Metric } from './metric.ts';
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
    lines.push(...headOf(metric));
    for (const { labels, values } of own) {
      if (metric.type === 'histogram') histogramLines(metric, pairsOf(metric, labels), values, lines);
      else lines.push(sampleOf(metric, labels, at(values, 0)));
    }
  }
  return linesOf(lines);
}

/** What stands before a metric's samples. */
export function headOf({
  name,
  help,
  type,
}: Pick<Metric, 'help' | 'type'> & { readonly name: string }): string[] {
  return [`# HELP ${name} ${escapedHelp(help)}`, `# TYPE ${name} ${type}`];
}

interface Labelled {
  readonly name: string;
  readonly labels: readonly string[];
}

/** A counter or a gauge, with a value for each label. */
export function sampleOf(metric: Labelled, labels: readonly string[], value: number): string {
  return `${metric.name}${braced(pairsOf(metric, labels))} ${number(value)}`;
}

export function linesOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}

function pairsOf({ labels: names }: Labelled, labels: readonly string[]): string[] {
  return names.map((name, i) => `${name}="${escapedLabel(at(labels, i))}"`);
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
