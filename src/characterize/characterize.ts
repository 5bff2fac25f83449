/** `hotrow characterize`: what limits each kernel variant on a GPU that is here, and where a model's time goes. */
import type { CudaBackend } from '../backend/cuda/cuda-backend.ts';
import { bench } from '../bench/bench.ts';
import type { ModelRow } from '../bench/results.ts';
import type { BenchWorkload, IndexType } from '../bench/workload.ts';
import { type DeviceDescription, recordedDevice } from '../device.ts';
import { AbortError, DeviceError } from '../errors.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import { choosePlan } from '../plan/saved-plans.ts';
import type { OnProgress } from '../progress.ts';
import { version } from '../version.ts';
import type { Budget } from './budget.ts';
import { type Cell, plannedCells } from './cells.ts';
import { countCells } from './counted-cells.ts';
import { describedGpu } from './gpus.ts';
import type { Lookups } from './kept-lookups.ts';
import type { Ncu } from './ncu.ts';
import { CHARACTERIZE_VERSION, type Characterization, type CounterRow, type LaunchRow } from './results.ts';
import { staticReport } from './static-report.ts';
import { tableGroups } from './table-groups.ts';
import { timeCells } from './timed-cells.ts';
import { characterizedPlans, type VariantName } from './variants.ts';

export interface CharacterizeOptions {
  readonly device: DeviceDescription;
  /** Opens the device, where this process itself measures. */
  readonly open: () => CudaBackend;
  /** Undefined: there is none, and launches are timed by events instead. */
  readonly ncu: Ncu | undefined;
  /** The command that calls `runCells` for the same device and tables, with the lookups kept beside this file and with it. */
  readonly cellsCommand: (file: string) => readonly string[];
  readonly architecture: ModelArchitecture;
  readonly workloads: readonly BenchWorkload[];
  readonly variants: readonly VariantName[];
  /** The preset's name, the bag lengths, the seed and the index type of the workloads, for the record. */
  readonly preset: string;
  readonly bagLengths: string;
  readonly seed: number;
  readonly indexType: IndexType;
  /** The command line, for the record. */
  readonly command: string;
  /** Whether the embedding stage is characterized. */
  readonly embedding: boolean;
  /** Timed predictions of the whole model; 0 leaves it out. */
  readonly modelRounds: number;
  readonly budget: Budget;
  readonly onProgress: OnProgress;
}

/**
 * Measures what the budget has time for, what costs least first: times by events, then counters, the compiler's report, and
 * the whole model. What was left out is told in the notes.
 * @throws DeviceError PROFILER_FAILED, and as the backend does.
 */
export async function characterize(options: CharacterizeOptions): Promise<Characterization> {
  const { budget, embedding, ncu } = options;
  const stage = embedding ? await embeddingStage(options) : NOTHING;
  const goesOn = budget.stopped === undefined;
  const report = embedding && goesOn ? await deviceReport(options) : undefined;
  const fixed = report ?? { rows: [], tools: {}, notes: [] };
  const model = options.modelRounds > 0 ? await wholeModel(options) : undefined;
  const left = [
    ...stage.left,
    ...(embedding && report === undefined ? ["the compiler's report"] : []),
    ...(model?.left ?? []),
  ];
  const partial = left.length === 0 ? undefined : (budget.stopped ?? 'out of time');
  return {
    version: CHARACTERIZE_VERSION,
    kind: 'characterize',
    createdAt: new Date().toISOString(),
    command: options.command,
    hotrow: version,
    device: recordedDevice(options.device),
    tools: { ...fixed.tools, ...(ncu === undefined ? {} : { ncu: ncu.version }) },
    static: fixed.rows,
    counters: [...stage.counters],
    ...(stage.launches.length === 0 ? {} : { launches: [...stage.launches] }),
    ...(model === undefined || model.rows.length === 0 ? {} : { model: model.rows }),
    ...(partial === undefined ? {} : { partial }),
    notes: [
      ...new Set([
        ...(partial === undefined ? [] : [`${partial}; left out: ${left.join(', ')}`]),
        ...options.workloads.flatMap(({ notes }) => notes),
        ...stage.notes,
        ...fixed.notes,
        ...(model?.notes ?? []),
      ]),
    ],
  };
}

interface Measured {
  readonly counters: readonly CounterRow[];
  /** Where there are no counters. */
  readonly launches: readonly LaunchRow[];
  /** What there was no time for. */
  readonly left: readonly string[];
  readonly notes: readonly string[];
}

const NOTHING: Measured = { counters: [], launches: [], left: [], notes: [] };

const NO_NCU =
  "no counters: Nsight Compute (ncu) was not found on the PATH, in the CUDA toolkit or in /opt/nvidia/nsight-compute; install NVIDIA's package nsight-compute. Launches were timed by events instead";
const NOT_ALLOWED =
  'no counters: the driver lets only administrators read them (ERR_NVGPUCTRPERM); run as root, or in a container with --cap-add SYS_ADMIN, or load the driver with NVreg_RestrictProfilingToAdminUsers=0. Launches were timed by events instead';

