/** What a lane's batches say of loads beside it. */
import { timing } from '../../src/bench/statistics.ts';
import type { LongCall } from './calls.ts';
import type { LaneReport } from './lane.ts';
import type { LoaderReport, Stretch } from './loader.ts';

/** A time in which batches of the lane were late, and what went on meanwhile. */
export interface Stall {
  /** Those of the load that it overlaps, the first first. */
  readonly phases: readonly string[];
  /** Of the load; undefined: none was under way. */
  readonly load: number | undefined;
  /** What the load did last before it. */
  readonly step: string | undefined;
  /** From the beginning of the first phase; else of all. */
  readonly afterMs: number;
  /** Of the slowest batch in it. */
  readonly ms: number;
  readonly batches: number;
  /** Calls of the load that overlap it, and of the lane itself. */
  readonly loadCalls: readonly ToldCall[];
  readonly laneCalls: readonly ToldCall[];
}

interface ToldCall {
  readonly call: string;
  readonly ms: number;
  readonly bytes?: number;
}

interface Late {
  readonly fromMs: number;
  toMs: number;
  mostMs: number;
  batches: number;
}

const told = ({ call, fromMs, toMs, bytes }: LongCall): ToldCall => {
  const ms = Math.round(100 * (toMs - fromMs)) / 100;
  return { call, ms, ...(bytes === undefined ? {} : { bytes }) };
};

const overlaps = (a: { fromMs: number; toMs: number }, b: { fromMs: number; toMs: number }) =>
  a.fromMs < b.toMs && b.fromMs < a.toMs;

/** Stretches in which batches took longer than `stallMs`, in order of time. */
function lateStretches({ dueMs, doneMs }: LaneReport, stallMs: number): Late[] {
  const late: Late[] = [];
  const order = Array.from(dueMs.keys()).sort((a, b) => (dueMs[a] as number) - (dueMs[b] as number));
  for (const i of order) {
    const [fromMs, toMs] = [dueMs[i] as number, doneMs[i] as number];
    if (toMs - fromMs <= stallMs) continue;
    const last = late.at(-1);
    if (last !== undefined && fromMs <= last.toMs) {
      last.toMs = Math.max(last.toMs, toMs);
      last.mostMs = Math.max(last.mostMs, toMs - fromMs);
      last.batches += 1;
    } else late.push({ fromMs, toMs, mostMs: toMs - fromMs, batches: 1 });
  }
  return late;
}

export function stallsOf(lane: LaneReport, loads: readonly LoaderReport[], stallMs: number): Stall[] {
  return lateStretches(lane, stallMs).map((late) => {
    const load = loads.findIndex(({ phases }) => phases.some((phase) => overlaps(phase, late)));
    const own = loads[load];
    const during = (own?.phases ?? [])
      .filter((phase) => overlaps(phase, late))
      .sort((a, b) => a.fromMs - b.fromMs);
    const step = own?.steps.findLast(({ atMs }) => atMs <= late.toMs);
    return {
      phases: during.map(({ name }) => name),
      load: own && load,
      step: step?.what,
      afterMs: late.fromMs - (during[0]?.fromMs ?? (lane.dueMs[0] as number)),
      ms: late.mostMs,
      batches: late.batches,
      loadCalls: (own?.calls ?? []).filter((call) => overlaps(call, late)).map(told),
      laneCalls: [...lane.calls, ...lane.collections].filter((call) => overlaps(call, late)).map(told),
    };
  });
}

/** The lane's times, by what the loads did meanwhile: a batch counts in each phase that it overlaps. */
export function phasesOf({ dueMs, doneMs }: LaneReport, loads: readonly LoaderReport[]) {
  const times = new Map<string, number[]>([['quiet', []]]);
  const lengths = new Map<string, number[]>();
  const all: Stretch[] = loads.flatMap(({ phases }) => phases);
  for (const { name, fromMs, toMs } of all) {
    if (!times.has(name)) times.set(name, []);
    lengths.set(name, [...(lengths.get(name) ?? []), toMs - fromMs]);
  }
  for (let i = 0; i < dueMs.length; i++) {
    const batch = { fromMs: dueMs[i] as number, toMs: doneMs[i] as number };
    const during = new Set(all.filter((phase) => overlaps(phase, batch)).map(({ name }) => name));
    for (const name of during.size === 0 ? ['quiet'] : during)
      times.get(name)?.push(batch.toMs - batch.fromMs);
  }
  return [...times]
    .filter(([, own]) => own.length > 0)
    .map(([phase, own]) => ({ phase, lengthsMs: lengths.get(phase) ?? [], batchMs: timing(own) }));
}
