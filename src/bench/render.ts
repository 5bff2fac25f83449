/** Results as tables for a terminal of 80 columns. Pure: results in, cells out. */
import { type Plan, planLabel } from '../embedding/plan.ts';
import type { BenchResults, EmbeddingRow, ModelRow } from './results.ts';

export interface RenderedTable {
  readonly title: string;
  readonly columns: readonly { readonly title: string; readonly left?: boolean }[];
  readonly rows: readonly (readonly string[])[];
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

/** Three significant digits. */
function significant(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A plan's techniques, without the kernel that all share. */
const techniques = (label: string) => label.replace(/^standard( \+ )?/, '').replaceAll(' + ', ', ') || 'none';

/** A variant's row heading: what it adds to the plain kernel. */
function heading(row: EmbeddingRow): string {
  if (row.implementation !== 'hotrow') return row.implementation;
  if (row.best) return 'best found';
  return row.variant.replace(/^standard \+ /, '+ ');
}

/** Variants × patterns: median ms and speed relative to the plain kernel. */
export function embeddingTable(results: BenchResults): RenderedTable | undefined {
  const { embedding } = results;
  const [first] = embedding;
  if (first === undefined) return undefined;
  const patterns = unique(embedding.map((row) => row.pattern));
  const cells = new Map(embedding.map((row) => [`${heading(row)} ${row.pattern}`, row]));
  const cell = (row: EmbeddingRow | undefined) =>
    row === undefined ? '–' : `${significant(row.timing.medianMs)} ${significant(row.speedup)}×`;
  return {
    title: `embedding stage: ms per batch of ${first.batchSize}, ${first.tables} tables, and speed over the plain kernel`,
    columns: [{ title: 'variant', left: true }, ...patterns.map((title) => ({ title }))],
    rows: unique(embedding.map(heading)).map((name) => [
      name,
      ...patterns.map((pattern) => cell(cells.get(`${name} ${pattern}`))),
    ]),
  };
}

/** Per pattern: the best plan, how hot the lookups are, and the ratio to the peer. */
export function bestTable(results: BenchResults): RenderedTable | undefined {
  const best = results.embedding.filter((row) => row.best);
  if (best.length === 0) return undefined;
  const peers = new Map(
    results.embedding.filter((row) => row.implementation !== 'hotrow').map((row) => [row.pattern, row]),
  );
  const [peer] = peers.values();
  return {
    title: 'best plan found',
    columns: [
      { title: 'pattern', left: true },
      { title: 'distinct' },
      { title: 'GB/s' },
      ...(peer === undefined ? [] : [{ title: `vs ${peer.implementation.split(' ')[0]}` }]),
      { title: 'techniques', left: true },
    ],
    rows: best.map(({ pattern, distinctShare, gigabytesPerSecond, plan, timing }) => {
      const peerMs = peers.get(pattern)?.timing.medianMs;
      return [
        pattern,
        `${(100 * distinctShare).toFixed(1)} %`,
        gigabytesPerSecond.toFixed(1),
        ...(peer === undefined
          ? []
          : [peerMs === undefined ? '–' : `${significant(peerMs / timing.medianMs)}×`]),
        techniques(planLabel(plan as Plan)),
      ];
    }),
  };
}

/** Pattern × plan: latency, the embedding stage's share, throughput. */
export function modelTable(results: BenchResults): RenderedTable | undefined {
  const { model } = results;
  const [first] = model;
  if (first === undefined) return undefined;
  const withP99 = first.timing.p99Ms !== undefined;
  const plans = unique(model.map((row) => row.variant));
  const planName = ({ variant }: ModelRow) => (variant === plans[0] ? 'plain' : 'tuned');
  return {
    title: `whole model: latency per batch of ${first.batchSize}, ${first.tables} tables${plans[1] ? `\ntuned: ${techniques(plans[1])}` : ''}`,
    columns: [
      { title: 'pattern', left: true },
      { title: 'plan', left: true },
      { title: 'ms' },
      { title: withP99 ? 'p99' : 'p10–p90' },
      { title: 'embedding' },
      { title: 'share' },
      { title: 'samples/s' },
      { title: 'speed' },
    ],
    rows: model.map((row) => [
      row.pattern,
      planName(row),
      significant(row.timing.medianMs),
      withP99
        ? significant(row.timing.p99Ms ?? Number.NaN)
        : `${significant(row.timing.p10Ms)}–${significant(row.timing.p90Ms)}`,
      significant(row.embeddingMs),
      `${(100 * row.embeddingShare).toFixed(0)} %`,
      Math.round(row.samplesPerSecond).toLocaleString('en-US'),
      `${significant(row.speedup)}×`,
    ]),
  };
}

/** Every table of the results, in reading order. */
export function benchTables(results: BenchResults): RenderedTable[] {
  return [embeddingTable(results), bestTable(results), modelTable(results)].filter(
    (table) => table !== undefined,
  );
}
