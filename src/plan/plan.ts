/**
 * Plans: how the embedding stage runs on a device. A plan is data; it is legal or refused with the reason.
 */
import Type, { type Static, type TSchema } from 'typebox';
import Value from 'typebox/value';
import { plainData } from '../checks/arguments.ts';
import { deepFrozen, type FilePath, oneOf, path, reading, record, shown, text } from '../checks/value.ts';
import { DEVICE_KINDS, type DeviceKind } from '../device.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { ROW_FORMATS, type RowFormat } from '../embedding/row-format.ts';
import { PlanError } from '../errors.ts';
import { readJsonFile } from '../formats/json-file.ts';
import { derivedContext, planContext } from './check-context.ts';
import { type KernelSettings, kernelShape } from './kernel-families.ts';
import { type TechniqueSettings, techniquesOn } from './techniques/registry.ts';
import type { KernelFamily, PlanContext } from './techniques/technique.ts';

export const PLAN_VERSION = 1;

/** Where, with what and on which lookups a plan was tuned, and what it brought. */
const provenanceSchema = Type.Object(
  {
    device: Type.String({ description: "the device's own name" }),
    architecture: Type.String(),
    versions: Type.Record(Type.String(), Type.String(), {
      description: 'of Hotrow, and of what compiles and runs its kernels',
    }),
    createdAt: Type.String(),
    workload: Type.String({ description: 'access pattern or trace' }),
    distinctShare: Type.Number({ description: 'distinct rows over lookups of a batch' }),
    batchSize: Type.Integer(),
    batchMs: Type.Number({ description: 'typical time of a batch under the plan' }),
    plainMs: Type.Number({ description: 'and under the plain kernel' }),
    overHeuristic: Type.Optional(
      Type.Number({ description: 'how many times as fast as the heuristic plan it was, in turns with it' }),
    ),
  },
  { additionalProperties: false },
);
export type PlanProvenance = Readonly<Static<typeof provenanceSchema>>;

interface PlanOn<K extends DeviceKind> {
  readonly version: typeof PLAN_VERSION;
  readonly device: K;
  readonly kernel: (typeof KERNEL_FAMILIES)[K][number];
  /** The techniques that are on; none gives the plain kernel. */
  readonly techniques: TechniqueSettings<K>;
  readonly tunedOn?: PlanProvenance;
}

/** Tables whose rows are alike, and the techniques that run otherwise on them than on the rest. */
export interface PlanGroup {
  readonly dim: number;
  readonly rowFormat: RowFormat;
  readonly techniques: Pick<TechniqueSettings<'cuda'>, 'prefetch' | 'occupancy' | 'lanes' | 'turns'>;
}

export type CpuPlan = PlanOn<'cpu'>;
export interface CudaPlan extends PlanOn<'cuda'> {
  /** Each kind of rows at most once. */
  readonly groups?: readonly PlanGroup[];
}
export type Plan = CpuPlan | CudaPlan;

/** The kernel families of each kind of device, the plain one first. */
export const KERNEL_FAMILIES = {
  cpu: ['standard'],
  cuda: ['standard', 'fused', 'artifact'],
} as const satisfies Record<DeviceKind, readonly KernelFamily[]>;

/** Those that plans are chosen from, the plain one first; the heuristic plan has the last. Others run when they are asked for. */
export const SEARCHED_FAMILIES = {
  cpu: ['standard'],
  cuda: ['standard', 'fused'],
} as const satisfies Record<DeviceKind, readonly KernelFamily[]>;

/** A plan, or the plain kernel of whatever device it is. */
export type PlanChoice = Plan | 'plain';

/** A plan to choose, a copy. @throws PlanError PLAN_INVALID. */
export function planChoice(value: unknown, at: string): PlanChoice {
  return value === 'plain' ? value : parsePlan(value, at);
}

