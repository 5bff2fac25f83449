/** What a characterization says, rule by rule. */
import { techniques, unique } from '../bench/comparison.ts';
import { FULL_SHARE, LIMITERS } from '../characterize/limiter.ts';
import {
  type Characterization,
  type CounterRow,
  meanTableUs,
  plainAmong,
  tableUs,
} from '../characterize/results.ts';
import { percent, significant } from '../numbers.ts';
import { applyRules, highest, type Rule, span } from './findings.ts';

/** What would make a kernel faster, by what bounds it. */
const REMEDIES: Readonly<Record<string, string>> = {
  [LIMITERS.dram]: 'Fewer bytes from memory would make them faster',
  [LIMITERS.l2]: 'Fewer bytes from L2, or more hits in L1, would make them faster',
  [LIMITERS.fabric]: "Fewer rows from the other half of L2's memory would make them faster",
  [LIMITERS.l1]: 'Fewer bytes through L1 would make them faster',
  [LIMITERS.issue]: 'Fewer instructions a row would make them faster',
  [LIMITERS.tail]: 'More work in a launch would make better use of the device',
  [LIMITERS.latency]: 'More loads in flight of each warp would hide it',
  [LIMITERS.fewWarps]: 'More warps, or more loads in flight of each, would hide it',
  [LIMITERS.queue]: 'Fewer and wider loads would relieve it',
  [LIMITERS.several]: 'No one thing would make them much faster',
};

const BOUND_BY: Rule<Characterization> = {
  name: 'bound-by',
  threshold: FULL_SHARE,
  reason:
    'share of its peak from which a unit bounds a kernel; below it, what warps wait for does, as in the table that it links to',
  find({ counters }) {
    return byLimiter(counters).flatMap(([limiter, bound]) => {
      const slowest = highest(bound, tableUs);
      if (slowest === undefined) return [];
      const patterns = unique(bound.map(({ pattern }) => pattern)).join(', ');
      const remedy = REMEDIES[limiter];
      return [
        {
          text: `Bound by ${limiter}: ${bound.length} of ${counters.length} measured kernels (${patterns}).${remedy === undefined ? '' : ` ${remedy}.`}`,
          cites: [{ what: `${slowest.variant}, ${slowest.pattern}`, value: slowest.because }],
          figure: 'limiters',
        },
      ];
    });
  },
};

const TECHNIQUES_MOVE: Rule<Characterization> = {
  name: 'techniques-move',
  threshold: 1.05,
  reason: 'time of the plain kernel over that of the fastest variant; launches differ by a few percent',
  find({ counters }) {
    const patterns = unique(counters.map(({ pattern }) => pattern));
    const pairs = patterns.flatMap((pattern) => {
      const rows = counters.filter((row) => row.pattern === pattern);
      const byVariant = unique(rows.map(({ variant }) => variant)).map((variant) =>
        timedVariant(variant, rows),
      );
      const [plain] = plainAmong(byVariant);
      const fastest = highest(byVariant, ({ us }) => -us);
      if (plain === undefined || fastest === undefined) return [];
      const gain = plain.us / fastest.us;
      return !Number.isFinite(gain) || gain < this.threshold ? [] : [{ pattern, plain, fastest, gain }];
    });
    return unique(pairs.map(({ fastest }) => fastest.variant)).flatMap((variant) => {
      const own = pairs.filter(({ fastest }) => fastest.variant === variant);
      const most = highest(own, ({ gain }) => gain);
      if (most === undefined) return [];
      const [after, before] = [
        own.flatMap(({ fastest }) => fastest.rows),
        own.flatMap(({ plain }) => plain.rows),
      ].map(limits);
      return [
        {
          text: `${techniques(variant)} is fastest on ${own.map(({ pattern }) => pattern).join(', ')}: ${span(own, ({ gain }) => gain)} the plain kernel's speed. It is bound by ${after}; the plain kernel by ${before}.`,
          cites: [
            {
              what: `${most.pattern}, µs a table: plain, ${techniques(variant)}`,
              value: `${significant(most.plain.us)}, ${significant(most.fastest.us)}`,
            },
          ],
          figure: 'limiters',
        },
      ];
    });
  },
};

