/** Finds the plan that stands on a workload: the fastest of a race, if it then beats the heuristic plan side by side. */
import { heuristicPlan, type Plan, planLabel } from '../plan/plan.ts';
import { type PlanTimer, type SearchOptions, type SearchResult, searchPlan, typical } from './search.ts';
import { type SideBySide, sideBySide } from './side-by-side.ts';

export interface Tuned {
  readonly search: SearchResult;
  readonly heuristic: Plan;
  /** Undefined: the race was won by the heuristic plan. */
  readonly comparison: SideBySide | undefined;
  /** Whether the found plan is faster than the heuristic one by more than noise. */
  readonly isBetter: boolean;
  /** The found plan where it is better, else the heuristic one. */
  readonly plan: Plan;
  /** Its typical time of a batch in the race. */
  readonly batchMs: number;
}

/** Share of the budget that the comparison at the end may take. */
const COMPARISON = 0.25;

/** Tunes for the workload that `timer` has loaded. A plan that is not clearly better than the heuristic one does not stand. @throws AbortError. */
export async function tunePlan(timer: PlanTimer, options: SearchOptions): Promise<Tuned> {
  const heuristic = heuristicPlan(timer.context);
  const seconds = options.seconds * (1 - COMPARISON);
  const search = await searchPlan(timer, { ...options, seconds });
  const comparison = await compare(timer, heuristic, search.plan, options);
  const isBetter = comparison?.isFaster === true;
  const plan = isBetter ? search.plan : heuristic;
  const own = search.measured.find((measured) => planLabel(measured.plan) === planLabel(plan));
  return { search, heuristic, comparison, isBetter, plan, batchMs: typical(own?.batchMs ?? []) };
}

async function compare(
  timer: PlanTimer,
  standing: Plan,
  challenger: Plan,
  { seconds, onProgress, signal }: SearchOptions,
): Promise<SideBySide | undefined> {
  if (planLabel(challenger) === planLabel(standing)) return undefined;
  onProgress?.('the plan found and the heuristic one, side by side');
  return sideBySide(timer, { standing, challenger }, seconds * COMPARISON, signal);
}
