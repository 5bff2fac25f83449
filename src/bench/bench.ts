/** `hotrow bench`: the embedding stage under every technique, then the whole model, on one device. */
import { freemem } from 'node:os';
import type { Backend, Ceilings } from '../backend/backend.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { rowBytes } from '../embedding/bag.ts';
import { type Plan, plainPlan, withTechniques } from '../embedding/plan.ts';
import type { PlanContext } from '../embedding/techniques/technique.ts';
import { ModelError } from '../errors.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import { version } from '../version.ts';
import {
  combinedPlans,
  EmbeddingBench,
  familyPlans,
  singleTechniquePlans,
  sweepVariants,
  turnOn,
} from './embedding-bench.ts';
import { measureModel, WARM_UP } from './model-bench.ts';
import { Peers, peersOn } from './peers.ts';
import { measurePytorchModel } from './pytorch-model.ts';
import type { BenchResults, EmbeddingRow, ModelRow } from './results.ts';
import { RESULTS_VERSION } from './results.ts';
import { type BenchWorkload, type IndexType, MOST_DRAWN } from './workload.ts';

export interface BenchOptions {
  readonly backend: Backend;
  readonly architecture: DlrmArchitecture;
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
  /** A plan to compare besides the standard set. */
  readonly plan?: Plan;
  /** Techniques to run over their whole range. */
  readonly sweeps: readonly string[];
  /** Measure other libraries in the same run. */
  readonly peers: boolean;
  readonly onProgress?: (text: string) => void;
}