/** A variant's rows on a pattern, and its µs per table, mean over the tables that they stand for. */
function timedVariant(variant: string, onPattern: readonly CounterRow[]) {
  const rows = onPattern.filter((row) => row.variant === variant);
  return { variant, rows, us: meanTableUs(rows) ?? Number.NaN };
}

/** `L1 bandwidth (one_item), DRAM bandwidth (low_hot, random)`; one limit on all patterns stands by itself. */
function limits(rows: readonly CounterRow[]): string {
  const bound = byLimiter(rows);
  const words = bound.map(([limiter, own]) =>
    bound.length === 1 ? limiter : `${limiter} (${unique(own.map(({ pattern }) => pattern)).join(', ')})`,
  );
  return words.join(', ');
}

/** The rows of each limiter. */
function byLimiter(rows: readonly CounterRow[]): [string, CounterRow[]][] {
  const limiters = unique(rows.map(({ limiter }) => limiter));
  return limiters.map((limiter) => [limiter, rows.filter((row) => row.limiter === limiter)]);
}

const WARPS_LOST: Rule<Characterization> = {
  name: 'warps-lost',
  threshold: 0.8,
  reason:
    'achieved over theoretical warps; a launch loses some at its start and end, a fifth is more than that',
  find({ counters }) {
    const share = ({ achievedWarps, theoreticalWarps }: Characterization['counters'][number]) =>
      theoreticalWarps === 0 ? 1 : achievedWarps / theoreticalWarps;
    const least = highest(counters, (row) => -share(row));
    if (least === undefined || share(least) >= this.threshold) return [];
    return [
      {
        text: `${techniques(least.variant) === 'none' ? 'The plain kernel' : techniques(least.variant)} on ${least.pattern} keeps only ${percent(share(least))} of the warps that could live.`,
        cites: [
          { what: 'achieved warps', value: significant(least.achievedWarps) },
          { what: 'theoretical warps', value: String(least.theoreticalWarps) },
        ],
        figure: 'warps',
      },
    ];
  },
};

const SPILLS: Rule<Characterization> = {
  name: 'spills',
  threshold: 1,
  reason: 'spilled bytes of a thread; every one is a store and a load that the kernel would not need',
  find({ static: kernels }) {
    const spilling = kernels.filter(({ spillBytes }) => spillBytes >= this.threshold);
    const most = highest(spilling, ({ spillBytes }) => spillBytes);
    if (most === undefined) return [];
    return [
      {
        text: `${spilling.length} of ${kernels.length} compiled kernels spill registers, ${techniques(most.variant)} most.`,
        cites: [{ what: `${most.variant}, ${most.gpu}`, value: `${most.spillBytes} B a thread` }],
        figure: 'static',
      },
    ];
  },
};

const REGISTERS: Rule<Characterization> = {
  name: 'registers-limit',
  threshold: 1,
  reason: 'occupancy below 100 % for want of registers: a cap could let more warps live',
  find({ static: kernels }) {
    const limited = kernels.filter(
      ({ occupancy, limiter }) => limiter === 'registers' && occupancy < this.threshold,
    );
    const least = highest(limited, ({ occupancy }) => -occupancy);
    if (least === undefined) return [];
    return [
      {
        text: `Registers limit the occupancy of ${limited.length} of ${kernels.length} compiled kernels.`,
        cites: [
          { what: `${least.variant}, ${least.gpu}: registers`, value: String(least.registers) },
          { what: 'occupancy', value: percent(least.occupancy) },
        ],
        figure: 'static',
      },
    ];
  },
};

export const CHARACTERIZE_RULES: readonly Rule<Characterization>[] = [
  BOUND_BY,
  TECHNIQUES_MOVE,
  WARPS_LOST,
  REGISTERS,
  SPILLS,
];

/** What a characterization says. */
export const characterizeFindings = (results: Characterization) => applyRules(CHARACTERIZE_RULES, results);
