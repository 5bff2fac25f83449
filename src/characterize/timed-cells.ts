/** Cells timed by events, in turns as in the benchmark, without a profiler. */
import type { LaunchTime } from '../backend/backend.ts';
import { turnOn } from '../bench/embedding-bench.ts';
import { type Plan, planLabel } from '../plan/plan.ts';
import type { OnProgress } from '../progress.ts';
import { EmbeddingTimer } from '../tuner/embedding-timer.ts';
import { median } from '../tuner/quantile.ts';
import type { Budget } from './budget.ts';
import type { Cell, RunOptions } from './cells.ts';
import type { LaunchRow } from './results.ts';
import type { TableGroup } from './table-groups.ts';

/** Turns of each cell that is timed, after some that are not: until the engine has compiled, launches come late. */
const WARM_UP_ROUNDS = 3;
const TIMED_ROUNDS = 9;

/** A cell, and what its launches took. */
interface TimedCell {
  readonly cell: Cell;
  readonly launches: Pick<LaunchTime, 'table' | 'seconds'>[];
}

/**
 * A row for every cell and group of tables, as far as the budget goes: cells of the first pattern are timed once at least,
 * unless they are interrupted.
 */
export async function timeCells(
  { backend, tables, workloads }: RunOptions,
  cells: readonly Cell[],
  budget: Budget,
  onProgress: OnProgress,
): Promise<{ rows: LaunchRow[]; notes: string[] }> {
  using timer = new EmbeddingTimer(backend, tables, { onProgress });
  const rows: LaunchRow[] = [];
  for (const { pattern, batches } of workloads) {
    const mayStop = () =>
      budget.stopped === 'interrupted' || (budget.stopped !== undefined && rows.length > 0);
    if (mayStop()) break;
    await timer.load(batches);
    const timed = cells
      .filter((cell) => cell.pattern === pattern)
      .map((cell): TimedCell => ({ cell, launches: [] }));
    for (let round = 0; round < WARM_UP_ROUNDS + TIMED_ROUNDS; round++) {
      onProgress(`timing launches, ${pattern}: rounds`, round + 1, WARM_UP_ROUNDS + TIMED_ROUNDS);
      for (const [place, { cell, launches }] of timed.entries()) {
        const taken = await takeTurn(timer, cell.plan, round + place);
        if (round >= WARM_UP_ROUNDS) launches.push(...taken);
      }
      if (mayStop() || (budget.stopped !== undefined && round >= WARM_UP_ROUNDS)) break;
    }
    rows.push(...timed.flatMap((one) => rowsOf(one, tables.length)));
  }
  return { rows, notes: timer.notes };
}

/** The launches that pool bags of a plan's turn, each timed by itself. */
async function takeTurn(timer: EmbeddingTimer, plan: Plan, first: number): Promise<LaunchTime[]> {
  const { warmup, timed } = turnOn(timer.device);
  const taken: LaunchTime[] = [];
  for (let i = 0; i < warmup; i++) await timer.run(plan, first + i);
  for (let i = warmup; i < warmup + timed; i++) {
    // As in the benchmark, a batch launched back to back comes before each that is timed launch by launch.
    await timer.run(plan, first + i);
    const { launches } = await timer.run(plan, first + i, { timeLaunches: true });
    taken.push(...launches.filter(({ kind }) => kind === 'bags'));
  }
  return taken;
}

/** A row for each group; where one launch serves all tables, one. */
function rowsOf({ cell, launches }: TimedCell, tables: number): LaunchRow[] {
  const { pattern, plan, groups } = cell;
  const row = (own: TimedCell['launches'], tablesPerLaunch: number, group?: TableGroup): LaunchRow[] =>
    own.length === 0
      ? []
      : [
          {
            pattern,
            variant: planLabel(plan),
            plan,
            ...(group === undefined ? {} : { group: group.about }),
            launches: own.length,
            timeUs: median(own.map(({ seconds }) => seconds * 1e6)),
            tablesPerLaunch,
          },
        ];
  if (groups.length === 0) return row(launches, tables);
  return groups.flatMap((group) =>
    row(
      launches.filter(({ table }) => table !== undefined && group.tables.includes(table)),
      1,
      group,
    ),
  );
}
