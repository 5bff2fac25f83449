/**
 * The search for the fastest plan: every legal combination of the techniques' candidates, thinned out by a model of the
 * device before anything runs, then raced: all run a little, the slow ones drop out, the rest run more.
 */

import { throwIfAborted } from '../checks/abort.ts';
import { derivedContext, planContext } from '../plan/check-context.ts';
import { GPU_FAMILIES, kernelShape } from '../plan/kernel-families.ts';
import { warpsPerMultiprocessor } from '../plan/occupancy.ts';
import {
  type CudaPlan,
  contextOf,
  heuristicPlan,
  type Plan,
  type PlanGroup,
  plainPlan,
  planLabel,
  refusals,
  SEARCHED_FAMILIES,
  withGroup,
  withKernel,
  withTechniques,
} from '../plan/plan.ts';
import { techniquesOn } from '../plan/techniques/registry.ts';
import type { KernelFamily, PlanContext } from '../plan/techniques/technique.ts';
import type { OnProgress } from '../progress.ts';
import type { TimedRun } from './embedding-timer.ts';
import { quantile } from './quantile.ts';

/** A plan that was measured, with the times of its batches. */
export interface MeasuredPlan {
  readonly plan: Plan;
  readonly batchMs: readonly number[];
}

export interface SearchResult {
  readonly plan: Plan;
  /** Typical time of a batch under the plan, and under the plain kernel. */
  readonly batchMs: number;
  readonly plainMs: number;
  /** Legal combinations, those that the model rejected, and those that were measured. */
  readonly legal: number;
  readonly rejected: number;
  readonly measured: readonly MeasuredPlan[];
  /** Whether the race ended by itself; false: the budget was used up before. */
  readonly finished: boolean;
  readonly seconds: number;
}

export interface SearchOptions {
  /** Time that may be spent. Each kernel's plain plan and the heuristic one are measured in any case. */
  readonly seconds: number;
  /** Legal plans that are measured in any case, as those are. */
  readonly also?: readonly Plan[];
  readonly onProgress?: OnProgress;
  /** Gives the search up, between measurements. */
  readonly signal?: AbortSignal;
}

/** Batches that every plan still in the race has run after each round, and how much slower than the best it may be. */
const ROUNDS = [
  { batches: 2, slack: 0.4 },
  { batches: 5, slack: 0.15 },
  { batches: 10, slack: 0.07 },
  { batches: 20, slack: 0.03 },
  { batches: 40, slack: 0.015 },
  { batches: 80, slack: 0 },
] as const;

/** What an abort ends. */
const SEARCH = 'the search for a plan';

/** Plans nearer than this are equal; the one with fewer techniques is taken. */
const EQUAL = 0.005;

/** What a plan's batches typically take: the lower quartile, since what disturbs a run only ever slows it. */
export function typical(batchMs: readonly number[]): number {
  return quantile(
    batchMs.toSorted((a, b) => a - b),
    0.25,
  );
}

/** The part of a timer that a search needs. */
export interface PlanTimer {
  readonly context: PlanContext;
  run(plan: Plan, turn: number): Promise<Pick<TimedRun, 'batchMs'>>;
  /** Does what the first runs of these plans would wait for, outside the race's time. */
  prepare?(plans: readonly Plan[]): Promise<void>;
}

/** Races the legal plans on the workload that `timer` has loaded. @throws AbortError. */
export async function searchPlan(timer: PlanTimer, options: SearchOptions): Promise<SearchResult> {
  const context = planContext(timer.context, 'searchPlan: context');
  const legal = legalPlans(context);
  const promising = rejectStarved(legal, context);
  const { kind } = context.device;
  const plains = SEARCHED_FAMILIES[kind].map((family) => withKernel<Plan>(plainPlan(kind), family));
  const anyway = [...plains, heuristicPlan(context), ...(options.also ?? [])];
  const entrants = distinct([...anyway, ...promising]).map((plan) => ({ plan, batchMs: [] as number[] }));
  const [plain] = entrants as [(typeof entrants)[number]];
  let began = performance.now();
  const elapsed = () => (performance.now() - began) / 1e3;
  const prepare = async (plans: readonly Plan[]) => {
    const start = performance.now();
    await timer.prepare?.(plans);
    began += performance.now() - start;
  };
  options.onProgress?.(`compiling ${entrants.length} plans`);
  throwIfAborted(options.signal, SEARCH);
  await prepare(entrants.map(({ plan }) => plan));

  let racing = entrants;
  let finished = true;
  for (const { batches, slack } of ROUNDS) {
    options.onProgress?.(`${racing.length} plans, ${batches} batches each`);
    finished = await runTo(
      timer,
      racing,
      batches,
      () => elapsed() >= options.seconds && everMeasured(anyway, entrants),
      options.signal,
    );
    racing = racing.filter(({ batchMs }) => batchMs.length > 0);
    const best = Math.min(...racing.map(({ batchMs }) => typical(batchMs)));
    racing = racing.filter(({ batchMs }) => typical(batchMs) <= best * (1 + slack));
    if (!finished || racing.length === 1) break;
  }
  const uniform = simplestOfTheBest(racing);
  const outOfTime = () => elapsed() >= options.seconds;
  const refined = finished ? await refineGroups(timer, uniform, { outOfTime, prepare }, options) : undefined;
  const winner = refined?.winner ?? uniform;
  return {
    plan: winner.plan,
    batchMs: typical(winner.batchMs),
    plainMs: typical(plain.batchMs),
    legal: legal.length,
    rejected: legal.length - promising.length,
    measured: [...entrants, ...(refined?.entrants ?? [])].filter(({ batchMs }) => batchMs.length > 0),
    finished: refined?.finished ?? finished,
    seconds: elapsed(),
  };
}

