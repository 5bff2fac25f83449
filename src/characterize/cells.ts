/** Pattern × plan cells: run so that a profiler records them, and timed by events. */
import { appendFile, readFile } from 'node:fs/promises';
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import type { CudaBackend } from '../backend/cuda/cuda-backend.ts';
import { kernelFunction } from '../backend/cuda/kernel-source.ts';
import { Samples, takeTurn, turnOn } from '../bench/embedding-bench.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { type Plan, planLabel, planSchema } from '../embedding/plan.ts';
import { DeviceError, fileError } from '../errors.ts';
import { EmbeddingTimer } from '../tuner/embedding-timer.ts';
import { median } from '../tuner/quantile.ts';
import type { Lookups } from './kept-lookups.ts';
import type { LaunchRow } from './results.ts';
import { characterizedPlans, type VariantName } from './variants.ts';

/** A profiled cell is run in whole batches, until it has this many launches. */
const LEAST_LAUNCHES = 3;
/** Turns of each cell that is timed by events, after some that are not: until the engine has compiled, launches come late. */
const WARM_UP_ROUNDS = 3;
const TIMED_ROUNDS = 9;

const cellSchema = Type.Object(
  {
    pattern: Type.String(),
    plan: planSchema,
    /** The function that pools the first table. */
    kernel: Type.String(),
    /** Launches that were recorded, in the order of the cells. */
    launches: Type.Integer({ minimum: 1 }),
    tablesPerLaunch: Type.Integer({ minimum: 1 }),
  },
  { additionalProperties: false },
);
const runSchema = Type.Object(
  { cells: Type.Array(cellSchema), notes: Type.Array(Type.String()) },
  { additionalProperties: false },
);

export type Cell = Static<typeof cellSchema>;
/** What a run recorded. */
type CellRun = Static<typeof runSchema>;

export interface CellOptions {
  readonly backend: CudaBackend;
  readonly tables: readonly EmbeddingTable[];
  readonly workloads: readonly Lookups[];
  readonly variants: readonly VariantName[];
}

/** Runs every cell: warm-up batches, then recorded ones. Appends a line to `file` that says what was recorded. */
export async function runCells(
  { backend, tables, workloads, variants }: CellOptions,
  file: string,
): Promise<void> {
  using timer = new EmbeddingTimer(backend, tables);
  const cells: Cell[] = [];
  for (const { pattern, batches } of workloads) {
    await timer.load(batches);
    for (const plan of characterizedPlans(timer.context, variants)) {
      const { launches, kernel, next } = await warmUp(timer, plan);
      const recorded = batchesFor(launches);
      await backend.profiled(async () => {
        for (let i = 0; i < recorded; i++) await timer.run(plan, next + i);
      });
      cells.push({
        pattern,
        plan,
        kernel: kernelFunction(kernel?.id ?? ''),
        launches: recorded * launches,
        tablesPerLaunch: tables.length / launches,
      });
    }
  }
  const run: CellRun = { cells, notes: timer.notes };
  await appendFile(file, `${JSON.stringify(run)}\n`).catch((cause) => {
    throw fileError(file, cause);
  });
}

/**
 * What the runs of the cells recorded, and how many there were.
 * @throws DeviceError PROFILER_FAILED when there was none, or they differ: then launches cannot be told apart.
 */
export async function readCells(file: string): Promise<CellRun & { readonly runs: number }> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const lines = text.split('\n').filter((line) => line !== '');
  const [first] = lines;
  if (first === undefined) throw new DeviceError('PROFILER_FAILED', 'the profiled program ran no cells');
  if (lines.some((line) => line !== first))
    throw new DeviceError('PROFILER_FAILED', 'the runs of the profiled program differ');
  return { ...Value.Parse(runSchema, JSON.parse(first)), runs: lines.length };
}

/** The same cells by events, in turns as in the benchmark, without a profiler. `onProgress`: told every pattern. */
export async function timeCells(
  { backend, tables, workloads, variants }: CellOptions,
  onProgress: (text: string) => void,
): Promise<{ rows: LaunchRow[]; notes: string[] }> {
  using timer = new EmbeddingTimer(backend, tables);
  const rows: LaunchRow[] = [];
  for (const { pattern, batches } of workloads) {
    onProgress(`timing launches, ${pattern}`);
    await timer.load(batches);
    const cells = characterizedPlans(timer.context, variants).map((plan) => ({
      plan,
      samples: new Samples(),
    }));
    for (let round = 0; round < WARM_UP_ROUNDS + TIMED_ROUNDS; round++) {
      for (const [place, { plan, samples }] of cells.entries()) {
        await takeTurn(timer, plan, round + place, round < WARM_UP_ROUNDS ? new Samples() : samples);
      }
    }
    for (const { plan, samples } of cells) {
      const { bagsUs, batchMs } = samples;
      rows.push({
        pattern,
        variant: planLabel(plan),
        plan,
        launches: bagsUs.length,
        timeUs: median(bagsUs),
        tablesPerLaunch: (tables.length * batchMs.length) / bagsUs.length,
      });
    }
  }
  return { rows, notes: timer.notes };
}

/** As many batches as the benchmark warms up with. `launches`: of one batch; `next`: the batch that follows. */
async function warmUp(timer: EmbeddingTimer, plan: Plan) {
  const { warmup } = turnOn('cuda');
  for (let i = 0; i < warmup - 1; i++) await timer.run(plan, i);
  const last = await timer.run(plan, warmup - 1, true);
  const launches = last.launches.filter(({ kind }) => kind === 'bags').length;
  return { launches, kernel: last.kernel, next: warmup };
}

function batchesFor(launches: number): number {
  return Math.ceil(LEAST_LAUNCHES / launches);
}
