/** The paper's claims beside what a run gives. Pure: results in, figures out. */
import type { Plan } from '../plan/plan.ts';
import { planLabel } from '../plan/plan.ts';
import {
  compared,
  isArtifact,
  launchPerTable,
  modelRole,
  plainRows,
  planWords,
  techniques,
  unique,
} from './comparison.ts';
import type { BenchResults, EmbeddingRow, ModelRow } from './results.ts';

/** The results' `preset` that compares by the paper's protocol. */
export const ARTIFACT_PRESET = 'artifact';

/** What the paper claims of an A100: the largest ratio over its patterns. */
const CLAIMED = { hotness: 3.2, cap: 1.53, combined: 2.03, model: 1.77 } as const;

export interface Claim {
  readonly what: string;
  /** The paper's ratio; undefined: it has none. */
  readonly paper?: number;
  /** This run's, the largest over its patterns; undefined: what it is about did not run. */
  readonly here?: number;
  /** The pattern or patterns that gave it. */
  readonly where?: string;
  /** The plan in words. */
  readonly plan?: string;
}

/** The fastest setting of one combination of techniques on one pattern. */
export interface Fastest {
  readonly row: EmbeddingRow;
  /** µs of a table, or ms of a batch where launches are not timed. */
  readonly time: number;
  /** Relative to the baseline's on the same pattern. */
  readonly speedup: number;
}

/** One combination of techniques, by pattern. */
export interface Combination {
  /** `OptMT`, `RPF + L2P + OptMT, pinning counted`. */
  readonly name: string;
  readonly byPattern: ReadonlyMap<string, Fastest>;
}

/** Time of a table by its event pair, where there are such; else of a batch. */
function timeOf(row: EmbeddingRow, withPinning: boolean): number {
  const launch = launchPerTable(row);
  if (launch === undefined) return row.timing.medianMs;
  return launch.medianUs + (withPinning ? (row.pin?.medianUs ?? 0) : 0);
}

/** The techniques of a plan by the paper's names, in the paper's order: `RPF + L2P + OptMT`. */
function combinationOf({ plan }: EmbeddingRow): string {
  const parts = planLabel(plan as Plan)
    .split(' + ')
    .slice(1);
  const names = parts.map((part) => part.split(' ', 1).join());
  const place = (name: string) => ['L2P', 'OptMT'].indexOf(name);
  return names.sort((a, b) => place(a) - place(b)).join(' + ') || 'no technique';
}

const OPTMT = 'OptMT';
const ALL = 'RPF + L2P + OptMT';
const COUNTED = ', pinning counted';

/** The paper's combinations on its own kernel, each at its fastest setting on each pattern. */
export function artifactCombinations(results: BenchResults): Combination[] {
  const baseline = plainRows(results);
  const rows = compared(results).filter((row) => isArtifact(row) && !row.best);
  const combination = (name: string, own: readonly EmbeddingRow[], counted: boolean): Combination => ({
    name,
    byPattern: new Map(
      unique(own.map(({ pattern }) => pattern)).flatMap((pattern) => {
        const base = baseline.get(pattern);
        const found = fastestOf(
          own.filter((row) => row.pattern === pattern),
          base,
          counted,
        );
        return found === undefined ? [] : [[pattern, found] as const];
      }),
    ),
  });
  return unique(rows.map(combinationOf)).flatMap((name) => {
    const own = rows.filter((row) => combinationOf(row) === name);
    const pins = own.some(({ pin }) => pin !== undefined);
    const leftOut = combination(pins ? `${name}, pinning left out` : name, own, false);
    return pins ? [leftOut, combination(`${name}${COUNTED}`, own, true)] : [leftOut];
  });
}

function fastestOf(
  rows: readonly EmbeddingRow[],
  baseline: EmbeddingRow | undefined,
  counted: boolean,
): Fastest | undefined {
  if (baseline === undefined) return undefined;
  const [first, ...others] = rows;
  if (first === undefined) return undefined;
  const row = others.reduce((a, b) => (timeOf(b, counted) < timeOf(a, counted) ? b : a), first);
  const time = timeOf(row, counted);
  return { row, time, speedup: timeOf(baseline, false) / time };
}

