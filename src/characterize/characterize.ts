/** `hotrow characterize`: what limits each kernel variant on a GPU that is here, and where a model's time goes. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CudaBackend } from '../backend/cuda/cuda-backend.ts';
import { bench } from '../bench/bench.ts';
import type { BenchWorkload, IndexType } from '../bench/workload.ts';
import type { DeviceDescription } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import { version } from '../version.ts';
import { readCells, timeCells } from './cells.ts';
import { counterRows } from './counters.ts';
import { describedGpu } from './gpus.ts';
import { keepLookups, type Lookups } from './kept-lookups.ts';
import { extraMetrics } from './metrics.ts';
import { type Ncu, profile } from './ncu.ts';
import { CHARACTERIZE_VERSION, type Characterization, type CounterRow, type LaunchRow } from './results.ts';
import { staticReport } from './static-report.ts';
import { characterizedPlans, type VariantName } from './variants.ts';

export interface CharacterizeOptions {
  readonly device: DeviceDescription;
  /** Opens the device, where this process itself measures. */
  readonly open: () => CudaBackend;
  /** Undefined: there is none, and launches are timed by events instead. */
  readonly ncu: Ncu | undefined;
  /** The command that calls `runCells` for the same device and tables, with the lookups kept beside this file and with it. */
  readonly cellsCommand: (file: string) => readonly string[];
  readonly architecture: DlrmArchitecture;
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
  readonly onProgress: (text: string) => void;
}

/** @throws DeviceError PROFILER_FAILED, and as the backend does. */
export async function characterize(options: CharacterizeOptions): Promise<Characterization> {
  const stage = options.embedding ? await embeddingStage(options) : NOTHING;
  const fixed = options.embedding ? await deviceReport(options) : { rows: [], tools: {}, notes: [] };
  const model = options.modelRounds > 0 ? await wholeModel(options) : undefined;
  return {
    version: CHARACTERIZE_VERSION,
    kind: 'characterize',
    createdAt: new Date().toISOString(),
    command: options.command,
    hotrow: version,
    device: options.device,
    tools: { ...fixed.tools, ...(options.ncu === undefined ? {} : { ncu: options.ncu.version }) },
    static: fixed.rows,
    counters: [...stage.counters],
    ...(stage.launches.length === 0 ? {} : { launches: [...stage.launches] }),
    ...(model === undefined ? {} : { model: model.rows }),
    notes: [
      ...new Set([
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
  readonly notes: readonly string[];
}

const NOTHING: Measured = { counters: [], launches: [], notes: [] };

const NO_NCU =
  "no counters: Nsight Compute (ncu) was not found on the PATH, in the CUDA toolkit or in /opt/nvidia/nsight-compute; install NVIDIA's package nsight-compute. Launches were timed by events instead";
const NOT_ALLOWED =
  'no counters: the driver lets only administrators read them (ERR_NVGPUCTRPERM); run as root, or in a container with --cap-add SYS_ADMIN, or load the driver with NVreg_RestrictProfilingToAdminUsers=0. Launches were timed by events instead';

async function embeddingStage(options: CharacterizeOptions): Promise<Measured> {
  const { ncu } = options;
  const workloads = options.workloads.map(({ embedding }) => embedding);
  const counted = ncu === undefined ? NO_NCU : await countCells(ncu, workloads, options);
  using backend = options.open();
  const { variants } = options;
  const { tables } = options.architecture;
  const { rows, notes } = await timeCells({ backend, tables, workloads, variants }, options.onProgress);
  if (typeof counted === 'string') return { counters: [], launches: rows, notes: [counted, ...notes] };
  return { ...counted, counters: counted.counters.map((row) => ({ ...row, ...pairOf(row, rows) })) };
}

/** What a pair of events says of a cell. */
function pairOf({ pattern, variant }: CounterRow, rows: readonly LaunchRow[]): Pick<CounterRow, 'pairUs'> {
  const own = rows.find((row) => row.pattern === pattern && row.variant === variant);
  return own === undefined ? {} : { pairUs: own.timeUs };
}

/** Why there are no counters, in place of them. */
async function countCells(
  ncu: Ncu,
  workloads: readonly Lookups[],
  { device, cellsCommand, onProgress }: CharacterizeOptions,
): Promise<Measured | typeof NOT_ALLOWED> {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-ncu-'));
  try {
    onProgress(`reading counters, ${workloads.map(({ pattern }) => pattern).join(', ')}`);
    const began = performance.now();
    const file = join(folder, 'cells.jsonl');
    await keepLookups(folder, workloads);
    const launches = await profile(ncu, cellsCommand(file), extraMetrics(device.architecture), folder);
    if (launches === 'refused') return NOT_ALLOWED;
    const { cells, notes, runs } = await readCells(file);
    const seconds = (performance.now() - began) / 1e3;
    const protocol = `counters: ${launches.length} launches, a counter pass each in ${runs} runs of the same program (${seconds.toFixed(0)} s); every plan runs the benchmark's warm-up, batches in rotation, before its launches are recorded; caches and clocks as they are in use; means over the launches`;
    return { counters: counterRows(cells, launches), launches: [], notes: [protocol, ...notes] };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What the compiler says of the characterized plans' kernels; without a compiler, or for a GPU too new, a note. */
async function deviceReport({ device, architecture, variants, onProgress }: CharacterizeOptions) {
  const { tables } = architecture;
  try {
    return await staticReport({
      tables,
      gpus: [describedGpu(device)],
      plans: (context) => characterizedPlans(context, variants),
      onProgress,
    });
  } catch (error) {
    if (!(error instanceof DeviceError || error instanceof RangeError)) throw error;
    const what = error instanceof DeviceError ? `${error.message}; ${error.hint}` : error.message;
    return { rows: [], tools: {}, notes: [`no compiler report: ${what}`] };
  }
}

async function wholeModel(options: CharacterizeOptions) {
  using backend = options.open();
  const { architecture, workloads, preset, command, bagLengths, seed, indexType, modelRounds, onProgress } =
    options;
  const { model, notes, protocol } = await bench({
    ...{ backend, architecture, workloads, preset, command, bagLengths, seed, indexType, modelRounds },
    embeddingRounds: 0,
    sweeps: [],
    peers: false,
    onProgress,
  });
  return { rows: model, notes: [protocol, ...notes] };
}
