/** Cells whose counters are read: as many as the budget has time for. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { OnProgress } from '../progress.ts';
import { temporaryFolder } from '../temporary-folder.ts';
import type { Budget } from './budget.ts';
import { type Cell, type CellProgress, readProgress, readRuns, requestCells } from './cells.ts';
import { counterRows } from './counters.ts';
import { keepLookups, type Lookups } from './kept-lookups.ts';
import { extraMetrics } from './metrics.ts';
import { type Ncu, profile } from './ncu.ts';
import type { CounterRow } from './results.ts';

/** Runs of the program that the metrics take, about: what all plans of time go by. */
const USUAL_PASSES = 13;
/** Of the time that is left, for what comes after the counters. */
const KEPT_SHARE = 0.35;
const POLL_MS = 200;
/** Attempts with fewer and fewer cells. */
const MOST_ATTEMPTS = 3;
/** Of the cells that the first pass has time for: passes are no clockwork. */
const FITTING_SHARE = 0.85;

export interface CountOptions {
  readonly ncu: Ncu;
  readonly cells: readonly Cell[];
  readonly workloads: readonly Lookups[];
  /** Tables of the collection. */
  readonly tables: number;
  /** The device's. */
  readonly architecture: string;
  /** The command that calls runCells with this file. */
  readonly command: (file: string) => readonly string[];
  readonly budget: Budget;
  readonly onProgress: OnProgress;
}

export interface Counted {
  readonly rows: readonly CounterRow[];
  /** Cells whose counters were read. */
  readonly cells: number;
  /** How they were read, or why not. */
  readonly notes: readonly string[];
}

/** @throws DeviceError PROFILER_FAILED; `refused`: the user may not read counters. */
export async function countCells(options: CountOptions): Promise<Counted | 'refused'> {
  const { cells, workloads, budget } = options;
  const keptMs = budget.leftMs * KEPT_SHARE;
  await using folder = await temporaryFolder();
  await keepLookups(folder.path, workloads);
  let chosen = byImportance(cells);
  for (let attempt = 1; attempt <= MOST_ATTEMPTS && chosen.length > 0; attempt++) {
    const inOrder = cells.filter((cell) => chosen.includes(cell));
    const counted = await attemptCells(
      options,
      inOrder,
      join(folder.path, String(attempt)),
      () => budget.leftMs - keptMs,
      attempt === 1,
    );
    if (typeof counted !== 'number') return counted;
    chosen = chosen.slice(0, Math.floor(counted * FITTING_SHARE));
  }
  const why = budget.stopped === 'interrupted' ? 'they were interrupted' : 'the budget has no time for them';
  return { rows: [], cells: 0, notes: [`no counters: ${why}`] };
}

/** The plain kernel on every pattern first, then the fused one, then what is between them. */
function byImportance(cells: readonly Cell[]): Cell[] {
  const rank = ({ plan }: Cell) =>
    plan.kernel === 'fused' ? 1 : Object.keys(plan.techniques).length === 0 ? 0 : 2;
  const plans = [
    ...new Set(cells.toSorted((a, b) => rank(a) - rank(b)).map(({ plan }) => JSON.stringify(plan))),
  ];
  return plans.flatMap((own) => cells.filter(({ plan }) => JSON.stringify(plan) === own));
}

/**
 * Profiles some cells; a number: there is no time for more than so many. `leftMs`: of the time for counters. `mayShrink`: the
 * first pass may end it for fewer cells; what it told was too long, by what happens once, so a later attempt goes on.
 */
async function attemptCells(
  { ncu, workloads, tables, architecture, command, budget, onProgress }: CountOptions,
  cells: readonly Cell[],
  folder: string,
  leftMs: () => number,
  mayShrink: boolean,
): Promise<Counted | 'refused' | number> {
  await mkdir(folder);
  const file = `${folder}.cells`;
  await requestCells(file, cells);
  const beganMs = Date.now();
  const stop = new AbortController();
  let fits = cells.length;
  const watching = setInterval(async () => {
    const progress = await readProgress(file);
    const { pass, cell } = placeOf(progress);
    onProgress(
      `reading counters, pass ${pass} of about ${USUAL_PASSES}: kernels`,
      Math.min(cell + 1, cells.length),
      cells.length,
    );
    if (mayShrink) {
      const run = { progress, beganMs, nowMs: Date.now(), leftMs: leftMs(), cells: cells.length };
      fits = Math.min(fits, cellsThatFit(run));
    }
    if (fits < cells.length || budget.stopped !== undefined) stop.abort();
  }, POLL_MS);
  const interrupt = () => stop.abort();
  budget.signal.addEventListener('abort', interrupt);
  if (budget.signal.aborted) interrupt();
  try {
    const options = {
      command: command(file),
      extra: extraMetrics(architecture),
      folder,
      signal: stop.signal,
    };
    const launches = await profile(ncu, options);
    if (launches === 'stopped') return budget.stopped === undefined ? fits : 0;
    if (launches === 'refused') return launches;
    const run = await readRuns(file);
    const seconds = (Date.now() - beganMs) / 1e3;
    const patterns = new Set(cells.map(({ pattern }) => pattern)).size;
    const protocol = `counters: ${launches.length} launches, a counter pass each in ${run.runs} runs of the same program (${seconds.toFixed(0)} s), of ${patterns} of ${workloads.length} patterns; every plan runs the benchmark's warm-up, batches in rotation, before its launches are recorded; caches and clocks as they are in use; means over the launches`;
    const rows = counterRows(cells, run.cells, launches, tables);
    return { rows, cells: cells.length, notes: [protocol, ...run.notes] };
  } finally {
    clearInterval(watching);
    budget.signal.removeEventListener('abort', interrupt);
  }
}

/** Passes that began, and the cell at which the last of them is. */
function placeOf(progress: readonly CellProgress[]): { readonly pass: number; readonly cell: number } {
  const pass = progress.filter(({ cell }) => cell === 0).length;
  return { pass: Math.max(1, pass), cell: progress.at(-1)?.cell ?? 0 };
}

export interface PassesSoFar {
  /** What the runs told. */
  readonly progress: readonly CellProgress[];
  /** When the profiler was started, and now: ms since 1970. */
  readonly beganMs: number;
  readonly nowMs: number;
  readonly leftMs: number;
  /** Per run. */
  readonly cells: number;
}

/**
 * For how many cells of a run the time that is left will do: all of them while nothing says otherwise. Every pass starts the
 * program anew, and then takes its time a cell; the first pass tells for all. Pure.
 */
export function cellsThatFit({ progress, beganMs, nowMs, leftMs, cells }: PassesSoFar): number {
  const elapsedMs = nowMs - beganMs;
  const [start, ...others] = progress;
  const second = others.findIndex(({ cell }) => cell === 0);
  const next = others[second];
  const passMs = start === undefined || next === undefined ? elapsedMs : next.atMs - start.atMs;
  if (passMs * USUAL_PASSES <= elapsedMs + leftMs) return cells;
  const last = next === undefined ? others.at(-1) : others[second - 1];
  if (start === undefined || last === undefined) return 0;
  const cellMs = (last.atMs - start.atMs) / last.cell;
  const startMs = next === undefined ? start.atMs - beganMs : passMs - cellMs * cells;
  // Another attempt begins from now on.
  const fitting = Math.floor((leftMs / USUAL_PASSES - startMs) / cellMs);
  return Math.max(0, Math.min(cells - 1, fitting));
}
