/** Results to report on: the recorded ones, and a small characterization. */
import { readFileSync } from 'node:fs';
import type { BenchResults } from '../../src/bench/results.ts';
import { LIMITERS } from '../../src/characterize/limiter.ts';
import type { Characterization, CounterRow, StaticRow } from '../../src/characterize/results.ts';
import type { LoadResults, LoadRun } from '../../src/load/results.ts';

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

const loadRun: LoadRun = {
  step: 'bracket',
  rate: 1000,
  seconds: 10,
  scheduled: 10_000,
  inTime: 10_000,
  late: 0,
  refused: 0,
  dropped: 0,
  failed: 0,
  unanswered: 0,
  waited: 3,
  answeredPerSecond: 998,
  samplesPerSecond: 269_460,
  latency: {
    count: 10_000,
    meanMs: 3.2,
    mostMs: 11.5,
    quantiles: [
      { quantile: 0.5, ms: 3, lowMs: 2.9, highMs: 3.1 },
      { quantile: 0.9, ms: 5, lowMs: 4.8, highMs: 5.2 },
      { quantile: 0.99, ms: 8, lowMs: 7.5, highMs: 8.6 },
      { quantile: 0.999, ms: 10, lowMs: 9 },
    ],
    slowest: [
      [2, 3],
      [10, 5],
      [100, 8],
      [1000, 10],
    ],
  },
  lag: { p50Ms: 0.01, p99Ms: 0.1, mostMs: 0.4 },
  why: [],
  held: true,
};

/** A search that found 1000 requests/s, and 130 % of it, where a third is refused. */
export function smallLoad(): LoadResults {
  return structuredClone({
    version: 1,
    kind: 'load',
    createdAt: '2026-11-30T12:00:00.000Z',
    command: 'hotrow load http://gpu:8000 --mlperf --search p99=10ms --rate 1000,130%',
    hotrow: '0.1.0',
    server: {
      url: 'http://gpu:8000',
      software: 'hotrow 0.1.0',
      model: 'dlrm',
      features: 26,
      denseFeatures: 13,
    },
    requests: {
      source: 'random',
      bagLengths: '1',
      samples: { least: 100, mean: 270, most: 700 },
      bytes: { least: 61_000, mean: 165_000, most: 428_000 },
      indexType: 'int64',
      userFeatures: 'auto',
      bodies: 100,
      deadlineMs: 10,
      seed: 1,
    },
    generator: { processes: 2, cores: 16, connections: 256, opened: 40, pacing: 'spin' },
    search: { quantile: 0.99, boundMs: 10, inTimeShare: 0.99, rate: 1000 },
    runs: [
      loadRun,
      { ...loadRun, rate: 1050, held: false, because: 'p99 12.0 ms' },
      {
        ...loadRun,
        step: 'rate',
        rate: 1300,
        scheduled: 13_000,
        inTime: 8000,
        refused: 4000,
        dropped: 1000,
        why: [{ what: '503 OVERLOADED', count: 4000 }],
      },
    ],
    notes: [],
  } satisfies LoadResults);
}
