/**
 * The whole model's part of the benchmark: under the plain kernel; under the plan that was given, or else under the plan
 * tuned for each pattern; and in PyTorch.
 */
import type { Backend, Ceilings } from '../backend/backend.ts';
import type { DensePrecision } from '../device.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import { type Plan, plainPlan, planLabel } from '../plan/plan.ts';
import type { OnProgress } from '../progress.ts';
import type { SearchResult } from '../tuner/search.ts';
import { ARTIFACT_PLAN } from './artifact-plans.ts';
import { type ModelRole, unique } from './comparison.ts';
import { eightBitModel } from './eight-bit-model.ts';
import { type Inputs, type MeasuredModelRow, measureModel, warmUpOn } from './measure-model.ts';
import { measurePytorchModel } from './pytorch-model.ts';
import { RACE_SECONDS, racedTables, racePatterns } from './race.ts';
import type { ModelRow } from './results.ts';
import type { BenchWorkload, ModelWorkload } from './workload.ts';

export interface CompareModelOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  readonly workloads: readonly BenchWorkload[];
  /** How dense layers multiply. */
  readonly precision: DensePrecision;
  /** Timed predictions. */
  readonly rounds: number;
  readonly ceilings: Ceilings;
  /** Compared on every pattern, in place of a tuned one. */
  readonly given: Plan | undefined;
  /** Plans found best in this run, by pattern; none: plans race first, unless one is given. */
  readonly best: ReadonlyMap<string, Plan>;
  /** The plans of the paper's kernel found best, by pattern: they and that kernel bare are compared in place of the plain one. */
  readonly paper?: ReadonlyMap<string, Plan>;
  /** Places of the inputs; default: all that the device knows. */
  readonly inputs?: readonly Inputs[];
  /** Measure PyTorch in the same run. */
  readonly peers: boolean;
  /** Gets what was not run and why, what a placement brought about. */
  readonly notes: string[];
  readonly progress: OnProgress;
  /** As BenchOptions has it. */
  readonly stop: () => boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface ModelComparison {
  /** Role by role, patterns in the workloads' order. */
  readonly rows: ModelRow[];
  /** How times were taken, and where the plans come from. */
  readonly protocol: string[];
}

/** Times the whole model; each distinct plan places it once. @throws AbortError. */
export async function compareModel(options: CompareModelOptions): Promise<ModelComparison> {
  const { backend, architecture, workloads, precision, rounds, peers, notes, progress, signal } = options;
  const { plans, protocol } = await comparedPlans(options);
  const models = workloads.map(({ model }) => model);
  const measured = await eightBitModel(architecture, models, options);
  const ownRows = await measureRuns(plans, { ...options, architecture: measured.architecture });
  progress('whole model, PyTorch');
  const peerRows = peers
    ? await measurePytorchModel(
        { backend, architecture, precision, workloads: models, rounds, signal },
        notes,
      )
    : [];
  return {
    rows: withSpeedups([...ownRows, ...peerRows]),
    protocol: [
      ...protocol,
      ...(measured.scales === undefined ? [] : [`${precision}: ${measured.scales}`]),
      `model: ${rounds} predictions after ${warmUpOn(backend.device)} to warm up, one after the other, for the latency; on GPUs as many with several in flight for the throughput; half as many, timed stage by stage, for the stages`,
    ],
  };
}

/** A plan with its role on one pattern. */
interface Run {
  readonly role: ModelRole;
  readonly plan: Plan;
  readonly workload: ModelWorkload;
}

interface ComparedPlans {
  /** In the order of the rows. */
  readonly plans: readonly Run[];
  /** Where they come from. */
  readonly protocol: readonly string[];
}

async function comparedPlans(options: CompareModelOptions): Promise<ComparedPlans> {
  const { backend, workloads, given, paper } = options;
  const plain = plainPlan(backend.device.kind);
  const runs = (role: ModelRole, planOn: (pattern: string) => Plan) =>
    workloads.map(({ pattern, model }): Run => ({ role, plan: planOn(pattern), workload: model }));
  const plainRuns =
    paper === undefined
      ? runs('plain', () => plain)
      : [
          ...runs('artifact', () => ARTIFACT_PLAN),
          ...runs('artifact-tuned', (pattern) => paper.get(pattern) ?? ARTIFACT_PLAN),
        ];
  if (given !== undefined) {
    const known = plainRuns.some(({ plan }) => planLabel(plan) === planLabel(given));
    if (known) return { plans: plainRuns, protocol: [] };
    return {
      plans: [...plainRuns, ...runs('given', () => given)],
      protocol: ['given: one plan, on every pattern'],
    };
  }
  const { best, protocol } = await tunedPlans(options);
  return { plans: [...plainRuns, ...runs('tuned', (pattern) => best.get(pattern) as Plan)], protocol };
}

/** The best plan on each pattern's own lookups: of the embedding stage's benchmark, else of a race. */
async function tunedPlans(options: CompareModelOptions) {
  const { architecture, workloads, best } = options;
  if (best.size > 0) {
    return { best, protocol: ['tuned: the plan found best for the embedding stage on the same pattern'] };
  }
  const { tables } = architecture;
  const embedding = workloads.map((workload) => workload.embedding);
  const found = await racePatterns({ ...options, tables, workloads: embedding });
  const where = `on ${racedTables(tables).length} of ${tables.length} tables`;
  return {
    best: new Map([...found].map(([pattern, { plan }]) => [pattern, plan])),
    protocol: [
      `tuned: on each pattern's own lookups ${where}, the legal plans raced for at most ${RACE_SECONDS} s, compiling left out: ${[...found].map(raceWords).join(', ')}`,
    ],
  };
}

function raceWords([pattern, { measured, seconds, finished }]: [string, SearchResult]): string {
  const words = `${pattern} ${measured.length} plans in ${seconds.toFixed(1)} s`;
  return finished ? words : `${words} (out of time)`;
}

/** The rows of all runs, in their order. A plan that has several roles on a pattern is measured there once. */
async function measureRuns(runs: readonly Run[], options: CompareModelOptions): Promise<MeasuredModelRow[]> {
  const rows = new Map<Run, MeasuredModelRow[]>();
  for (const label of unique(runs.map(({ plan }) => planLabel(plan)))) {
    const own = runs.filter(({ plan }) => planLabel(plan) === label);
    const [{ plan }] = own as [Run];
    const workloads = unique(own.map(({ workload }) => workload));
    const measured = await measureModel({ ...options, plan, workloads });
    for (const run of own) {
      const onPattern = measured.filter(({ pattern }) => pattern === run.workload.pattern);
      rows.set(
        run,
        onPattern.map((row) => ({ ...row, role: run.role })),
      );
    }
  }
  return runs.flatMap((run) => rows.get(run) as MeasuredModelRow[]);
}

/** Throughput relative to the plain kernel's, or the paper's, on the same pattern, inputs in the same place. */
function withSpeedups(rows: readonly MeasuredModelRow[]): ModelRow[] {
  const key = ({ pattern, inputs }: MeasuredModelRow) => `${pattern} ${inputs}`;
  const batchMs = (row: MeasuredModelRow) => row.batchMs ?? row.timing.medianMs;
  const plain = rows.filter(({ role }) => role === 'plain' || role === 'artifact');
  const baseline = new Map(plain.map((row) => [key(row), batchMs(row)]));
  return rows.map((row) => ({ ...row, speedup: (baseline.get(key(row)) as number) / batchMs(row) }));
}
