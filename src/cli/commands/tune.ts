import { Command, Option } from 'commander';
import { at } from '../../at.ts';
import type { Backend } from '../../backend/backend.ts';
import { openDevice } from '../../backend/open-backend.ts';
import type { BenchWorkload } from '../../bench/workload.ts';
import { UsageError } from '../../errors.ts';
import { type ModelArchitecture, modelNotes } from '../../model/architecture.ts';
import { DlrmModel } from '../../model/dlrm.ts';
import { checkOutputFile } from '../../output-file.ts';
import { type Plan, planLabel } from '../../plan/plan.ts';
import {
  type PlanTraffic,
  savedPlanFile,
  savedPlans,
  savePlan,
  tunedVersions,
} from '../../plan/saved-plans.ts';
import { EmbeddingTimer } from '../../tuner/embedding-timer.ts';
import { QueuedTimer } from '../../tuner/queued-timer.ts';
import { type Tuned, tunePlan } from '../../tuner/tune.ts';
import { ACCESS_PATTERNS } from '../../workload/access-patterns.ts';
import { checkOutputs } from '../check-outputs.ts';
import { interrupted } from '../interrupt.ts';
import { duration, formatOption, withDevice } from '../options.ts';
import { type Format, notice, printJson, printLine, progress } from '../print.ts';
import { tunedText } from '../tune-text.ts';
import {
  type LookupOptions,
  readWorkloads,
  type ShapeOptions,
  withShape,
  withTrace,
  workloadInputs,
  workloadShape,
} from '../workload-options.ts';

interface Options extends ShapeOptions, Omit<LookupOptions, 'patterns' | 'batch' | 'bagLengths'> {
  readonly device: string;
  readonly threads?: number;
  readonly pattern: string;
  readonly budget: number;
  readonly out?: string;
  readonly format: Format;
}

/** Distinct batches in rotation. */
const BATCHES = 4;

export function tuneCommand(): Command {
  const command = new Command('tune').description(
    'find the fastest plan for a model, its traffic and this device, and save it',
  );
  return withTrace(withShape(withDevice(command), 'quick'))
    .addOption(
      new Option('--pattern <pattern>', 'access pattern to tune for when there is no trace')
        .choices(Object.keys(ACCESS_PATTERNS))
        .default('med_hot'),
    )
    .option('--budget <time>', 'time to spend on measurements: 60s, 2m', duration, 60)
    .option('--out <file>', 'save the plan here, for --plan; default: where --plan auto finds it')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Examples:
  hotrow tune dlrm.pt --trace request.safetensors
  hotrow tune dlrm.pt --trace day_0 --vocabulary vocabulary.json --batch 2048
  hotrow tune dlrm.pt --trace lookups.txt --budget 30s`,
    )
    .action(tune);
}

async function tune(modelFile: string | undefined, options: Options): Promise<void> {
  await checkOutputs([{ option: '--out', file: options.out }], workloadInputs(modelFile, options));
  const shape = { ...(await workloadShape(modelFile, options)), batches: BATCHES };
  const workload = await readWorkload(shape, options);
  const { backend, reason } = openDevice(options);
  using _ = backend;
  const { architecture } = shape;
  for (const note of architecture.notes ?? []) notice(`note: model: ${note}`);
  const { embedding } = workload;
  const traffic: PlanTraffic = {
    distinctShare: embedding.distinctShare,
    batchSize: embedding.batches[0]?.batchSize ?? 0,
  };
  const context = { device: backend.device, tables: architecture.tables };
  const saved = savedPlanFile(context, traffic);
  if (options.out === undefined) await checkOutputFile(saved, { makesFolder: true });
  const { plans: before } = await savedPlans(context, { traffic });
  const tuned = await race(backend, architecture, workload, before.slice(0, 1), options.budget);
  const plan = withProvenance(tuned, backend, embedding.pattern, traffic);
  const file = options.out ?? (tuned.isBetter ? saved : undefined);
  if (file !== undefined) await savePlan(plan, file);
  const { measuresLinear } = backend.device.capabilities;
  if (modelFile !== undefined && measuresLinear) await prepareProducts(backend, architecture, plan, workload);
  progress('');
  const notes = [...modelNotes(architecture), ...workload.notes];
  const kept = tuned.isBetter ? 0 : before.length;
  if (options.format === 'json') printJson({ plan, file: file ?? null, ...asJson(tuned), notes });
  else printLine(tunedText({ tuned, plan, file, notes, kept, device: backend.device, reason }));
}

/** @throws UsageError USAGE for several workloads. */
async function readWorkload(
  shape: Parameters<typeof readWorkloads>[0],
  { pattern, ...options }: Options,
): Promise<BenchWorkload> {
  const draw = await readWorkloads(
    shape,
    options.trace === undefined ? { ...options, patterns: pattern } : options,
  );
  const [workload, ...others] = draw() as [BenchWorkload, ...BenchWorkload[]];
  if (others.length > 0) {
    throw new UsageError('USAGE', `a plan is tuned for one traffic, and --trace names ${1 + others.length}`, {
      hint: 'put requests into one folder, name a trace for each table (ads=ads.txt), or tune for one after the other; the MODEL goes before --trace',
    });
  }
  return workload;
}

async function race(
  backend: Backend,
  { tables }: ModelArchitecture,
  { embedding }: BenchWorkload,
  also: readonly Plan[],
  seconds: number,
): Promise<Tuned> {
  using timer = new EmbeddingTimer(backend, tables, { onProgress: progress, signal: interrupted });
  progress('placing tables');
  await timer.load(embedding.batches);
  return await tunePlan(new QueuedTimer(timer), { seconds, also, onProgress: progress, signal: interrupted });
}

/** One prediction of the whole model: how its matrices are multiplied best is measured, and kept for every load from now on. */
async function prepareProducts(
  backend: Backend,
  architecture: ModelArchitecture,
  plan: Plan,
  { model }: BenchWorkload,
): Promise<void> {
  progress('choosing matrix products');
  await using placed = await DlrmModel.create(backend, architecture, { plan, signal: interrupted });
  await placed.predict(at(model.requests, 0), { signal: interrupted });
}

function withProvenance(
  { plan, search, comparison, isBetter, batchMs }: Tuned,
  { device }: Backend,
  workload: string,
  traffic: PlanTraffic,
): Plan {
  return {
    ...plan,
    tunedOn: {
      device: device.name,
      architecture: device.architecture,
      versions: tunedVersions(device),
      createdAt: new Date().toISOString(),
      workload,
      ...traffic,
      batchMs,
      plainMs: search.plainMs,
      ...(isBetter && comparison !== undefined ? { overHeuristic: comparison.gain } : {}),
    },
  };
}

function asJson({ search, heuristic, comparison, isBetter }: Tuned) {
  const { legal, rejected, measured, finished, seconds } = search;
  return {
    legal,
    rejected,
    finished,
    seconds,
    found: planLabel(search.plan),
    heuristic: planLabel(heuristic),
    isBetter,
    ...(comparison === undefined ? {} : { comparison }),
    measured: measured.map(({ plan, batchMs }) => ({ plan: planLabel(plan), batchMs })),
  };
}
