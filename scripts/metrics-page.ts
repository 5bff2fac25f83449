/** docs/metrics.md with the list of metrics. */
import { TABLES_SHOWN } from '../src/serve/metrics/hot-row-coverage.ts';
import type { Metric } from '../src/serve/metrics/metric.ts';
import { METRICS, OUTCOMES, PHASES } from '../src/serve/metrics/metric-list.ts';
import { TRITON_METRICS } from '../src/serve/metrics/triton-text.ts';
import { fill, markdownTable, readPage } from './recorded.ts';

export function metricsPage(): string {
  const metrics: readonly Metric[] = Object.values(METRICS);
  const list = markdownTable(
    ['metric', 'type', 'labels', 'what it says'],
    metrics.map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(', '),
      help.replaceAll('|', '\\|'),
    ]),
  );
  const triton = markdownTable(
    ['metric', 'type', 'labels', 'what it says'],
    Object.values(TRITON_METRICS).map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(', '),
      help,
    ]),
  );
  const meanings = (head: string, words: Readonly<Record<string, string>>) =>
    markdownTable(
      [head, 'meaning'],
      Object.entries(words).map(([word, meaning]) => [`\`${word}\``, meaning]),
    );
  const histograms = markdownTable(
    ['histogram', 'buckets', 'from', 'to'],
    metrics.flatMap((metric) => {
      if (metric.type !== 'histogram') return [];
      const { bounds } = metric.buckets;
      return [[`\`${metric.name}\``, String(bounds.length), String(bounds[0]), String(bounds.at(-1))]];
    }),
  );
  return [
    ['metrics', list],
    ['triton-metrics', triton],
    ['outcomes', meanings('outcome', OUTCOMES)],
    ['phases', meanings('phase', PHASES)],
    ['histograms', histograms],
    ['tables-shown', `Tables are shown one by one where a model has at most ${TABLES_SHOWN}.`],
  ].reduce((page, [name = '', text = '']) => fill(page, name, text), readPage('docs/metrics.md'));
}
