/** What a load's results say, rule by rule. */
import { isGeneratorLate, LAG_SHARE } from '../load/facts.ts';
import type { LoadResults, LoadRun } from '../load/results.ts';
import { percent, quantileName, significant } from '../numbers.ts';
import { applyRules, type Finding, highest, type Rule } from './findings.ts';

const rate = ({ rate: own }: LoadRun) => `${significant(own)} requests/s`;
const ms = (value: number) => `${significant(value)} ms`;

const HELD: Rule<LoadResults> = {
  name: 'rate-holds',
  threshold: 0.99,
  reason:
    'share of arrivals in time at the rate that a search found: what is promised of the rest is the bound',
  find({ search, runs }) {
    if (search?.rate === undefined || runs.length === 0) return [];
    const bound = `${quantileName(search.quantile)} ≤ ${ms(search.boundMs)}`;
    return [
      {
        text: `The server holds ${bound} up to ${significant(search.rate)} requests/s.`,
        cites: [{ what: `highest rate with ${bound}`, value: `${significant(search.rate)}/s` }],
        figure: 'latency',
      },
    ];
  },
};

const OVERLOAD: Rule<LoadResults> = {
  name: 'overload-in-time',
  threshold: 0.95,
  reason: 'share of arrivals in time; below it the server has more to do than it can',
  find({ runs }) {
    const beyond = runs.filter(
      ({ step, scheduled, inTime }) =>
        step === 'rate' && scheduled > 0 && inTime / scheduled < this.threshold,
    );
    const worst = highest(beyond, (run) => run.rate);
    if (worst === undefined) return [];
    const share = worst.inTime / worst.scheduled;
    return [
      {
        text: `At ${rate(worst)}, ${percent(share)} are in time, ${percent((worst.refused + worst.dropped) / worst.scheduled)} are refused or dropped.`,
        cites: [{ what: 'in time, of all arrivals', value: percent(share, 1) }],
        figure: 'outcomes',
      },
    ];
  },
};

const LATE: Rule<LoadResults> = {
  name: 'generator-late',
  threshold: LAG_SHARE,
  reason:
    'own lag of the generator over the latency, both 99th percentiles: above it, figures are not the server’s alone',
  find({ runs }) {
    const worst = highest(runs.filter(isGeneratorLate), ({ lag }) => lag.p99Ms);
    if (worst === undefined) return [];
    return [
      {
        text: `The generator itself was late at ${rate(worst)}: give it more processes, or a machine of its own.`,
        cites: [{ what: 'own lag, 99th percentile', value: ms(worst.lag.p99Ms) }],
        figure: 'latency',
      },
    ];
  },
};

export const LOAD_RULES: readonly Rule<LoadResults>[] = [HELD, OVERLOAD, LATE];

export function loadFindings(results: LoadResults): Finding[] {
  return applyRules(LOAD_RULES, results);
}
