/** What a characterization says, rule by rule. */
import { techniques, unique } from '../bench/comparison.ts';
import { FULL_SHARE } from '../characterize/limiter.ts';
import type { Characterization } from '../characterize/results.ts';
import { percent, significant } from '../numbers.ts';
import { applyRules, highest, type Rule } from './findings.ts';

const MEMORY_BOUND: Rule<Characterization> = {
  name: 'memory-bound',
  threshold: FULL_SHARE,
  reason: "share of the memory's peak throughput; streaming reads reach 80 to 90 % of it",
  find({ counters }) {
    const bound = counters.filter(({ dramShare }) => dramShare >= this.threshold);
    const first = highest(bound, ({ dramShare }) => dramShare);
    if (first === undefined) return [];
    const patterns = unique(bound.map(({ pattern }) => pattern)).join(', ');
    return [
      {
        text: `Memory bounds ${bound.length} of ${counters.length} measured kernels (${patterns}): only fewer bytes would make them faster.`,
        cites: [
          { what: `memory throughput, ${first.variant}, ${first.pattern}`, value: percent(first.dramShare) },
        ],
        figure: 'shares',
      },
    ];
  },
};

const LATENCY_BOUND: Rule<Characterization> = {
  name: 'waits-for-memory',
  threshold: 0.5,
  reason:
    'share of the waiting that is for memory loads, where neither the memory nor L2 is full: latency, not bandwidth',
  find({ counters }) {
    const share = ({ stalls, longScoreboardPerIssue }: Characterization['counters'][number]) => {
      const all = stalls.reduce((sum, { perIssue }) => sum + perIssue, 0);
      return all === 0 ? 0 : longScoreboardPerIssue / all;
    };
    const waiting = counters.filter(
      (row) => share(row) >= this.threshold && Math.max(row.dramShare, row.l2Share) < FULL_SHARE,
    );
    const most = highest(waiting, share);
    if (most === undefined) return [];
    return [
      {
        text: `${waiting.length} of ${counters.length} measured kernels mostly wait for loads without filling the memory's or L2's bandwidth: more loads in flight would help.`,
        cites: [
          { what: `waiting for loads, ${most.variant}, ${most.pattern}`, value: percent(share(most)) },
          { what: 'of peak: memory, L2', value: `${percent(most.dramShare)}, ${percent(most.l2Share)}` },
        ],
        figure: 'stalls',
      },
    ];
  },
};

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
  MEMORY_BOUND,
  LATENCY_BOUND,
  WARPS_LOST,
  REGISTERS,
  SPILLS,
];

/** What a characterization says. */
export const characterizeFindings = (results: Characterization) => applyRules(CHARACTERIZE_RULES, results);
