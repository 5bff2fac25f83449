/** The race for the best plan on the lookups of one pattern, and the tables that it runs on. */
import { at } from '../at.ts';
import type { Backend } from '../backend/backend.ts';
import type { BagBatch, EmbeddingTable } from '../embedding/bag.ts';
import type { OnProgress } from '../progress.ts';
import { EmbeddingTimer } from '../tuner/embedding-timer.ts';
import { QueuedTimer } from '../tuner/queued-timer.ts';
import { type SearchResult, searchPlan } from '../tuner/search.ts';
import type { EmbeddingWorkload } from './workload.ts';

/** How long plans race on each pattern, compiling left out. */
export const RACE_SECONDS = 2;

/** Races the legal plans on a pattern's batches, which `timer` has loaded. @throws AbortError. */
export function racePlans(
  timer: EmbeddingTimer,
  pattern: string,
  progress: OnProgress,
  signal?: AbortSignal,
): Promise<SearchResult> {
  return searchPlan(new QueuedTimer(timer), {
    seconds: RACE_SECONDS,
    onProgress: (what, n, of) => progress(`racing plans, ${pattern}: ${what}`, n, of),
    ...(signal && { signal }),
  });
}

/**
 * Of tables of one shape, at most this many race. The race places its tables by itself, on CPUs in two placements side by
 * side: all of hundreds would need the model's memory twice, where once may be all there is. Batches of 16 tables fill a
 * GPU, and are short enough for hundreds of plans to have their turns.
 */
export const MOST_RACED = 16;

/** Positions of the tables that race, in order: of each shape the first MOST_RACED. */
export function racedTables(
  tables: readonly Pick<EmbeddingTable, 'rows' | 'dim' | 'rowFormat' | 'mode'>[],
): number[] {
  const counts = new Map<string, number>();
  return tables.flatMap(({ rows, dim, rowFormat, mode }, t) => {
    const shape = `${rows} ${dim} ${rowFormat} ${mode}`;
    const count = (counts.get(shape) ?? 0) + 1;
    counts.set(shape, count);
    return count <= MOST_RACED ? [t] : [];
  });
}

export interface RaceOptions {
  readonly backend: Backend;
  readonly tables: readonly EmbeddingTable[];
  readonly workloads: readonly EmbeddingWorkload[];
  /** Gets what the placements brought about. */
  readonly notes: string[];
  readonly progress: OnProgress;
  /** Gives the races up, between measurements. */
  readonly signal?: AbortSignal | undefined;
}

/** Races plans on each pattern's own lookups in a sample of the tables, whose memory is free again afterwards. @throws AbortError. */
export async function racePatterns(options: RaceOptions): Promise<Map<string, SearchResult>> {
  const { backend, tables, workloads, notes, progress, signal } = options;
  const raced = racedTables(tables);
  const sample = raced.map((t) => at(tables, t));
  using timer = new EmbeddingTimer(backend, sample, { onProgress: progress, ...(signal && { signal }) });
  const found = new Map<string, SearchResult>();
  for (const { pattern, batches } of workloads) {
    await timer.load(batches.map((batch) => bagsOf(batch, raced)));
    found.set(pattern, await racePlans(timer, pattern, progress, signal));
  }
  notes.push(...timer.notes.map((note) => `in the race: ${note}`));
  return found;
}

/** A batch's bags of some of its tables. */
function bagsOf({ bags, ...batch }: BagBatch, tables: readonly number[]): BagBatch {
  return { ...batch, bags: tables.map((t) => at(bags, t)) };
}
