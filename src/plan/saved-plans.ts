/**
 * Plans that were tuned and saved: a file for each collection's shape, device, batch size and hotness of the traffic, in the
 * user's data folder.
 */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { finite, membersOf, whole } from '../checks/value.ts';
import type { RecordedDevice } from '../device.ts';
import { sharesTables, tableNumbers } from '../embedding/shared-tables.ts';
import { writeOutputFile } from '../output-file.ts';
import { dataFolder } from '../user-folders.ts';
import { version } from '../version.ts';
import { heuristicPlan, type Plan, type PlanChoice, plainPlan, readPlan, refusals } from './plan.ts';
import type { PlanContext } from './techniques/technique.ts';

/** A plan, and for people where it comes from. */
export interface ChosenPlan {
  readonly plan: Plan;
  readonly source: string;
}

/** Versions that a tuned plan depends on. */
export function tunedVersions({ versions }: RecordedDevice): Readonly<Record<string, string>> {
  const { node: _, ...others } = versions;
  return { hotrow: version, ...others };
}

/** $XDG_DATA_HOME/hotrow/plans, or ~/.local/share/hotrow/plans. */
export function plansFolder(environment?: NodeJS.ProcessEnv): string {
  return dataFolder(['plans'], environment);
}

/** What decides, besides tables and device, which plan is the fastest. */
export interface PlanTraffic {
  /** Distinct rows over lookups of a batch, in [0, 1]. */
  readonly distinctShare: number;
  readonly batchSize: number;
}

/** @throws UsageError OPTION_INVALID. */
export const planTraffic = membersOf<PlanTraffic>({ distinctShare: finite, batchSize: whole() });

/** Where the plan for these tables and such traffic on this device is saved. */
export function savedPlanFile(
  context: PlanContext,
  { distinctShare, batchSize }: PlanTraffic,
  folder = plansFolder(),
): string {
  const percent = Math.round(100 * distinctShare);
  return join(folder, `${stem(context)}-batch-${batchSize}-distinct-${percent}.json`);
}

/** What the names of all plans for these tables on this device begin with. */
function stem({ device, tables }: PlanContext): string {
  const shapes = tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]);
  const collection = sharesTables(tables) ? [shapes, tableNumbers(tables)] : shapes;
  const digest = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('hex');
  const model = digest(collection).slice(0, 16);
  return `${device.kind}-${digest([device.name, device.architecture]).slice(0, 8)}-${tables.length}-tables-${model}`;
}

/** Saves a plan whole or not at all. @throws UsageError FILE_UNWRITABLE. */
export async function savePlan(plan: Plan, file: string): Promise<void> {
  await writeOutputFile(file, `${JSON.stringify(plan, null, 2)}\n`, { makesFolder: true });
}

/** Why a tuned plan does not stand for this device; undefined: it does, or it does not say where it was tuned. */
export function staleness({ tunedOn }: Plan, device: RecordedDevice): string | undefined {
  if (tunedOn === undefined) return undefined;
  if (tunedOn.device !== device.name) return `it was tuned on ${tunedOn.device}, this is ${device.name}`;
  if (tunedOn.architecture !== device.architecture) {
    return `it was tuned for ${tunedOn.architecture}, this is ${device.architecture}`;
  }
  const now = tunedVersions(device);
  const changed = Object.keys({ ...now, ...tunedOn.versions }).find(
    (name) => now[name] !== tunedOn.versions[name],
  );
  if (changed === undefined) return undefined;
  return `it was tuned with ${changed} ${tunedOn.versions[changed] ?? 'absent'}, this is ${now[changed] ?? 'absent'}`;
}

export interface SavedPlanOptions {
  /** Default: the user's. */
  readonly folder?: string;
  /** What will be looked up, where it is known: of several plans, the one tuned on the nearest traffic is taken, else the newest. */
  readonly traffic?: PlanTraffic;
}

/**
 * The plan that runs: the one that was chosen; else a saved one that was tuned here and is legal; else the heuristic one. The
 * source says which, and why a saved plan was left aside.
 */
export async function choosePlan(
  choice: PlanChoice | undefined,
  context: PlanContext,
  options: SavedPlanOptions = {},
): Promise<ChosenPlan> {
  const { device } = context;
  if (choice === 'plain') return { plan: plainPlan(device.kind), source: 'as asked for' };
  if (choice !== undefined) {
    const stale = staleness(choice, device);
    return {
      plan: choice,
      source: stale === undefined ? 'as asked for' : `as asked for, but stale: ${stale}`,
    };
  }
  const { plans, asides } = await savedPlans(context, options);
  const [first] = plans;
  if (first === undefined) {
    const [reason] = asides;
    return {
      plan: heuristicPlan(context),
      source:
        reason === undefined
          ? 'heuristic; `hotrow tune` finds a better one'
          : `heuristic; the saved plan was left aside: ${reason}`,
    };
  }
  const which = options.traffic === undefined ? 'the newest' : 'the nearest to this traffic';
  const among = plans.length === 1 ? '' : `, ${which} of ${plans.length} that were saved`;
  return { plan: first, source: `saved, tuned on ${first.tunedOn?.workload ?? 'unknown traffic'}${among}` };
}

interface SavedPlans {
  /** Those that stand for this device and these tables, the first choice first. */
  readonly plans: readonly Plan[];
  /** Why others do not. */
  readonly asides: readonly string[];
}

/** The plans that are saved for these tables on this device. */
export async function savedPlans(
  context: PlanContext,
  { folder = plansFolder(), traffic }: SavedPlanOptions = {},
): Promise<SavedPlans> {
  const names = await readdir(folder).catch(() => []);
  const plans: Plan[] = [];
  const asides: string[] = [];
  const beginning = `${stem(context)}-`;
  for (const name of names.filter((name) => name.startsWith(beginning) && name.endsWith('.json')).sort()) {
    const saved = await readPlan(join(folder, name)).catch((error: Error) => error);
    const reason =
      saved instanceof Error
        ? saved.message
        : (staleness(saved, context.device) ?? refusals(saved, context)[0]);
    if (reason !== undefined) asides.push(reason);
    else plans.push(saved as Plan);
  }
  return {
    plans: plans.toSorted((a, b) => distance(a, traffic) - distance(b, traffic) || newer(a, b)),
    asides,
  };
}

/** How far the traffic that a plan was tuned on is from another. */
function distance({ tunedOn }: Plan, traffic: PlanTraffic | undefined): number {
  if (traffic === undefined || tunedOn === undefined) return 0;
  const batches = Math.abs(Math.log2(Math.max(1, tunedOn.batchSize) / Math.max(1, traffic.batchSize)));
  // A batch of another size matters less than other hotness.
  return Math.abs(tunedOn.distinctShare - traffic.distinctShare) + batches / 100;
}

function newer(a: Plan, b: Plan): number {
  const at = ({ tunedOn }: Plan) => tunedOn?.createdAt ?? '';
  return at(a) < at(b) ? 1 : at(a) > at(b) ? -1 : 0;
}
