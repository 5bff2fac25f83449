/** `hotrow bench`: the embedding stage under every technique, then the whole model, on one device. */
import { freemem } from 'node:os';
import { at } from '../at.ts';
import type { Backend, Ceilings } from '../backend/backend.ts';
import { throwIfAborted } from '../checks/abort.ts';
import { type DensePrecision, precisionOn, recordedDevice } from '../device.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { rowBytes } from '../embedding/bag.ts';
import { distinctTables, sharesTables, tableNumbers } from '../embedding/shared-tables.ts';
import { ModelError } from '../errors.ts';
import { type ModelArchitecture, modelNotes } from '../model/architecture.ts';
import {
  checkPlan,
  KERNEL_FAMILIES,
  type Plan,
  type PlanChoice,
  plainPlan,
  withTechniques,
} from '../plan/plan.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';
import type { OnProgress } from '../progress.ts';
import { version } from '../version.ts';
import { artifactPlans } from './artifact-plans.ts';
import { type CompareModelOptions, compareModel } from './compare-model.ts';
import { isArtifact } from './comparison.ts';
import { CoreWaits } from './core-waits.ts';
import {
  combinedPlans,
  EmbeddingBench,
  familyPlans,
  singleTechniquePlans,
  sweepVariants,
  turnOn,
} from './embedding-bench.ts';
import { Peers, peersOn } from './peers.ts';
import { RACE_SECONDS, racedTables } from './race.ts';
import type { BenchResults, EmbeddingRow } from './results.ts';
import { RESULTS_VERSION } from './results.ts';
import { type BenchWorkload, type IndexType, MOST_DRAWN } from './workload.ts';

export interface BenchOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  /** The preset's name, for the record. */
  readonly preset: string;
  /** The command line, for the record. */
  readonly command: string;
  readonly workloads: readonly BenchWorkload[];
  readonly bagLengths: string;
  readonly seed: number;
  /** Of the workloads' indices and offsets. */
  readonly indexType: IndexType;
  /** Timed rounds of the embedding stage per variant, and predictions of the whole model; 0 leaves a part out. */
  readonly embeddingRounds: number;
  readonly modelRounds: number;
  /** A plan to compare besides the standard set, and in place of the tuned ones under the whole model. */
  readonly plan?: PlanChoice;
  /** How the whole model's dense layers multiply; default: the device's. */
  readonly precision?: DensePrecision;
  /** By the paper's protocol: compared with the kernel that the paper measured, where the device has it. */
  readonly paper?: boolean;
  /** The whole model, where it has other tables than the embedding stage; default: the same. */
  readonly whole?: { readonly architecture: ModelArchitecture; readonly workloads: readonly BenchWorkload[] };
  /** Techniques to run over their whole range. */
  readonly sweeps: readonly string[];
  /** Measure other libraries in the same run. */
  readonly peers: boolean;
  readonly onProgress?: OnProgress;
  /** Gives the benchmark up, between measurements: peers are ended, and memory and temporary files are given back. */
  readonly signal?: AbortSignal;
  /** Asked before each pattern of the whole model but the first; true leaves the others out. Default: all are measured. */
  readonly stop?: () => boolean;
}

/**
 * Runs the benchmark.
 * @throws before any work ModelError MODEL_TOO_LARGE when the tables do not fit in memory, PlanError PLAN_ILLEGAL, DeviceError
 *   DEVICE_UNAVAILABLE for a precision that the device does not have; later AbortError, once `signal` is aborted.
 */
