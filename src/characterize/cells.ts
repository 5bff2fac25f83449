/** Pattern × plan cells: planned, and run so that a profiler records them. */
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { at } from '../at.ts';
import type { CudaBackend } from '../backend/cuda/cuda-backend.ts';
import { turnOn } from '../bench/embedding-bench.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { DeviceError, unwritable } from '../errors.ts';
import { readWhole, textIfThere, writeWhole } from '../opened-file.ts';
import { type Plan, planSchema } from '../plan/plan.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';
import { EmbeddingTimer } from '../tuner/embedding-timer.ts';
import type { Lookups } from './kept-lookups.ts';
import type { TableGroup } from './table-groups.ts';
import { characterizedPlans, type VariantName } from './variants.ts';

/** A profiled cell is run in whole batches, until it has this many launches. */
const LEAST_LAUNCHES = 3;

/** What is measured of a plan on a pattern. */
export interface Cell {
  readonly pattern: string;
  readonly plan: Plan;
  /** Those whose first tables have a measured launch in each batch, in their order; none: one launch serves all tables. */
  readonly groups: readonly TableGroup[];
  /** That a profiler records. */
  readonly batches: number;
}

/** Measured launches per batch. */
export const launchesPerBatch = ({ groups }: Pick<Cell, 'groups'>) => Math.max(1, groups.length);

/** Every cell, pattern by pattern. */
export function plannedCells(
  context: PlanContext,
  patterns: readonly string[],
  groups: readonly TableGroup[],
  variants: readonly VariantName[],
): Cell[] {
  const plans = characterizedPlans(context, variants);
  return patterns.flatMap((pattern) =>
    plans.map((plan) => {
      const own = plan.kernel === 'fused' ? [] : groups;
      const batches = Math.ceil(LEAST_LAUNCHES / launchesPerBatch({ groups: own }));
      return { pattern, plan, groups: own, batches };
    }),
  );
}

const strict = { additionalProperties: false } as const;
const requestSchema = Type.Object(
  {
    /** Tables whose launches are recorded. */
    tables: Type.Array(Type.Integer({ minimum: 0 })),
    cells: Type.Array(
      Type.Object(
        { pattern: Type.String(), plan: planSchema, batches: Type.Integer({ minimum: 1 }) },
        strict,
      ),
    ),
  },
  strict,
);
const runSchema = Type.Object(
  {
    /** The functions that a cell launched, launch by launch. */
    cells: Type.Array(Type.Array(Type.String())),
    notes: Type.Array(Type.String()),
  },
  strict,
);

type Request = Static<typeof requestSchema>;
/** What a run recorded. */
export type CellRun = Static<typeof runSchema>;

const requestFile = (file: string) => `${file}.request`;
const progressFile = (file: string) => `${file}.progress`;

/** Leaves beside `file` what runCells is to run. @throws UsageError FILE_UNWRITABLE. */
export async function requestCells(file: string, cells: readonly Cell[]): Promise<void> {
  const request: Request = {
    tables: [...new Set(cells.flatMap(({ groups }) => groups.map(({ tables }) => at(tables, 0))))],
    cells: cells.map(({ pattern, plan, batches }) => ({ pattern, plan, batches })),
  };
  await written(file, writeWhole(requestFile(file), JSON.stringify(request)));
}

export interface RunOptions {
  readonly backend: CudaBackend;
  readonly tables: readonly EmbeddingTable[];
  readonly workloads: readonly Lookups[];
}

/**
 * Runs the cells that were requested beside `file`: warm-up batches, then recorded ones. Appends a line to `file` that says
 * what was recorded.
 */
export async function runCells({ backend, tables, workloads }: RunOptions, file: string): Promise<void> {
  const request = Value.Parse(
    requestSchema,
    JSON.parse(String(await readWhole(requestFile(file)))),
  ) as Request;
  const recorded = new Set(request.tables);
  using timer = new EmbeddingTimer(backend, tables);
  const cells: string[][] = [];
  let loaded: string | undefined;
  for (const { pattern, plan, batches } of request.cells) {
    if (loaded !== pattern) await timer.load(lookupsOf(workloads, pattern).batches);
    loaded = pattern;
    await tellProgress(file, cells.length);
    const { kernels, next } = await warmUp(timer, plan as Plan, recorded);
    for (let i = 0; i < batches; i++) await timer.record(plan as Plan, next + i, recorded);
    cells.push(Array.from({ length: batches }, () => kernels).flat());
  }
  await tellProgress(file, cells.length);
  const run: CellRun = { cells, notes: timer.notes };
  await written(file, writeWhole(file, `${JSON.stringify(run)}\n`, 'a'));
}

function lookupsOf(workloads: readonly Lookups[], pattern: string): Lookups {
  const found = workloads.find((lookups) => lookups.pattern === pattern);
  if (found === undefined) throw new TypeError(`there are no lookups of ${pattern}`);
  return found;
}

/** As many batches as the benchmark warms up with. `kernels`: of the recorded launches of one batch; `next`: the batch that follows. */
async function warmUp(timer: EmbeddingTimer, plan: Plan, recorded: ReadonlySet<number>) {
  const { warmup } = turnOn(timer.device);
  for (let i = 0; i < warmup - 1; i++) await timer.run(plan, i);
  const last = await timer.run(plan, warmup - 1, { timeLaunches: true });
  const kernels = last.launches
    .filter(({ kind, table }) => kind === 'bags' && (table === undefined || recorded.has(table)))
    .map(({ kernel = '' }) => kernel);
  return { kernels, next: warmup };
}

/** When a run began its nth cell, or had done all. */
export interface CellProgress {
  readonly cell: number;
  /** ms since 1970. */
  readonly atMs: number;
}

async function tellProgress(file: string, cell: number): Promise<void> {
  const line: CellProgress = { cell, atMs: Date.now() };
  await written(file, writeWhole(progressFile(file), `${JSON.stringify(line)}\n`, 'a'));
}

/** What the runs told so far, in their order. */
export async function readProgress(file: string): Promise<CellProgress[]> {
  const text = await textIfThere(progressFile(file));
  // The last line may not be whole yet.
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as CellProgress);
}

/**
 * What the runs of the cells recorded, and how many there were.
 * @throws DeviceError PROFILER_FAILED when there was none, or they differ: then launches cannot be told apart.
 */
export async function readRuns(file: string): Promise<CellRun & { readonly runs: number }> {
  const text = await textIfThere(file);
  const lines = text.split('\n').filter((line) => line !== '');
  const [first] = lines;
  if (first === undefined) throw new DeviceError('PROFILER_FAILED', 'the profiled program ran no cells');
  if (lines.some((line) => line !== first))
    throw new DeviceError('PROFILER_FAILED', 'the runs of the profiled program differ');
  return { ...Value.Parse(runSchema, JSON.parse(first)), runs: lines.length };
}

async function written(file: string, writing: Promise<void>): Promise<void> {
  await writing.catch((cause) => {
    throw unwritable(file, cause);
  });
}