/** Runs the benchmark. @throws ModelError MODEL_TOO_LARGE before any work when the tables do not fit in memory. */
export async function bench(options: BenchOptions): Promise<BenchResults> {
  const { backend, architecture, workloads } = options;
  const progress = options.onProgress ?? (() => {});
  if (backend.device.kind === 'cpu') checkHostMemory(architecture.tables, options);
  const notes: string[] = [];

  progress('measuring the ceilings');
  const ceilings = await backend.measureCeilings();
  const embedding =
    options.embeddingRounds > 0 ? await embeddingStage(options, ceilings, notes, progress) : [];
  const model =
    options.modelRounds > 0 ? await wholeModel(options, bestPlans(embedding), ceilings, notes, progress) : [];

  return {
    version: RESULTS_VERSION,
    kind: 'bench',
    createdAt: new Date().toISOString(),
    command: options.command,
    hotrow: version,
    device: backend.device,
    preset: options.preset,
    collection: architecture.tables.map(({ name, rows, dim, rowFormat, mode }) => ({
      name,
      rows,
      dim,
      rowFormat,
      mode,
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
    protocol: protocol(workloads, options),
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
    model,
    // What keeps a peer from one stage may keep it from the other.
    notes: [...new Set(notes)],
  };
}

async function embeddingStage(
  { backend, architecture, workloads, indexType, embeddingRounds, plan, sweeps, peers: wanted }: BenchOptions,
  ceilings: Ceilings,
  notes: string[],
  progress: (text: string) => void,
): Promise<EmbeddingRow[]> {
  const { tables } = architecture;
  const kinds = wanted ? peersOn(backend.device.kind) : [];
  await using peers = await Peers.start(kinds, backend.device, { tables, indexType }, notes);
  using embeddingBench = new EmbeddingBench(backend, tables);
  const { context } = embeddingBench;
  const plans = [
    ...singleTechniquePlans(context),
    ...combinedPlans(context),
    ...familyPlans(context),
    ...(plan === undefined ? [] : [plan]),
  ];
  const variants = [
    ...plans.map((compared) => ({ plan: compared })),
    ...sweeps.flatMap((name) =>
      sweepBases(name, context).flatMap((base) => sweepVariants(name, base, context)),
    ),
  ];
  const rows: EmbeddingRow[] = [];
  for (const [i, workload] of workloads.entries()) {
    progress(`embedding stage, ${workload.pattern} (${i + 1} of ${workloads.length})`);
    rows.push(
      ...(await embeddingBench.measure(workload.embedding, variants, embeddingRounds, ceilings, peers)),
    );
  }
  notes.push(...embeddingBench.notes);
  return rows;
}

/** What a sweep stands on: the plain kernel, and for what needs registers or a shorter latency, register prefetch. */
function sweepBases(name: string, context: PlanContext): Plan[] {
  const plain = plainPlan(context.device.kind);
  if (context.device.kind !== 'cuda' || name === 'prefetch') return [plain];
  return [plain, withTechniques(plain, { prefetch: { into: 'registers', distance: 6 } })];
}

/** The best plan found on each pattern. */
function bestPlans(rows: readonly EmbeddingRow[]): Map<string, Plan> {
  return new Map(
    rows.flatMap(({ pattern, best, plan }) => (best && plan !== undefined ? [[pattern, plan as Plan]] : [])),
  );
}

/**
 * The whole model with the plain kernel, with one tuned plan (the one that was best on most patterns, else the saved or
 * the heuristic one), and on PyTorch.
 */
async function wholeModel(
  { backend, architecture, workloads, modelRounds, plan, peers }: BenchOptions,
  best: ReadonlyMap<string, Plan>,
  ceilings: Ceilings,
  notes: string[],
  progress: (text: string) => void,
): Promise<ModelRow[]> {
  const models = workloads.map((workload) => workload.model);
  const measure = (measured: Plan | undefined, what: string) => {
    progress(`whole model, ${what}`);
    return measureModel({
      backend,
      architecture,
      plan: measured,
      workloads: models,
      rounds: modelRounds,
      ceilings,
    });
  };
  const plainRows = await measure(plainPlan(backend.device.kind), 'plain kernel');
  const tunedRows = await measure(plan ?? mostFrequent([...best.values()]), 'tuned plan');
  progress('whole model, PyTorch');
  const peerRows = peers
    ? await measurePytorchModel({ backend, architecture, workloads: models, rounds: modelRounds }, notes)
    : [];
  const key = ({ pattern, inputs }: Pick<ModelRow, 'pattern' | 'inputs'>) => `${pattern} ${inputs}`;
  const baseline = new Map(plainRows.map((row) => [key(row), row.batchMs ?? row.timing.medianMs]));
  return [...plainRows, ...tunedRows, ...peerRows].map((row) => ({
    ...row,
    speedup: (baseline.get(key(row)) as number) / (row.batchMs ?? row.timing.medianMs),
  }));
}

function mostFrequent(plans: readonly Plan[]): Plan | undefined {
  const counts = new Map<string, { plan: Plan; count: number }>();
  for (const plan of plans) {
    const key = JSON.stringify(plan.techniques);
    counts.set(key, { plan, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count)[0]?.plan;
}

/** Two placements of the tables stand side by side, so that variants run in turns. */
function checkHostMemory(tables: readonly EmbeddingTable[], { embeddingRounds, peers }: BenchOptions): void {
  const bytes = tables.reduce((sum, table) => sum + table.rows * rowBytes(table), 0);
  const beside = peers ? peersOn('cpu').length : 0;
  const needed = embeddingRounds > 0 ? bytes * (2 + beside) : bytes;
  const available = freemem();
  if (needed <= available) return;
  const gib = (count: number) => (count / 2 ** 30).toFixed(1);
  throw new ModelError(
    'MODEL_TOO_LARGE',
    `the tables need ${gib(needed)} GiB for this comparison, ${gib(available)} GiB are free`,
    {
      hint: `pass --tables ${Math.max(1, Math.floor((tables.length * available) / needed))} or fewer, or --no-peers`,
    },
  );
}

function protocol(
  workloads: readonly BenchWorkload[],
  { backend, architecture, embeddingRounds, modelRounds, peers }: BenchOptions,
): string {
  const batches = workloads[0]?.embedding.batches.length ?? 0;
  const { warmup, timed } = turnOn(backend.device.kind);
  const turn =
    warmup === 0
      ? `in each round every variant runs one batch in turn, out of ${batches} batches in rotation`
      : `in each round every variant runs ${warmup + timed} batches in turn, of which ${warmup} warm up, out of ${batches} batches in rotation`;
  return [
    `embedding: ${embeddingRounds} rounds; ${turn}`,
    ...(backend.device.kind === 'cuda'
      ? [
          'tables are launched one by one; µs per table: a pair of events around each launch; ms per batch: the same launches back to back, one pair of events around checks, pinning and all',
        ]
      : []),
    ...(peers && embeddingRounds > 0
      ? [
          'peers: the same batches in turns with the plans, in processes of their own, indices unchecked; of a launch that serves all tables, each has an equal share',
        ]
      : []),
    `best found: coordinate search over the techniques' candidates, the fastest of 5 runs each, then timed among the others`,
    ...(architecture.tables.length > MOST_DRAWN
      ? [
          `patterns are drawn for ${MOST_DRAWN} tables; of equal tables beyond them, each has the lookups of one of those in its own rows`,
        ]
      : []),
    `model: ${modelRounds} predictions after ${WARM_UP[backend.device.kind]} to warm up, one after the other, for the latency; on GPUs as many with several in flight for the throughput; half as many, timed stage by stage, for the stages`,
    'medians with the 10th and 90th percentile; index checking counted in; ratios within this run only',
  ].join('. ');
}