/** Hotrow's own plans over the same baseline: the plain kernel, the heuristic plan, the best found. */
export function productCombinations(results: BenchResults): Combination[] {
  const baseline = plainRows(results);
  const rows = compared(results).filter((row) => row.implementation === 'hotrow' && !isArtifact(row));
  const words = (row: EmbeddingRow) => planWords(row).replace(/^none$/, 'standard kernel');
  const name = (row: EmbeddingRow) => `Hotrow: ${row.best ? 'best found' : words(row)}`;
  return unique(rows.map(name)).map((own) => ({
    name: own,
    byPattern: new Map(
      rows.flatMap((row) => {
        const found = name(row) === own ? fastestOf([row], baseline.get(row.pattern), false) : undefined;
        return found === undefined ? [] : [[row.pattern, found] as const];
      }),
    ),
  }));
}

/** The largest speedup of a combination over its patterns. */
function largest({ byPattern }: Combination): Pick<Claim, 'here' | 'where' | 'plan'> {
  const all = [...byPattern.values()].filter(({ speedup }) => Number.isFinite(speedup));
  const [first, ...others] = all;
  if (first === undefined) return {};
  const { row, speedup } = others.reduce((a, b) => (b.speedup > a.speedup ? b : a), first);
  return { here: speedup, where: row.pattern, plan: planWords(row) };
}

/** How much longer the coldest pattern takes than the hottest, without a technique. */
function hotness(results: BenchResults): Pick<Claim, 'here' | 'where'> {
  const rows = [...plainRows(results).values()].sort((a, b) => timeOf(a, false) - timeOf(b, false));
  const [fastest, slowest] = [rows[0], rows.at(-1)];
  if (fastest === undefined || slowest === undefined || rows.length < 2) return {};
  const here = timeOf(slowest, false) / timeOf(fastest, false);
  return Number.isFinite(here) ? { here, where: `${slowest.pattern} over ${fastest.pattern}` } : {};
}

/** The largest gain of the whole model's latency under plans of a role, over the bare kernel, inputs in the same place. */
function modelGain({ model }: BenchResults, role: ModelRow['role']): Pick<Claim, 'here' | 'where' | 'plan'> {
  const own = model.filter(({ implementation }) => implementation === 'hotrow');
  const base = own.some((row) => modelRole(row) === 'artifact') ? 'artifact' : 'plain';
  const gains = own.flatMap((row) => {
    const bare = own.find(
      (other) => modelRole(other) === base && other.pattern === row.pattern && other.inputs === row.inputs,
    );
    if (modelRole(row) !== role || bare === undefined) return [];
    return [{ row, gain: bare.timing.medianMs / row.timing.medianMs }];
  });
  const most = gains.filter(({ gain }) => Number.isFinite(gain)).sort((a, b) => b.gain - a.gain)[0];
  if (most === undefined) return {};
  return { here: most.gain, where: most.row.pattern, plan: techniques(most.row.variant) };
}

/** The paper's claims and Hotrow's own gains over the same baseline; empty: the run did not compare by the paper's protocol. */
export function paperClaims(results: BenchResults): Claim[] {
  if (results.preset !== ARTIFACT_PRESET) return [];
  const combinations = artifactCombinations(results);
  const of = (name: string) => {
    const found = combinations.find((own) => own.name === name);
    return found === undefined ? {} : largest(found);
  };
  const product = productCombinations(results).find(({ name }) => name === 'Hotrow: best found');
  const tuned = modelGain(results, 'tuned').here === undefined ? 'given' : 'tuned';
  return [
    { what: 'coldest over hottest lookups, no technique', paper: CLAIMED.hotness, ...hotness(results) },
    { what: OPTMT, paper: CLAIMED.cap, ...of(OPTMT) },
    { what: `${ALL}, pinning left out`, paper: CLAIMED.combined, ...of(`${ALL}, pinning left out`) },
    { what: `${ALL}${COUNTED}`, ...of(`${ALL}${COUNTED}`) },
    {
      what: 'whole model, the fastest techniques',
      paper: CLAIMED.model,
      ...modelGain(results, 'artifact-tuned'),
    },
    { what: "Hotrow's best plan", ...(product === undefined ? {} : largest(product)) },
    { what: "whole model, Hotrow's best plan", ...modelGain(results, tuned) },
  ];
}
