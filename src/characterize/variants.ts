import { combinedPlans, singleTechniquePlans } from '../bench/embedding-bench.ts';
import { heuristicPlan, type Plan } from '../embedding/plan.ts';
import type { PlanContext } from '../embedding/techniques/technique.ts';

/** The techniques of each characterized plan of the standard kernel. */
const CHARACTERIZED: readonly (readonly string[])[] = [
  [],
  ['occupancy'],
  ['occupancy', 'prefetch'],
  ['occupancy', 'prefetch', 'pinning'],
];

/**
 * Of the plans that the benchmark compares: the plain one first, OptMT, OptMT with register prefetch, both with pinning;
 * and the heuristic plan. What the device or the tables do not allow is left out.
 */
export function characterizedPlans(context: PlanContext): Plan[] {
  const compared = [...singleTechniquePlans(context), ...combinedPlans(context)];
  const standard = CHARACTERIZED.flatMap((names) => {
    const found = compared.find(({ techniques }) => sameNames(Object.keys(techniques), names));
    return found === undefined ? [] : [found];
  });
  return [...standard, heuristicPlan(context)];
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}
