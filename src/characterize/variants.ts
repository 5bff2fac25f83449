import { combinedPlans, singleTechniquePlans } from '../bench/embedding-bench.ts';
import { UsageError } from '../errors.ts';
import { heuristicPlan, type Plan } from '../plan/plan.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';

/** What is characterized: the standard kernel by its techniques, and the heuristic plan, of the fused one. */
const TECHNIQUES = {
  standard: [],
  optmt: ['occupancy'],
  rpf: ['occupancy', 'prefetch'],
  combined: ['occupancy', 'prefetch', 'pinning'],
  fused: undefined,
} as const satisfies Record<string, readonly string[] | undefined>;

export type VariantName = keyof typeof TECHNIQUES;
export const VARIANTS = Object.keys(TECHNIQUES) as readonly VariantName[];

/** `optmt,fused`: each once, in the order of VARIANTS. @throws UsageError for a name that is none of them. */
export function parseVariants(text: string): VariantName[] {
  const names = text.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !(name in TECHNIQUES));
  if (unknown !== undefined) {
    const hint = `variants are ${VARIANTS.join(', ')}`;
    throw new UsageError('USAGE', `there is no variant "${unknown}"`, { hint });
  }
  return VARIANTS.filter((name) => names.includes(name));
}

/** The plans of some variants, of those that the benchmark compares. What the device or the tables do not allow is left out. */
export function characterizedPlans(
  context: PlanContext,
  variants: readonly VariantName[] = VARIANTS,
): Plan[] {
  const compared = [...singleTechniquePlans(context), ...combinedPlans(context)];
  return variants.flatMap((variant) => {
    const names = TECHNIQUES[variant];
    if (names === undefined) return [heuristicPlan(context)];
    const found = compared.find(({ techniques }) => sameNames(Object.keys(techniques), names));
    return found === undefined ? [] : [found];
  });
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}
