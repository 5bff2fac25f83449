/** What results compare: rows with their baselines, and the names that tables and reports give them. */
import { type Plan, planLabel, withTechniques } from '../embedding/plan.ts';
import type { BenchResults, EmbeddingRow } from './results.ts';

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

/** How many times faster `row`'s launch is than the baseline's, pinning left out; undefined: one was not timed. */
export function launchSpeedup(
  { launch }: EmbeddingRow,
  baseline: EmbeddingRow | undefined,
): number | undefined {
  if (launch === undefined || baseline?.launch === undefined) return undefined;
  return baseline.launch.medianUs / launch.medianUs;
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
