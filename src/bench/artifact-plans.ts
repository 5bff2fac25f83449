/** Plans of the kernel that the paper measured: bare, and under the paper's techniques, each combination in several settings. */
import { type Plan, plainPlan, refusals, withKernel, withTechniques } from '../plan/plan.ts';
import { techniquesOn } from '../plan/techniques/registry.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';

const WARPS_64 = { warps: 64 };
const WARPS_48 = { warps: 48 };
/** The artifact's, on an A100. */
const CAP_42 = { maxRegisters: 42 };
/** What 8 rows in registers need. */
const CAP_64 = { maxRegisters: 64 };

/** Caps, and what else runs under each: [occupancy, prefetch]. Beside the paper's settings, those that newer GPUs do better with. */
const REGISTER_PREFETCHES = [
  [WARPS_64, { into: 'registers', distance: 2 }],
  [CAP_42, { into: 'registers', distance: 2 }],
  [WARPS_48, { into: 'registers', distance: 4 }],
  [CAP_64, { into: 'registers', distance: 8 }],
] as const;
const OTHER_PREFETCHES = [
  [WARPS_48, { into: 'shared', distance: 10 }],
  [CAP_64, { into: 'shared', distance: 10 }],
  [WARPS_48, { into: 'local', distance: 2 }],
  [CAP_64, { into: 'local', distance: 8 }],
  [WARPS_48, { into: 'l1', distance: 2 }],
  [CAP_42, { into: 'l1', distance: 2 }],
] as const;

/** The paper's kernel without a technique. */
export const ARTIFACT_PLAN: Plan = withKernel<Plan>(plainPlan('cuda'), 'artifact');

/** The bare kernel first; none on devices that have no such kernel. What the device or the tables do not allow is left out. */
export function artifactPlans(context: PlanContext): Plan[] {
  const { kind } = context.device;
  if (kind !== 'cuda') return [];
  const pinnings = techniquesOn(kind).find(({ technique }) => technique.name === 'pinning')?.on;
  const [pinning] = pinnings?.candidates({ ...context, kernel: 'artifact' }) ?? [];
  const pinned = pinning === undefined ? [] : [{ pinning }];
  const registers = REGISTER_PREFETCHES.map(([occupancy, prefetch]) => ({ occupancy, prefetch }));
  return [
    {},
    ...[WARPS_64, WARPS_48, CAP_42].map((occupancy) => ({ occupancy })),
    ...registers,
    ...OTHER_PREFETCHES.map(([occupancy, prefetch]) => ({ occupancy, prefetch })),
    ...[2, 4].map((distance) => ({ prefetch: { into: 'l1', distance } })),
    ...pinned,
    ...pinned.flatMap((own) => registers.map((techniques) => ({ ...techniques, ...own }))),
  ]
    .map((techniques) => withTechniques(ARTIFACT_PLAN, techniques))
    .filter((plan) => refusals(plan, context).length === 0);
}
