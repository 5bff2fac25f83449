/**
 * What results say, by stated rules. A rule looks at figures and speaks only past its threshold; what it says cites the
 * figures that it was derived from, and the chart that shows them.
 */
import { times } from '../numbers.ts';

export interface Citation {
  readonly what: string;
  /** With its unit. */
  readonly value: string;
}

export interface Finding {
  /** The rule's name. */
  readonly rule: string;
  readonly text: string;
  readonly cites: readonly [Citation, ...Citation[]];
  /** The id of the figure that shows it. */
  readonly figure: string;
}

export interface Rule<R> {
  readonly name: string;
  readonly threshold: number;
  /** What the threshold is a threshold of, and why it is where it is. */
  readonly reason: string;
  /** What the rule finds; nothing where the results lack its figures or stay below the threshold. */
  readonly find: (results: R) => readonly Omit<Finding, 'rule'>[];
}

/** The entry with the highest score. Those whose score is no finite number do not count. */
export function highest<T>(entries: readonly T[], score: (entry: T) => number): T | undefined {
  const scored = entries.filter((entry) => Number.isFinite(score(entry)));
  return scored.reduce<T | undefined>(
    (best, entry) => (best === undefined || score(entry) > score(best) ? entry : best),
    undefined,
  );
}

/** `1.26× (one_item) to 1.82× (med_hot)`, or one of them. */
export function span<Row extends { readonly pattern: string }>(
  rows: readonly Row[],
  value: (row: Row) => number,
): string {
  const [low, high] = [highest(rows, (row) => -value(row)), highest(rows, value)];
  const words = (row: Row) => `${times(value(row))} (${row.pattern})`;
  return [low, ...(low === high ? [] : [high])]
    .flatMap((row) => (row === undefined ? [] : words(row)))
    .join(' to ');
}

/** Applies every rule. */
export function applyRules<R>(rules: readonly Rule<R>[], results: R): Finding[] {
  return rules.flatMap((rule) => rule.find(results).map((found) => ({ rule: rule.name, ...found })));
}
