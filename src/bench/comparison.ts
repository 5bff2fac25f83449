/** What results compare: rows with their baselines, and the names that tables and reports give them. */
import { type Plan, planLabel, withTechniques } from '../plan/plan.ts';
import type { BenchResults, EmbeddingRow, LaunchTimes, ModelRow } from './results.ts';

/** The distinct values, in order of their first appearance. */
export function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

/** A plan's techniques, without the kernel that all share. */
export const techniques = (label: string) =>
  label.replace(/^standard( \+ )?/, '').replaceAll(' + ', ', ') || 'none';

/** A variant by what it adds to the standard kernel, if that is its own. */
export const variantHeading = (variant: string) => variant.replace(/^standard \+ /, '+ ');

/** A row's heading: its variant's, unless that is not what tells it from the others. */
export function heading(row: EmbeddingRow): string {
  if (row.implementation !== 'hotrow') return row.implementation;
  if (row.best) return 'best found';
  return variantHeading(row.variant);
}

/** A row's plan in words. */
export function planWords({ plan, variant }: EmbeddingRow): string {
  return techniques(plan === undefined ? variant : planLabel(plan as Plan));
}

/** Rows of the comparison, which are all but those of sweeps. */
export function compared({ embedding }: Pick<BenchResults, 'embedding'>): EmbeddingRow[] {
  return embedding.filter((row) => row.sweep === undefined);
}

/** What a plan is in the comparison of the whole model. */
export type ModelRole = NonNullable<ModelRow['role']>;

/** Rows of the whole model under plans of one role. */
export interface RoleRows<Row> {
  readonly role: ModelRole;
  /** Labels of the plans: one, or different ones on different patterns. */
  readonly plans: readonly string[];
  /** The plans in words: `the plain kernel`, `the tuned plan (fused, RPF d8)`. */
  readonly words: string;
  readonly rows: readonly Row[];
}

/** Rows of the whole model role by role, without those of peers. */
export function byRole<Row extends ModelRow>(rows: readonly Row[]): RoleRows<Row>[] {
  const own = rows.filter(({ implementation }) => implementation === 'hotrow');
  return unique(own.map(modelRole)).map((role) => {
    const ofRole = own.filter((row) => modelRole(row) === role);
    const plans = unique(ofRole.map(({ variant }) => variant));
    return { role, plans, words: roleWords(role, plans), rows: ofRole };
  });
}

/** Before rows said their role, every plan but the plain one was a tuned one. */
export function modelRole({ role, variant }: ModelRow): ModelRole {
  return role ?? (techniques(variant) === 'none' ? 'plain' : 'tuned');
}

function roleWords(role: ModelRole, [plan, ...others]: readonly string[]): string {
  if (role === 'plain') return 'the plain kernel';
  if (role === 'artifact') return "the paper's kernel";
  if (role === 'artifact-tuned') return "the paper's kernel with its techniques";
  if (others.length > 0) return `the plans ${role} for each pattern`;
  return `the ${role} plan (${techniques(plan as string)})`;
}

const byPattern = (rows: readonly EmbeddingRow[]) => new Map(rows.map((row) => [row.pattern, row]));

/** Rows of the plain kernel, by pattern. */
export function plainRows(results: Pick<BenchResults, 'embedding'>): Map<string, EmbeddingRow> {
  const own = compared(results).filter(({ implementation }) => implementation === 'hotrow');
  return byPattern(own.filter(({ variant }) => variant === own[0]?.variant));
}

/** What rows are compared with, in words: the first plan of a run. */
export function baselineName(results: Pick<BenchResults, 'embedding'>): string {
  const [first] = plainRows(results).values();
  return first !== undefined && isArtifact(first) ? "paper's kernel" : 'plain kernel';
}

/** Another library that was measured in the same run. */
export interface MeasuredPeer {
  /** With its version: `PyTorch 2.11.0+cu130`. */
  readonly implementation: string;
  /** Without: `PyTorch`. */
  readonly name: string;
  /** Its rows, by pattern. */
  readonly rows: ReadonlyMap<string, EmbeddingRow>;
}

/** The peers of a run, in the order of their rows. */
export function peersOf({ embedding }: Pick<BenchResults, 'embedding'>): MeasuredPeer[] {
  const rows = embedding.filter(({ implementation }) => implementation !== 'hotrow');
  return unique(rows.map(({ implementation }) => implementation)).map((implementation) => ({
    implementation,
    name: implementation.split(' ', 1).join(),
    rows: byPattern(rows.filter((row) => row.implementation === implementation)),
  }));
}

/** A table's share of a launch: of one that serves several tables an equal part. */
export function launchPerTable(row: EmbeddingRow): LaunchTimes | undefined {
  if (row.launch === undefined) return undefined;
  const served = row.tablesPerLaunch ?? (isFused(row) ? row.tables : 1);
  const { medianUs, p10Us, p90Us, samples } = row.launch;
  return { medianUs: medianUs / served, p10Us: p10Us / served, p90Us: p90Us / served, samples };
}

/** Whether the row's kernel pools all tables in one launch. */
function isFused({ plan }: EmbeddingRow): boolean {
  return (plan as Plan | undefined)?.kernel === 'fused';
}

/** Whether the row's kernel is of the shape that the paper measured. */
export function isArtifact({ plan }: Pick<EmbeddingRow, 'plan'>): boolean {
  return (plan as Plan | undefined)?.kernel === 'artifact';
}

/** How many times faster `row`'s launch is than the baseline's, by table and with pinning left out; undefined: one was not timed, or took no time. */
export function launchSpeedup(row: EmbeddingRow, baseline: EmbeddingRow | undefined): number | undefined {
  const own = launchPerTable(row);
  const other = baseline && launchPerTable(baseline);
  if (own === undefined || other === undefined) return undefined;
  const speedup = other.medianUs / own.medianUs;
  return Number.isFinite(speedup) ? speedup : undefined;
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