/** JSON Schema of plans for one kind of device, assembled from the registry of techniques. */
function schemaFor(kind: DeviceKind): TSchema {
  const techniques = Object.fromEntries(
    techniquesOn(kind).map(({ technique, on }) => [technique.name, Type.Optional(on.parameters)]),
  );
  const perGroup = techniquesOn(kind).filter(({ on }) => on.perGroup !== undefined);
  const group = Type.Object(
    {
      dim: Type.Integer({ minimum: 1 }),
      rowFormat: Type.Enum(ROW_FORMATS as RowFormat[]),
      techniques: Type.Object(
        Object.fromEntries(
          perGroup.map(({ technique, on }) => [technique.name, Type.Optional(on.parameters)]),
        ),
        { additionalProperties: false },
      ),
    },
    {
      additionalProperties: false,
      description: 'tables with such rows, and the techniques that run otherwise on them',
    },
  );
  return Type.Object(
    {
      version: Type.Literal(PLAN_VERSION),
      device: Type.Literal(kind),
      kernel: Type.Union(KERNEL_FAMILIES[kind].map((family) => Type.Literal(family))),
      techniques: Type.Object(techniques, { additionalProperties: false }),
      ...(perGroup.length === 0 ? {} : { groups: Type.Optional(Type.Array(group)) }),
      tunedOn: Type.Optional(provenanceSchema),
    },
    { additionalProperties: false },
  );
}

const SCHEMAS: Readonly<Record<DeviceKind, TSchema>> = { cpu: schemaFor('cpu'), cuda: schemaFor('cuda') };

/** JSON Schema of every plan. */
export const planSchema: TSchema = deepFrozen(
  Type.Union(Object.values(SCHEMAS), {
    $id: 'hotrow-plan-1',
    title: 'Hotrow plan, version 1',
  }),
);

/** The plain kernel: no technique. Legal everywhere. @throws UsageError OPTION_INVALID for a device of no such kind. */
export function plainPlan<K extends DeviceKind>(kind: K): Extract<Plan, { device: K }> {
  const device = oneOf(DEVICE_KINDS)(kind, 'plainPlan: device');
  return { version: PLAN_VERSION, device, kernel: 'standard', techniques: {} } as Extract<
    Plan,
    { device: K }
  >;
}

/**
 * `plan` with techniques switched on (parameters) or off (undefined).
 * @throws PlanError PLAN_INVALID for a plan, techniques or parameters that are none; UsageError OPTION_INVALID.
 */
export function withTechniques<P extends Plan>(plan: P, change: Readonly<Record<string, unknown>>): P {
  const own = parsePlan(plan, 'withTechniques: plan');
  const changes = record(change, 'withTechniques: change');
  const techniques = reading('withTechniques: change', () =>
    Object.entries({ ...own.techniques, ...changes }).filter(([, parameters]) => parameters !== undefined),
  );
  return parsePlan({ ...own, techniques: Object.fromEntries(techniques) }, 'withTechniques') as P;
}

/** The techniques that a plan runs on tables with such rows. */
export function techniquesFor(
  { techniques, groups = [] }: CudaPlan,
  { dim, rowFormat }: Pick<EmbeddingTable, 'dim' | 'rowFormat'>,
): TechniqueSettings<'cuda'> {
  const group = groups.find((own) => own.dim === dim && own.rowFormat === rowFormat);
  return group === undefined ? techniques : { ...techniques, ...group.techniques };
}

/** `plan` with a group's techniques set; one that has none left is taken out. */
export function withGroup(plan: CudaPlan, { dim, rowFormat, techniques }: PlanGroup): CudaPlan {
  const { groups = [], ...rest } = plan;
  const others = groups.filter((own) => own.dim !== dim || own.rowFormat !== rowFormat);
  const all = Object.keys(techniques).length === 0 ? others : [...others, { dim, rowFormat, techniques }];
  return all.length === 0 ? rest : { ...rest, groups: all };
}

/** `plan` with another kernel family of its device. */
export function withKernel<P extends Plan>(plan: P, kernel: KernelFamily): P {
  return { ...plan, kernel };
}

/**
 * The plan that runs when none is given: the last of the families that plans are chosen from, and every technique that costs no
 * memory, at its best guess. Always legal.
 * @throws UsageError OPTION_INVALID for a context that is none.
 */