/** Batches that each setting of a group runs, in turns with the plan so far. */
const GROUP_BATCHES = 20;

/** The budget of a race, and preparations that do not count. */
interface RaceClock {
  readonly outOfTime: () => boolean;
  readonly prepare: (plans: readonly Plan[]) => Promise<void>;
}

interface Refined {
  readonly winner: Entrant;
  readonly entrants: readonly Entrant[];
  readonly finished: boolean;
}

/**
 * Where rows differ from table to table, what is best may too: group after group, the techniques that may differ are
 * tried at their other candidates on its tables alone, and kept when the whole stage gets faster. Undefined: there is
 * one group only.
 */
async function refineGroups(
  timer: PlanTimer,
  start: Entrant,
  { outOfTime, prepare }: RaceClock,
  options: SearchOptions,
): Promise<Refined | undefined> {
  const { context } = timer;
  const groups = rowsOf(context.tables);
  if (start.plan.device !== 'cuda' || groups.length < 2) return undefined;
  let winner = start;
  const all: Entrant[] = [];
  for (const { dim, rowFormat } of groups) {
    const base = winner.plan as CudaPlan;
    const settings = groupSettings(base, context).map((techniques) =>
      withGroup(base, { dim, rowFormat, techniques }),
    );
    const plans = settings.filter((plan) => refusals(plan, context).length === 0);
    const racing = [base, ...plans].map((plan) => ({ plan, batchMs: [] as number[] }));
    await prepare(plans);
    options.onProgress?.(`tables of ${dim} ${rowFormat}: ${racing.length} settings`);
    const finished = await runTo(timer, racing, GROUP_BATCHES, outOfTime, options.signal);
    if (!finished) return { winner, entrants: all, finished };
    all.push(...racing.slice(1));
    const [own] = racing as [Entrant];
    const best = racing.reduce((a, b) => (typical(b.batchMs) < typical(a.batchMs) ? b : a));
    winner = typical(best.batchMs) < typical(own.batchMs) * (1 - EQUAL) ? best : own;
  }
  return { winner, entrants: all, finished: true };
}

/** Each kind of rows once. */
function rowsOf(tables: PlanContext['tables']): Pick<PlanGroup, 'dim' | 'rowFormat'>[] {
  const rows = tables.map(({ dim, rowFormat }) => ({ dim, rowFormat }));
  return [...new Map(rows.map((row) => [`${row.dim} ${row.rowFormat}`, row])).values()];
}

/** What a group may do otherwise than the rest: one technique at another of its candidates. */
function groupSettings({ kernel, techniques }: CudaPlan, context: PlanContext): PlanGroup['techniques'][] {
  return techniquesOn('cuda').flatMap(({ technique, on }) => {
    if (on.perGroup?.includes(kernel) !== true) return [];
    const usual = JSON.stringify((techniques as Record<string, unknown>)[technique.name]);
    return on
      .candidates(derivedContext(context, { kernel }))
      .filter((parameters) => JSON.stringify(parameters) !== usual)
      .map((parameters) => ({ [technique.name]: parameters }) as PlanGroup['techniques']);
  });
}

interface Entrant {
  readonly plan: Plan;
  readonly batchMs: number[];
}

