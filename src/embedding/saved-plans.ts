/** Plans that were tuned and saved: one file a collection's shape and kind of device, in the user's data folder. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { DeviceDescription } from '../device.ts';
import { UsageError } from '../errors.ts';
import { version } from '../version.ts';
import { heuristicPlan, type Plan, type PlanChoice, plainPlan, readPlan, refusals } from './plan.ts';
import { sharesTables, tableNumbers } from './shared-tables.ts';
import type { PlanContext } from './techniques/technique.ts';

/** A plan, and for people where it comes from. */
export interface ChosenPlan {
  readonly plan: Plan;
  readonly source: string;
}

/** Versions that a tuned plan depends on. */
export function tunedVersions({ versions }: DeviceDescription): Readonly<Record<string, string>> {
  const { node: _, ...others } = versions;
  return { hotrow: version, ...others };
}

/** $XDG_DATA_HOME/hotrow/plans, or ~/.local/share/hotrow/plans. */
export function plansFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { XDG_DATA_HOME: given } = environment;
  return join(given?.startsWith('/') ? given : join(homedir(), '.local', 'share'), 'hotrow', 'plans');
}

/** Where the plan for these tables on this kind of device is saved. */
export function savedPlanFile({ device, tables }: PlanContext, folder = plansFolder()): string {
  const shapes = tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]);
  const collection = sharesTables(tables) ? [shapes, tableNumbers(tables)] : shapes;
  const key = createHash('sha256').update(JSON.stringify(collection)).digest('hex').slice(0, 16);
  return join(folder, `${device.kind}-${tables.length}-tables-${key}.json`);
}

/** Saves a plan whole or not at all. @throws UsageError FILE_UNWRITABLE. */
export async function savePlan(plan: Plan, file: string): Promise<void> {
  const unfinished = `${file}.${randomBytes(4).toString('hex')}`;
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(unfinished, `${JSON.stringify(plan, null, 2)}\n`);
    await rename(unfinished, file);
  } catch (cause) {
    throw new UsageError('FILE_UNWRITABLE', `cannot write ${file}: ${(cause as Error).message}`, {
      file,
      cause,
    });
  }
}

/** Why a tuned plan does not stand for this device; undefined: it does, or it does not say where it was tuned. */
export function staleness({ tunedOn }: Plan, device: DeviceDescription): string | undefined {
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

/**
 * The plan that runs: the one that was chosen; else the saved one, if it was tuned here and is legal; else the heuristic
 * one. The source says which, and why a saved plan was left aside.
 */
export async function choosePlan(
  choice: PlanChoice | undefined,
  context: PlanContext,
  folder?: string,
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
  const heuristic = heuristicPlan(context);
  const file = savedPlanFile(context, folder);
  if (!existsSync(file)) return { plan: heuristic, source: 'heuristic; `hotrow tune` finds a better one' };
  const aside = (reason: string) => ({
    plan: heuristic,
    source: `heuristic; the saved plan was left aside: ${reason}`,
  });
  const saved = await readPlan(file).catch((error: Error) => error);
  if (saved instanceof Error) return aside(saved.message);
  const reason = staleness(saved, device) ?? refusals(saved, context)[0];
  if (reason !== undefined) return aside(reason);
  return { plan: saved, source: `saved, tuned on ${saved.tunedOn?.workload ?? file}` };
}