export async function bench(options: BenchOptions): Promise<BenchResults> {
  const { backend, architecture, workloads, plan, signal } = options;
  throwIfAborted(signal, 'the benchmark');
  const precision = precisionOn(backend.device, options.precision);
  const progress = options.onProgress ?? (() => {});
  const given = plan === 'plain' ? plainPlan(backend.device.kind) : plan;
  if (given !== undefined) checkPlan(given, { device: backend.device, tables: architecture.tables });
  if (!backend.device.capabilities.hasOwnMemory) checkHostMemory(architecture.tables, options);
  const notes = [...modelNotes(architecture), ...workloads.flatMap((workload) => workload.notes)];

  const waits = new CoreWaits();
  progress('measuring the ceilings');
  throwIfAborted(signal, 'the benchmark');
  const ceilings = await backend.measureCeilings();
  const embedding =
    options.embeddingRounds > 0 ? await embeddingStage(options, ceilings, notes, progress) : [];
  const whole =
    options.modelRounds > 0
      ? await compareModel({
          ...{ backend, architecture, workloads, ...options.whole },
          ...{ precision, ceilings, given, notes, progress, signal },
          rounds: options.modelRounds,
          best: bestPlans(embedding),
          ...paperModel(options, embedding),
          peers: options.peers,
          stop: options.stop ?? (() => false),
        })
      : { rows: [], protocol: [] };
  const busy = waits.note();

  return {
    version: RESULTS_VERSION,
    kind: 'bench',
    createdAt: new Date().toISOString(),
    command: options.command,
    hotrow: version,
    device: recordedDevice(backend.device),
    preset: options.preset,
    collection: architecture.tables.map(({ name, rows, dim, rowFormat, mode }, t) => ({
      name,
      rows,
      dim,
      rowFormat,
      mode,
      ...(sharesTables(architecture.tables) ? { table: at(tableNumbers(architecture.tables), t) } : {}),
    })),
    workload: {
      bagLengths: options.bagLengths,
      indexType: options.indexType,
      seed: options.seed,
      indexChecking: 'error',
    },
    hotness: workloads.map(({ pattern, hotness }) => ({
      pattern,
      points: hotness.map(({ k, share }): [number, number] => [k, share]),
    })),
    protocol: [...protocol(options), ...whole.protocol, ALWAYS].join('. '),
    ceilings: {
      readGigabytesPerSecond: ceilings.readBytesPerSecond / 1e9,
      ...(ceilings.cacheReadBytesPerSecond === undefined
        ? {}
        : { cacheReadGigabytesPerSecond: ceilings.cacheReadBytesPerSecond / 1e9 }),
      ...(ceilings.hostCopyBytesPerSecond === undefined
        ? {}
        : { hostCopyGigabytesPerSecond: ceilings.hostCopyBytesPerSecond / 1e9 }),
      multiplyAddsPerSecond: ceilings.multiplyAddsPerSecond,
    },
    embedding,
    model: whole.rows,
    // What keeps a peer from one stage may keep it from the other.
    notes: [...new Set(busy === undefined ? notes : [busy, ...notes])],
  };
}

async function embeddingStage(
  options: BenchOptions,
  ceilings: Ceilings,
  notes: string[],
  progress: OnProgress,
): Promise<EmbeddingRow[]> {
  const { backend, workloads, indexType, embeddingRounds, plan, sweeps, signal } = options;
  const { tables } = options.architecture;
  const kinds = options.peers ? peersOn(backend.device.kind) : [];
  await using peers = await Peers.start(kinds, backend.device, { tables, indexType }, notes, signal);
  using embeddingBench = new EmbeddingBench(backend, tables, progress, signal);
  const { context } = embeddingBench;
  const artifact = options.paper === true ? artifactPlans(context) : [];
  if (options.paper === true && artifact.length === 0) notes.push(claimsAreOfGpus(backend, tables.length));
  const plans = [
    ...(artifact.length > 0
      ? [...artifact, plainPlan(backend.device.kind)]
      : [...singleTechniquePlans(context), ...combinedPlans(context)]),
    ...familyPlans(context),
    ...(plan === undefined || plan === 'plain' ? [] : [plan]),
  ];
  const variants = [
    ...plans.map((compared) => ({ plan: compared })),
    ...sweeps.flatMap((name) =>
      sweepBases(name, context).flatMap((base) => sweepVariants(name, base, context)),
    ),
  ];
  const rows: EmbeddingRow[] = [];
  for (const { embedding } of workloads)
    rows.push(...(await embeddingBench.measure(embedding, variants, embeddingRounds, ceilings, peers)));
  notes.push(...embeddingBench.notes);
  return rows;
}

/** What a sweep stands on: the plain kernel, and for what needs registers or a shorter latency, register prefetch. */
function sweepBases(name: string, context: PlanContext): Plan[] {
  const plain = plainPlan(context.device.kind);
  if (plain.device !== 'cuda' || name === 'prefetch') return [plain];
  return [plain, withTechniques(plain, { prefetch: { into: 'registers', distance: 6 } })];
}

function claimsAreOfGpus({ device }: Backend, tables: number): string {
  return `the paper's claims are about GPUs: on ${device.id} its protocol runs with the kernel and the techniques that there are, on ${tables} tables (--tables N: on N)`;
}