export function heuristicPlan(given: PlanContext): Plan {
  const context = planContext(given, 'heuristicPlan: context');
  const { kind } = context.device;
  const kernel = SEARCHED_FAMILIES[kind].at(-1) as KernelFamily;
  const own = derivedContext(context, { kernel });
  const chosen = techniquesOn(kind).flatMap(({ technique, on }) => {
    const parameters = on.guess === undefined ? on.candidates(own)[0] : on.guess(own);
    if (parameters === undefined || on.refuse(parameters, own) !== undefined) return [];
    return (on.cost(parameters, own).memoryBytes ?? 0) > 0 ? [] : [[technique.name, parameters] as const];
  });
  return withTechniques<Plan>(withKernel<Plan>(plainPlan(kind), kernel), Object.fromEntries(chosen));
}

/** What parsePlan gave. */
const parsed = new WeakSet<object>();

/**
 * Checks a plan's form; the plan is a copy.
 * @throws PlanError PLAN_INVALID naming the member that is wrong.
 */
export function parsePlan(given: unknown, name = 'plan'): Plan {
  const source = text(name, 'parsePlan: source');
  if (typeof given === 'object' && given !== null && parsed.has(given)) return given as Plan;
  const value = plainData(given);
  if (typeof value !== 'object' || value === null)
    throw new PlanError('PLAN_INVALID', `${source}: a plan is a JSON object, not ${shown(given)}`);
  const { version, device } = value as { version?: unknown; device?: unknown };
  if (version !== PLAN_VERSION) {
    throw new PlanError(
      'PLAN_INVALID',
      `${source}: plan version ${shown(version)}, this Hotrow reads version ${PLAN_VERSION}`,
    );
  }
  const kind = DEVICE_KINDS.find((known) => known === device);
  if (kind === undefined) {
    throw new PlanError(
      'PLAN_INVALID',
      `${source}: device ${shown(device)} is none of ${DEVICE_KINDS.join(', ')}`,
    );
  }
  const schema = SCHEMAS[kind];
  if (Value.Check(schema, value)) {
    parsed.add(value);
    return deepFrozen(value) as unknown as Plan;
  }
  const [first] = Value.Errors(schema, value);
  throw new PlanError(
    'PLAN_INVALID',
    `${source}: ${first?.instancePath || '/'} ${first?.message ?? 'does not fit the schema'}`,
    {
      hint: 'docs/plans.md lists the techniques and their parameters',
    },
  );
}

/** Reads a plan file. @throws UsageError; FormatError as readJsonFile; PlanError PLAN_INVALID. */
export async function readPlan(given: FilePath): Promise<Plan> {
  const file = path(given, 'readPlan: file');
  return parsePlan(await readJsonFile(file, 'plan'), file);
}

/**
 * Why a plan is not legal on a device for some tables, one reason per technique; empty: it is legal.
 * @throws PlanError PLAN_INVALID for a plan that is none; UsageError OPTION_INVALID for such a context.
 */
export function refusals(given: Plan, of: PlanContext): string[] {
  const plan = parsePlan(given, 'refusals: plan');
  const context = planContext(of, 'refusals: context');
  if (plan.device !== context.device.kind)
    return [`the plan is for ${plan.device}, the device is ${context.device.id}`];
  const own = contextOf(plan, context);
  const everywhere = techniquesOn(plan.device).flatMap(({ technique, on }) => {
    const parameters = (plan.techniques as Record<string, unknown>)[technique.name];
    const reason = parameters === undefined ? undefined : on.refuse(parameters, own);
    return reason === undefined ? [] : [`${technique.name}: ${reason}`];
  });
  return plan.device === 'cuda' ? [...everywhere, ...groupRefusals(plan, own)] : everywhere;
}

/** What a plan's techniques are checked and weighed against: its kernel, in its blocks. */
export function contextOf(plan: Plan, context: PlanContext): PlanContext {
  const { kernel } = plan;
  const threads = plan.device === 'cuda' ? plan.techniques.block?.threads : undefined;
  return derivedContext(context, { kernel, ...(threads === undefined ? {} : { blockThreads: threads }) });
}

