/** Programs of callers, and what is bound to them, checked. */
import { listOf, type Members, membersOf, refuseOption } from '../../checks/value.ts';
import type { DeviceDescription } from '../../device.ts';
import { arraysChanged } from '../../errors.ts';
import type { Bindings, Operation } from '../backend.ts';
import type { Held } from './handles.ts';
import {
  anything,
  type BindingCheck,
  type Bound,
  type Delivery,
  type GivenHandles,
  operationOf,
  type Run,
} from './operations.ts';

/** A program that can run, and what it uses. */
export interface CheckedProgram extends CheckedRun {
  readonly operations: readonly Operation[];
  /** What each slot takes, by every operation that has it. */
  readonly slots: ReadonlyMap<string, readonly BindingCheck[]>;
}

/** What a run uses besides its bindings. */
interface CheckedRun {
  readonly uses: ReadonlySet<Held>;
  /** Hands over what was downloaded, once the program has run. @throws RequestError ARRAYS_CHANGED. */
  deliver(): void;
}

/** Bindings that a program can run on. */
export interface CheckedBindings extends CheckedRun {
  readonly bindings: Bindings;
}

const MOST_OPERATIONS = 2 ** 20;

/**
 * Checks a program.
 * @throws UsageError OPTION_INVALID naming operation and member: for unknown ones, matrices outside of their buffers or of other
 *   sizes than the operation has, and handles that the backend did not give; DeviceError DISPOSED.
 */
export function checkProgram(
  program: unknown,
  given: GivenHandles,
  device: DeviceDescription,
): CheckedProgram {
  const run: Run = { uses: new Set(), deliveries: [] };
  const slots = new Map<string, BindingCheck[]>();
  const takes = (slot: string, check: BindingCheck) => {
    slots.set(slot, [...(slots.get(slot) ?? []), check]);
  };
  const operations = listOf(operationOf(given, device, run, takes))(program, 'program');
  if (operations.length > MOST_OPERATIONS)
    refuseOption('program', program, `at most ${MOST_OPERATIONS} operations`);
  return { operations, slots, uses: run.uses, deliver: () => run.deliveries.forEach(deliver) };
}

/**
 * Checks what is bound to the slots of a program.
 * @throws UsageError OPTION_INVALID naming the binding: missing, unknown, or what its operation does not take; DeviceError DISPOSED.
 */
export function checkBindings(
  { slots, ...program }: CheckedProgram,
  bindings: unknown = {},
): CheckedBindings {
  const run: Run = { uses: new Set(program.uses), deliveries: [] };
  for (const held of program.uses) void held.inner;
  const given = membersOf<Record<string, unknown>>(
    Object.fromEntries([...slots.keys()].map((slot) => [slot, anything])) as unknown as Members<
      Record<string, unknown>
    >,
  )(bindings, 'run: bindings');
  const own = [...slots].map(([slot, checks]): [string, Bound] => {
    const [first] = checks.map((check) => check(given[slot], `run: bindings.${slot}`, run));
    return [slot, first as Bound];
  });
  const handOver = () => {
    program.deliver();
    run.deliveries.forEach(deliver);
  };
  return { bindings: Object.fromEntries(own), uses: run.uses, deliver: handOver };
}

function deliver({ own, target }: Delivery): void {
  if (target.length !== own.length) throw arraysChanged('was given away');
  target.set(own);
}
