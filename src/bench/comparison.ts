/** What results compare: rows with their baselines, and the names that tables and reports give them. */
import { type CudaPlan, type Plan, planLabel, withTechniques } from '../embedding/plan.ts';
import type { BenchResults, EmbeddingRow, LaunchTimes } from './results.ts';

/** The distinct values, in order of their first appearance. */
export function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

/** A plan's techniques, without the kernel that all share. */
export const techniques = (label: string) =>
  label.replace(/^standard( \+ )?/, '').replaceAll(' + ', ', ') || 'none';

/** A variant's row heading: what it adds to the plain kernel. */
export function heading(row: EmbeddingRow): string {
  if (row.implementation !== 'hotrow') return row.implementation;
  if (row.best) return 'best found';
  return row.variant.replace(/^standard \+ /, '+ ');
}

/** Rows of the comparison, which are all but those of sweeps. */
export function compared({ embedding }: Pick<BenchResults, 'embedding'>): EmbeddingRow[] {
  return embedding.filter((row) => row.sweep === undefined);
}

const byPattern = (rows: readonly EmbeddingRow[]) => new Map(rows.map((row) => [row.pattern, row]));

/** Rows of the plain kernel, by pattern. */
export function plainRows(results: Pick<BenchResults, 'embedding'>): Map<string, EmbeddingRow> {
  const own = compared(results).filter(({ implementation }) => implementation === 'hotrow');
  return byPattern(own.filter(({ variant }) => variant === own[0]?.variant));
}

/** Rows of the peer, by pattern. */
export function peerRows({ embedding }: Pick<BenchResults, 'embedding'>): Map<string, EmbeddingRow> {
  return byPattern(embedding.filter(({ implementation }) => implementation !== 'hotrow'));
}

/** A table's share of a launch: all of it, or of the fused kernel's, which serves all tables, an equal part. */
export function launchPerTable({ launch, plan, tables }: EmbeddingRow): LaunchTimes | undefined {
  if (launch === undefined) return undefined;
  const served =
    (plan as Plan | undefined)?.device === 'cuda' && (plan as CudaPlan).kernel === 'fused' ? tables : 1;
  const { medianUs, p10Us, p90Us, samples } = launch;
  return { medianUs: medianUs / served, p10Us: p10Us / served, p90Us: p90Us / served, samples };
}

/** How many times faster `row`'s launch is than the baseline's, by table and with pinning left out; undefined: one was not timed. */
export function launchSpeedup(row: EmbeddingRow, baseline: EmbeddingRow | undefined): number | undefined {
  const own = launchPerTable(row);
  const other = baseline && launchPerTable(baseline);
  return own === undefined || other === undefined ? undefined : other.medianUs / own.medianUs;
}

/** The row of the same comparison and pattern that differs in pinning only. */
export function unpinned(
  results: Pick<BenchResults, 'embedding'>,
  row: EmbeddingRow,
): EmbeddingRow | undefined {
  if (row.plan === undefined) return undefined;
  const label = planLabel(withTechniques(row.plan as Plan, { pinning: undefined }));
  return compared(results).find(
    ({ implementation, pattern, variant, best }) =>
      implementation === 'hotrow' && pattern === row.pattern && variant === label && !best,
  );
}
