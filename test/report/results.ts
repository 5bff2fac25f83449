/** Results to report on: the recorded ones, and a small characterization. */
import { readFileSync } from 'node:fs';
import type { BenchResults } from '../../src/bench/results.ts';
import { LIMITERS } from '../../src/characterize/limiter.ts';
import type { Characterization, CounterRow, StaticRow } from '../../src/characterize/results.ts';

/** A file of bench/results, parsed; every call gives a copy of its own. */
export const recordedBench = (name: string) => recorded(name) as BenchResults;
export const recordedCharacterization = (name: string) => recorded(name) as Characterization;

function recorded(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../bench/results/${name}`, import.meta.url), 'utf8'));
}

const PLAIN = { version: 1, device: 'cuda', kernel: 'standard', techniques: {} } as const;
const PREFETCH = { ...PLAIN, techniques: { prefetch: { into: 'registers', distance: 6 } } } as const;

const kernel: StaticRow = {
  variant: 'standard',
  plan: PLAIN,
  gpu: 'H200',
  architecture: 'sm_90',
  kernel: 'standard_bag',
  registers: 18,
  spillBytes: 0,
  stackBytes: 0,
  sharedBytes: 0,
  blockThreads: 256,
  blocksPerMultiprocessor: 8,
  warps: 64,
  occupancy: 1,
  limiter: 'warps',
  instructions: { 'global load': 3, 'float add': 1, integer: 14, control: 6 },
};

const counters: CounterRow = {
  pattern: 'random',
  variant: 'standard',
  plan: PLAIN,
  kernel: 'standard_bag',
  launches: 12,
  timeUs: 74.5,
  tablesPerLaunch: 1,
  registers: 18,
  theoreticalWarps: 64,
  achievedWarps: 55.5,
  occupancy: 0.87,
  activeShare: 0.93,
  issueSlotUse: 0.22,
  longScoreboardPerIssue: 40,
  stalls: [
    { reason: 'long scoreboard', perIssue: 40 },
    { reason: 'wait', perIssue: 4 },
    { reason: 'not selected', perIssue: 1.5 },
  ],
  l1HitRate: 0.05,
  l2HitRate: 0.31,
  dramBytes: 110e6,
  dramShare: 0.44,
  l1Share: 0.25,
  l2Share: 0.41,
  smShare: 0.2,
  limiter: LIMITERS.latency,
  because: '40.0 of 45.5 cycles an instruction waited for loads',
};

/** Two kernels on two patterns: the plain one waits for memory, register prefetch fills the memory. */
export function smallCharacterization(): Characterization {
  return structuredClone({
    version: 1,
    kind: 'characterize',
    createdAt: '2026-11-23T12:00:00.000Z',
    command: 'hotrow characterize --json characterization.json',
    hotrow: '0.1.0',
    device: recordedBench('h200-paper.json').device,
    tools: { ncu: '2025.3.1', nvcc: '13.0.88' },
    static: [
      kernel,
      { ...kernel, variant: 'standard + RPF d6', plan: PREFETCH, registers: 32 },
      {
        ...kernel,
        variant: 'standard + RPF d16',
        plan: { ...PLAIN, techniques: { prefetch: { into: 'registers', distance: 16 } } },
        registers: 64,
        spillBytes: 8,
        blocksPerMultiprocessor: 4,
        warps: 32,
        occupancy: 0.5,
        limiter: 'registers',
      },
    ],
    counters: ['one_item', 'random'].flatMap((pattern) => [
      { ...counters, pattern },
      {
        ...counters,
        pattern,
        variant: 'standard + RPF d6',
        plan: PREFETCH,
        registers: 32,
        timeUs: 44.1,
        achievedWarps: 44.2,
        dramShare: 0.86,
        l2Share: 0.7,
        limiter: LIMITERS.dram,
        because: 'memory at 86 % of its peak',
        l1HitRate: pattern === 'one_item' ? 0.99 : 0.04,
      },
    ]),
    notes: [],
  } satisfies Characterization);
}