/** What compareModel is told by the paper's protocol: the fastest plans of the paper's kernel, whole batches counted. */
function paperModel(
  { paper, backend }: BenchOptions,
  embedding: readonly EmbeddingRow[],
): Pick<CompareModelOptions, 'paper' | 'inputs'> {
  if (paper !== true || !KERNEL_FAMILIES[backend.device.kind].some((kernel) => kernel === 'artifact'))
    return {};
  const fastest = new Map<string, EmbeddingRow>();
  for (const row of embedding.filter((own) => isArtifact(own) && own.sweep === undefined)) {
    const known = fastest.get(row.pattern);
    if (known === undefined || row.timing.medianMs < known.timing.medianMs) fastest.set(row.pattern, row);
  }
  return {
    paper: new Map([...fastest].map(([pattern, { plan }]) => [pattern, plan as Plan])),
    inputs: ['device'],
  };
}

/** The best plan found on each pattern. */
function bestPlans(rows: readonly EmbeddingRow[]): Map<string, Plan> {
  return new Map(
    rows.flatMap(({ pattern, best, plan }) => (best && plan !== undefined ? [[pattern, plan as Plan]] : [])),
  );
}

/** Two placements of the tables stand side by side where plans run in turns, of those that race too. */
function checkHostMemory(
  tables: readonly EmbeddingTable[],
  { embeddingRounds, peers, plan }: BenchOptions,
): void {
  const bytesOf = (some: readonly EmbeddingTable[]) =>
    distinctTables(some).reduce((sum, table) => sum + table.rows * rowBytes(table), 0);
  const bytes = bytesOf(tables);
  const beside = peers ? peersOn('cpu').length : 0;
  const raced = plan === undefined ? racedTables(tables).map((t) => at(tables, t)) : [];
  const needed = embeddingRounds > 0 ? bytes * (2 + beside) : Math.max(bytes, 2 * bytesOf(raced));
  const available = freemem();
  if (needed <= available) return;
  const gib = (count: number) => (count / 2 ** 30).toFixed(1);
  const count = Math.max(1, Math.floor((tables.length * available) / needed));
  throw new ModelError(
    'MODEL_TOO_LARGE',
    `the tables need ${gib(needed)} GiB for this comparison, ${gib(available)} GiB are free`,
    { hint: `pass --tables ${count} or fewer, or ${embeddingRounds > 0 ? '--no-peers' : '--plan plain'}` },
  );
}

/** How the embedding stage was timed. */
function protocol({
  workloads,
  backend,
  architecture,
  embeddingRounds,
  peers,
  paper,
}: BenchOptions): string[] {
  const drawn =
    architecture.tables.length > MOST_DRAWN
      ? [
          `patterns are drawn for ${MOST_DRAWN} tables; of equal tables beyond them, each has the lookups of one of those in its own rows`,
        ]
      : [];
  if (embeddingRounds === 0) return drawn;
  const batches = workloads[0]?.embedding.batches.length ?? 0;
  const { warmup, timed } = turnOn(backend.device);
  const turn =
    warmup === 0
      ? `in each round every variant runs one batch in turn, out of ${batches} batches in rotation`
      : `in each round every variant runs ${warmup + timed} batches in turn, of which ${warmup} warm up, out of ${batches} batches in rotation`;
  return [
    ...drawn,
    `embedding: ${embeddingRounds} rounds; ${turn}`,
    ...(backend.device.capabilities.launchesTableByTable
      ? [
          'tables are launched one by one; µs per table: a pair of events around each launch; ms per batch: the same launches back to back, one pair of events around checks, pinning and all',
        ]
      : []),
    ...(paper === true
      ? [
          "compared with the kernel that the paper measured, where the device has it: speedups are over that kernel without a technique; each combination of the paper's techniques ran in several settings, of which the fastest on a pattern is told",
        ]
      : []),
    ...(peers
      ? [
          'peers: the same batches in turns with the plans, in processes of their own, indices unchecked; of a launch that serves all tables, each has an equal share',
        ]
      : []),
    `best found: the legal plans raced for at most ${RACE_SECONDS} s, compiling left out, then the winner was timed among the others`,
  ];
}

const ALWAYS =
  'medians with the 10th and 90th percentile; index checking counted in; ratios within this run only';