async function embeddingStage(options: CharacterizeOptions): Promise<Measured> {
  const { device, variants, ncu, budget } = options;
  const { tables } = options.architecture;
  const workloads = options.workloads.map(({ embedding }) => embedding);
  const groups = tableGroups(tables, workloads);
  const patterns = workloads.map(({ pattern }) => pattern);
  const cells = plannedCells({ device, tables }, patterns, groups, variants);
  const timed = await timedCells(cells, workloads, options);
  const untimed = patterns.filter((pattern) => !timed.rows.some((row) => row.pattern === pattern));
  const left = untimed.length === 0 ? [] : [`launches on ${untimed.join(', ')}`];
  const without = (note: string): Measured => ({
    counters: [],
    launches: timed.rows,
    left,
    notes: [note, ...timed.notes],
  });
  if (ncu === undefined) return without(NO_NCU);
  const counted = await countedCells(ncu, cells, workloads, options);
  if (counted === 'refused') return without(NOT_ALLOWED);
  const uncounted = cells.length - counted.cells;
  if (uncounted > 0)
    left.push(`counters of ${uncounted} of ${cells.length} kernels${budget.signal.aborted ? '' : MORE_TIME}`);
  return {
    counters: counted.rows.map((row) => ({ ...row, ...pairOf(row, timed.rows) })),
    launches: timed.rows.filter((row) => !counted.rows.some((other) => isSameCell(row, other))),
    left,
    notes: [...counted.notes, ...timed.notes],
  };
}

const MORE_TIME = ' (a longer --budget has time for more)';

/** The device is closed again: the profiled program needs its memory. */
async function timedCells(
  cells: readonly Cell[],
  workloads: readonly Lookups[],
  options: CharacterizeOptions,
) {
  using backend = options.open();
  const { tables } = options.architecture;
  return await timeCells({ backend, tables, workloads }, cells, options.budget, options.onProgress);
}

function countedCells(
  ncu: Ncu,
  cells: readonly Cell[],
  workloads: readonly Lookups[],
  { device, cellsCommand: command, architecture, budget, onProgress }: CharacterizeOptions,
) {
  const { tables } = architecture;
  return countCells({
    ...{ ncu, cells, workloads, command, budget, onProgress },
    tables: tables.length,
    architecture: device.architecture,
  });
}

type CellRow = Pick<LaunchRow, 'pattern' | 'variant' | 'group'>;

function isSameCell(a: CellRow, b: CellRow): boolean {
  return a.pattern === b.pattern && a.variant === b.variant && a.group?.measured === b.group?.measured;
}

/** What a pair of events says of a cell. */
function pairOf(row: CounterRow, rows: readonly LaunchRow[]): Pick<CounterRow, 'pairUs'> {
  const own = rows.find((other) => isSameCell(row, other));
  return own === undefined ? {} : { pairUs: own.timeUs };
}

/**
 * What the compiler says of the characterized plans' kernels; without a compiler, or for a GPU too new, a note. Undefined: it was
 * interrupted.
 */
async function deviceReport({ device, architecture, variants, budget, onProgress }: CharacterizeOptions) {
  const { tables } = architecture;
  try {
    return await staticReport({
      tables,
      gpus: [describedGpu(device)],
      plans: (context) => characterizedPlans(context, variants),
      onProgress,
      signal: budget.signal,
    });
  } catch (error) {
    if (error instanceof AbortError) return undefined;
    if (!(error instanceof DeviceError || error instanceof RangeError)) throw error;
    const what = error instanceof DeviceError ? `${error.message}; ${error.hint}` : error.message;
    return { rows: [], tools: {}, notes: [`no compiler report: ${what}`] };
  }
}

/** Under the plain kernel and under the plan that runs by default, pattern by pattern. */
async function wholeModel(options: CharacterizeOptions) {
  const { architecture, workloads, preset, command, bagLengths, seed, indexType, modelRounds } = options;
  const { budget, onProgress, device } = options;
  const left = (rows: readonly ModelRow[]) => {
    const untimed = workloads.filter(({ pattern }) => !rows.some((row) => row.pattern === pattern));
    return untimed.length === 0
      ? []
      : [`the whole model on ${untimed.map(({ pattern }) => pattern).join(', ')}`];
  };
  if (budget.stopped !== undefined) return { rows: [], left: left([]), notes: [] };
  using backend = options.open();
  const { plan } = await choosePlan(undefined, { device, tables: architecture.tables });
  const { model, notes, protocol } = await bench({
    ...{ backend, architecture, workloads, preset, command, bagLengths, seed, indexType, modelRounds, plan },
    embeddingRounds: 0,
    sweeps: [],
    peers: false,
    stop: () => budget.stopped !== undefined,
    onProgress,
  });
  return { rows: model, left: left(model), notes: [protocol, ...notes] };
}