/** Runs every plan up to `batches` batches, in turns, so that a slow moment hits all alike. False: out of time. @throws AbortError. */
async function runTo(
  timer: PlanTimer,
  racing: readonly Entrant[],
  batches: number,
  outOfTime: () => boolean,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for (let done = Math.min(...racing.map(({ batchMs }) => batchMs.length)); done < batches; done++) {
    for (const { plan, batchMs } of racing) {
      throwIfAborted(signal, SEARCH);
      if (outOfTime()) return false;
      // The first run compiles, and places tables anew where the plan asks for it.
      if (batchMs.length === 0) await timer.run(plan, done);
      batchMs.push((await timer.run(plan, done)).batchMs);
    }
  }
  return true;
}

function everMeasured(plans: readonly Plan[], entrants: readonly Entrant[]): boolean {
  const labels = new Set(plans.map(planLabel));
  return entrants.every(({ plan, batchMs }) => !labels.has(planLabel(plan)) || batchMs.length > 0);
}

function simplestOfTheBest(racing: readonly Entrant[]): Entrant {
  const best = Math.min(...racing.map(({ batchMs }) => typical(batchMs)));
  const equals = racing.filter(({ batchMs }) => typical(batchMs) <= best * (1 + EQUAL));
  const techniques = ({ plan }: Entrant) => Object.keys(plan.techniques).length;
  return equals.reduce((a, b) => (techniques(b) < techniques(a) ? b : a));
}

/**
 * Every legal combination of the techniques' candidates, each off or at one of them, with each of some kernel families;
 * default: those that plans are chosen from.
 */
export function legalPlans(given: PlanContext, families?: readonly KernelFamily[]): Plan[] {
  const context = planContext(given, 'legalPlans: context');
  const { kind } = context.device;
  return (families ?? SEARCHED_FAMILIES[kind]).flatMap((kernel) => {
    const own = derivedContext(context, { kernel });
    const settings = techniquesOn(kind).map(({ technique, on }) =>
      [undefined, ...on.candidates(own)].map((parameters) => ({ [technique.name]: parameters })),
    );
    const combined = settings.reduce<Record<string, unknown>[]>(
      (plans, choices) => plans.flatMap((plan) => choices.map((choice) => ({ ...plan, ...choice }))),
      [{}],
    );
    return combined
      .map((techniques) => withTechniques<Plan>(withKernel<Plan>(plainPlan(kind), kernel), techniques))
      .filter((plan) => refusals(plan, context).length === 0);
  });
}

/** Plans that keep less than this share of their family's most rows in flight starve, whatever the lookups are. */
const STARVED = 0.3;

/**
 * The model: by Little's law a multiprocessor's throughput follows the loads that it keeps in flight, which are its
 * resident warps times the rows that each asks for at once. Plans far from the most are not worth a measurement.
 */
function rejectStarved(plans: readonly Plan[], context: PlanContext): Plan[] {
  if (context.device.gpu === undefined) return [...plans];
  const inFlight = new Map(plans.map((plan) => [plan, rowsInFlight(plan, context)]));
  const most = new Map<KernelFamily, number>();
  for (const [{ kernel }, rows] of inFlight) most.set(kernel, Math.max(rows, most.get(kernel) ?? 0));
  return plans.filter(
    (plan) => (inFlight.get(plan) as number) >= STARVED * (most.get(plan.kernel) as number),
  );
}

/** Rows that a multiprocessor has in flight under a plan, as the costs of its techniques say. */
function rowsInFlight(plan: Plan, context: PlanContext): number {
  let registers: number = GPU_FAMILIES[plan.kernel].plainRegisters;
  let cap = Number.POSITIVE_INFINITY;
  let sharedBytes = 0;
  let rows = 1;
  const own = contextOf(plan, context);
  for (const { technique, on } of techniquesOn(plan.device)) {
    const parameters = (plan.techniques as Record<string, unknown>)[technique.name];
    if (parameters === undefined) continue;
    const cost = on.cost(parameters, own);
    registers += cost.registers ?? 0;
    cap = Math.min(cap, cost.registerCap ?? cap);
    sharedBytes += cost.sharedBytes ?? 0;
    rows = Math.max(rows, cost.rowsInFlight ?? 1);
  }
  const warps = warpsPerMultiprocessor({
    registers: Math.min(registers, cap),
    threads: kernelShape(own).blockThreads,
    ...(sharedBytes === 0 ? {} : { sharedBytes, sharedBytesPerMultiprocessor: SHARED_BYTES }),
  });
  return warps * rows;
}

/** Shared memory of a multiprocessor of the smallest GPU that is supported (sm_80). */
const SHARED_BYTES = 164 * 1024;

function distinct(plans: readonly Plan[]): Plan[] {
  return [...new Map(plans.map((plan) => [planLabel(plan), plan])).values()];
}
