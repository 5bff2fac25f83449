/**
 * What a technique is. A technique changes how the embedding stage runs, never what it computes: with every
 * technique off the plain kernel runs, and the results are the same bit for bit where the order of additions is.
 */
import type { Static, TSchema } from 'typebox';
import Value from 'typebox/value';
import { plainData } from '../../checks/arguments.ts';
import { deepFrozen } from '../../checks/value.ts';
import type { DeviceKind } from '../../device.ts';
import { PlanError } from '../../errors.ts';
import { planContext } from '../check-context.ts';
import type { KernelSettings, KernelShape } from '../kernel-families.ts';
import type { KernelFamily, PlanContext } from '../plan-context.ts';

export { KERNELS, type KernelFamily, type PlanContext } from '../plan-context.ts';

/** What a technique takes from the device. */
export interface TechniqueCost {
  /** Memory beyond the tables themselves. */
  readonly memoryBytes?: number;
  /** On a GPU: registers per thread beyond the plain kernel's, about, and the most that it may take. */
  readonly registers?: number;
  readonly registerCap?: number;
  /** On a GPU: shared memory per block. */
  readonly sharedBytes?: number;
  /** Rows that a warp asks for at once; the plain kernel: 1. */
  readonly rowsInFlight?: number;
  /** Where a technique helps and where it hurts, in a sentence. */
  readonly note: string;
}

/** A technique on one kind of device. */
export interface TechniqueOnDevice<S extends TSchema = TSchema> {
  /** JSON Schema of the technique's parameters in a plan. */
  readonly parameters: S;
  /** Parameters worth trying, the best guess first; empty where the technique does not apply. */
  candidates(context: PlanContext): Static<S>[];
  /** What the heuristic plan takes, when that is not the first candidate; undefined: the technique stays off. */
  guess?(context: PlanContext): Static<S> | undefined;
  /** Parameters over their whole range, for a sweep; default: the candidates. */
  sweep?(context: PlanContext): Static<S>[];
  /** Why these parameters are not legal here; undefined when they are. */
  refuse(parameters: Static<S>, context: PlanContext): string | undefined;
  /** A short label for tables and logs, e.g. `prefetch d8 L1`. */
  label(parameters: Static<S>): string;
  cost(parameters: Static<S>, context: PlanContext): TechniqueCost;
  /** On a GPU: what the kernel must do for these parameters. */
  settings?(parameters: Static<S>, shape: KernelShape): Partial<KernelSettings>;
  /** True when tables must be placed anew to switch it. */
  readonly changesPlacement: boolean;
  /** The kernel families that can run it with other parameters on some of the tables; default: none. */
  readonly perGroup?: readonly KernelFamily[];
}

export interface Technique<
  D extends Partial<Record<DeviceKind, TechniqueOnDevice>> = Partial<Record<DeviceKind, TechniqueOnDevice>>,
> {
  /** The technique's key in a plan. */
  readonly name: string;
  readonly title: string;
  /** What it does and why it helps, for docs and `--help`. */
  readonly summary: string;
  readonly devices: D;
}

/**
 * A technique that checks what it is called with; its parameter type follows from its schema.
 * Its functions throw PlanError PLAN_INVALID for parameters that the schema refuses, UsageError OPTION_INVALID for a context that
 * is none.
 */
export function onDevice<S extends TSchema>(technique: TechniqueOnDevice<S>): TechniqueOnDevice<S> {
  const { guess, sweep } = technique;
  const of = (context: PlanContext) => planContext(context, 'context');
  const parameters = (given: Static<S>): Static<S> => {
    const own = plainData(given);
    if (Value.Check(technique.parameters, own)) return own as Static<S>;
    const [first] = Value.Errors(technique.parameters, own);
    const what = first?.message ?? 'does not fit the schema';
    throw new PlanError('PLAN_INVALID', `parameters: ${first?.instancePath || '/'} ${what}`);
  };
  return deepFrozen({
    ...technique,
    candidates: (context) => structuredClone(technique.candidates(of(context))),
    ...(guess === undefined ? {} : { guess: (context) => guess(of(context)) }),
    ...(sweep === undefined ? {} : { sweep: (context) => sweep(of(context)) }),
    refuse: (given, context) => technique.refuse(parameters(given), of(context)),
    label: (given) => technique.label(parameters(given)),
    cost: (given, context) => technique.cost(parameters(given), of(context)),
  } satisfies TechniqueOnDevice<S>);
}
