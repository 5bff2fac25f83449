/** What callers choose and check plans for: a device and tables. */

import {
  type Check,
  finite,
  listOf,
  oneOf,
  optional,
  reading,
  record,
  refuseOption,
  someOf,
  text,
  whole,
} from '../checks/value.ts';
import { DEVICE_KINDS, type GpuLimits, type RecordedDevice } from '../device.ts';
import { MOST_DIM, MOST_ROWS } from '../embedding/check-tables.ts';
import { ROW_FORMATS } from '../embedding/row-format.ts';
import { DEVICE_LIMITS } from './occupancy.ts';
import { KERNELS, type PlanContext } from './plan-context.ts';

const LIMITS = someOf<GpuLimits>({
  multiprocessors: whole(1),
  l2Bytes: whole(),
  persistingL2Bytes: whole(),
});

const versions: Check<RecordedDevice['versions']> = (value, at) => {
  const given = record(value, at);
  return reading(at, () =>
    Object.fromEntries(
      Object.entries(given).map(([name, version]) => [name, text(version, `${at}.${name}`)]),
    ),
  );
};

const DEVICE = someOf<RecordedDevice>({
  kind: oneOf(DEVICE_KINDS),
  id: text,
  name: text,
  architecture: text,
  threads: whole(1),
  memoryBytes: finite,
  versions,
  gpu: optional(LIMITS),
});

type ContextTable = PlanContext['tables'][number];

/** The weight is compared by identity alone. */
const weight: Check<NonNullable<ContextTable['weight']>> = (value, at) =>
  record(value, at) as unknown as NonNullable<ContextTable['weight']>;

const TABLE = someOf<ContextTable>({
  rows: whole(1, MOST_ROWS),
  dim: whole(1, MOST_DIM),
  rowFormat: oneOf(ROW_FORMATS),
  weight: optional(weight),
});

const CONTEXT = someOf<PlanContext>({
  device: DEVICE,
  kernel: optional(oneOf(KERNELS)),
  blockThreads: optional(whole(1, DEVICE_LIMITS.threadsPerBlock)),
  tables: listOf(TABLE),
});

const checked = new WeakSet<object>();

/** A context to plan for, read once. @throws UsageError OPTION_INVALID. */
export const planContext: Check<PlanContext> = (value, at) => {
  if (typeof value === 'object' && value !== null && checked.has(value)) return value as PlanContext;
  const own = Object.freeze(CONTEXT(value, at));
  if (own.tables.length > MOST_TABLES) refuseOption(`${at}.tables`, value, `at most ${MOST_TABLES} tables`);
  checked.add(own);
  return own;
};

/** A checked context for another kernel or its blocks, or for some of its tables, which need no check again. */
export function derivedContext(
  context: PlanContext,
  change: Partial<Pick<PlanContext, 'kernel' | 'blockThreads' | 'tables'>>,
): PlanContext {
  const own = Object.freeze({ ...planContext(context, 'context'), ...change });
  checked.add(own);
  return own;
}

const MOST_TABLES = 2 ** 16;