/** What a plan asks of the kernel: for all tables, or for tables with such rows. */
export function kernelSettings(
  plan: CudaPlan,
  rows?: Pick<EmbeddingTable, 'dim' | 'rowFormat'>,
): KernelSettings {
  const { kernel, techniques: all } = plan;
  const techniques: Readonly<Record<string, unknown>> = rows === undefined ? all : techniquesFor(plan, rows);
  const shape = kernelShape({ kernel, blockThreads: all.block?.threads });
  let settings: KernelSettings = { threads: shape.blockThreads };
  for (const { technique, on } of techniquesOn('cuda')) {
    const parameters = techniques[technique.name];
    if (parameters !== undefined) settings = { ...settings, ...on.settings?.(parameters, shape) };
  }
  return settings;
}

function groupRefusals({ kernel, groups = [] }: CudaPlan, context: PlanContext): string[] {
  const seen = new Set<string>();
  return groups.flatMap(({ dim, rowFormat, techniques }) => {
    const name = `tables of ${dim} ${rowFormat}`;
    if (seen.has(name)) return [`${name} stand in two groups`];
    seen.add(name);
    const tables = context.tables.filter((table) => table.dim === dim && table.rowFormat === rowFormat);
    if (tables.length === 0) return [`there are no ${name}`];
    return techniquesOn('cuda').flatMap(({ technique, on }) => {
      const parameters = (techniques as Record<string, unknown>)[technique.name];
      if (parameters === undefined) return [];
      if (on.perGroup?.includes(kernel) !== true)
        return [`${name}: the ${kernel} kernel has one ${technique.name} for all tables`];
      const reason = on.refuse(parameters, derivedContext(context, { tables }));
      return reason === undefined ? [] : [`${name}: ${technique.name}: ${reason}`];
    });
  });
}

/** @throws PlanError PLAN_ILLEGAL with every reason; as refusals. */
export function checkPlan(plan: Plan, context: PlanContext): void {
  const reasons = refusals(plan, context);
  if (reasons.length === 0) return;
  throw new PlanError(
    'PLAN_ILLEGAL',
    `the plan is not legal on ${planContext(context, 'checkPlan: context').device.id}: ${reasons.join('; ')}`,
  );
}

/** `plan` as one for `kind`. @throws PlanError PLAN_ILLEGAL when it is for another kind of device. */
export function planFor<K extends DeviceKind>(kind: K, plan: Plan): Extract<Plan, { device: K }> {
  if (plan.device === kind) return plan as Extract<Plan, { device: K }>;
  throw new PlanError('PLAN_ILLEGAL', `the plan is for ${plan.device}, the device is a ${kind} device`);
}

/** Tables placed under one plan serve another with the same placement key. */
export function placementKey(plan: Plan): string {
  const placing = techniquesOn(plan.device).flatMap(({ technique, on }) => {
    const parameters = (plan.techniques as Record<string, unknown>)[technique.name];
    return on.changesPlacement && parameters !== undefined ? [[technique.name, parameters]] : [];
  });
  return JSON.stringify(placing);
}

/** What a plan does, in a few words: `standard + prefetch d8 L1 + threads 2`. @throws PlanError PLAN_INVALID. */
export function planLabel(given: Plan): string {
  const plan = parsePlan(given, 'planLabel: plan');
  const on = techniquesOn(plan.device).flatMap(({ technique, on }) => {
    const parameters = (plan.techniques as Record<string, unknown>)[technique.name];
    return parameters === undefined ? [] : [on.label(parameters)];
  });
  return [plan.kernel, ...on, ...(plan.device === 'cuda' ? groupLabels(plan) : [])].join(' + ');
}

/** `RPF d4 on 16 float32`: what differs. */
function groupLabels({ groups = [] }: CudaPlan): string[] {
  return groups.map(({ dim, rowFormat, techniques }) => {
    const on = techniquesOn('cuda').flatMap(({ technique, on: own }) => {
      const parameters = (techniques as Record<string, unknown>)[technique.name];
      return parameters === undefined ? [] : [own.label(parameters)];
    });
    return `${on.join(', ')} on ${dim} ${rowFormat}`;
  });
}
