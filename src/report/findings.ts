/**
 * What results say, by stated rules. A rule looks at figures and speaks only past its threshold; what it says cites the
 * figures that it was derived from, and the chart that shows them.
 */
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

/** The entry with the highest score. */
export function highest<T>(entries: readonly T[], score: (entry: T) => number): T | undefined {
  return entries.reduce<T | undefined>(
    (best, entry) => (best === undefined || score(entry) > score(best) ? entry : best),
    undefined,
  );
}

/** Applies every rule. */
export function applyRules<R>(rules: readonly Rule<R>[], results: R): Finding[] {
  return rules.flatMap((rule) => rule.find(results).map((found) => ({ rule: rule.name, ...found })));
}
