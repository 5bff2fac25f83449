/** Characterization results: versioned JSON of what limits each kernel variant, by compiler report and by counters. */
import Type, { type Static } from 'typebox';
import { deviceSchema, modelRowSchema } from '../bench/results.ts';
import { plainPlan, planLabel, planSchema } from '../plan/plan.ts';

export const CHARACTERIZE_VERSION = 1;

const strict = { additionalProperties: false } as const;
const share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description });
const count = (description: string) => Type.Number({ minimum: 0, description });

/** What the compiler and the occupancy calculator say of one kernel on one GPU; no GPU is needed. */
const staticRowSchema = Type.Object(
  {
    /** The plan's label. */
    variant: Type.String(),
    plan: planSchema,
    /** The GPU that the figures are for, such as `H200`. */
    gpu: Type.String(),
    /** Its architecture, such as `sm_90`. */
    architecture: Type.String(),
    /** The function's name. */
    kernel: Type.String(),
    registers: Type.Integer({ minimum: 0, description: 'of a thread' }),
    spillBytes: Type.Integer({ minimum: 0, description: 'of a thread: stores of spilled registers' }),
    stackBytes: Type.Integer({ minimum: 0, description: 'of a thread' }),
    sharedBytes: Type.Integer({ minimum: 0, description: 'of a block' }),
    blockThreads: Type.Integer({ minimum: 1 }),
    blocksPerMultiprocessor: Type.Integer({ minimum: 0 }),
    warps: Type.Integer({ minimum: 0, description: 'that live on a multiprocessor at once' }),
    occupancy: share('warps over the most that the multiprocessor holds'),
    limiter: Type.Union([
      Type.Literal('registers'),
      Type.Literal('shared memory'),
      Type.Literal('warps'),
      Type.Literal('blocks'),
    ]),
    /** Instructions of the kernel's machine code by class, where a disassembler was found. */
    instructions: Type.Optional(Type.Record(Type.String(), Type.Integer({ minimum: 0 }))),
  },
  strict,
);

/** Tables that a kernel treats alike, of which one was measured. */
const groupSchema = Type.Object(
  {
    measured: Type.String({ description: 'the table that was measured' }),
    tables: Type.Integer({ minimum: 1, description: 'that it stands for, itself included' }),
    rows: Type.Integer({ minimum: 0, description: 'of the measured table, as is what follows' }),
    dim: Type.Integer({ minimum: 1 }),
    rowFormat: Type.String(),
    pooling: Type.String(),
    bagLength: count('lookups of a bag, mean'),
    distinctShare: share('of the lookups of a batch, on the coldest pattern'),
  },
  strict,
);

/** What the counters say of one kernel on one access pattern: the mean of its launches. */
const counterRowSchema = Type.Object(
  {
    pattern: Type.String(),
    variant: Type.String(),
    plan: planSchema,
    kernel: Type.String(),
    /** Where tables are launched one by one. */
    group: Type.Optional(groupSchema),
    launches: Type.Integer({ minimum: 1 }),
    timeUs: count('of one launch, by the profiler'),
    pairUs: Type.Optional(
      count('of one launch, by a pair of events around it, as in the benchmark: without the profiler'),
    ),
    /** Tables that one launch serves. */
    tablesPerLaunch: Type.Integer({ minimum: 1 }),
    registers: Type.Integer({ minimum: 0 }),
    theoreticalWarps: count('per multiprocessor'),
    achievedWarps: count('per multiprocessor, mean over the active cycles'),
    occupancy: share('achieved warps over the most that a multiprocessor holds'),
    activeShare: share('of the cycles of the launch in which a multiprocessor had a warp, mean'),
    issueSlotUse: share('of the cycles in which a scheduler issued'),
    /** Cycles that warps waited for memory, per issued instruction. */
    longScoreboardPerIssue: count('cycles'),
    /** Warp cycles per issued instruction by reason, the largest first. */
    stalls: Type.Array(Type.Object({ reason: Type.String(), perIssue: count('cycles') }, strict)),
    l1HitRate: share('of the sectors asked of L1'),
    l2HitRate: share('of the sectors asked of L2'),
    dramBytes: count('read and written'),
    dramShare: share("of the memory's peak throughput"),
    l1Share: share("of L1's peak throughput"),
    l2Share: share("of L2's peak throughput"),
    fabricShare: Type.Optional(share('of the peak throughput of the fabric between the halves of L2')),
    smShare: share("of the multiprocessors' peak instruction throughput"),
    /** What bounds the kernel, and the figures that say so. */
    limiter: Type.String(),
    because: Type.String(),
  },
  strict,
);

/** Times of one variant's launches by events, where no counters were read. */
const launchRowSchema = Type.Object(
  {
    pattern: Type.String(),
    variant: Type.String(),
    plan: planSchema,
    /** Where tables are launched one by one. */
    group: Type.Optional(groupSchema),
    launches: Type.Integer({ minimum: 1 }),
    timeUs: count('of one launch, by a pair of events around it; median'),
    /** Tables that one launch serves. */
    tablesPerLaunch: Type.Integer({ minimum: 1 }),
  },
  strict,
);

export const characterizationSchema = Type.Object(
  {
    version: Type.Literal(CHARACTERIZE_VERSION),
    kind: Type.Literal('characterize'),
    createdAt: Type.String(),
    command: Type.String(),
    hotrow: Type.String(),
    /** Where counters were read; absent from a static report. */
    device: Type.Optional(deviceSchema),
    /** Compiler and profiler, with their versions. */
    tools: Type.Record(Type.String(), Type.String()),
    static: Type.Array(staticRowSchema),
    counters: Type.Array(counterRowSchema),
    /** What was timed where no counters were read. */
    launches: Type.Optional(Type.Array(launchRowSchema)),
    /** Where the time of the whole model goes, as the benchmark has it. */
    model: Type.Optional(Type.Array(modelRowSchema)),
    partial: Type.Optional(
      Type.Union([Type.Literal('interrupted'), Type.Literal('out of time')], {
        description: 'why some of it was left out; the notes say what',
      }),
    ),
    /** How things were measured; what was left out and why. */
    notes: Type.Array(Type.String()),
  },
  { ...strict, $id: 'hotrow-characterization-1', title: 'Hotrow characterization results, version 1' },
);

export type Characterization = Static<typeof characterizationSchema>;
export type StaticRow = Static<typeof staticRowSchema>;
export type CounterRow = Static<typeof counterRowSchema>;
export type LaunchRow = Static<typeof launchRowSchema>;
export type MeasuredGroup = Static<typeof groupSchema>;

/** µs per table: a launch serves one, or several alike. */
export function tableUs({ timeUs, tablesPerLaunch }: Pick<LaunchRow, 'timeUs' | 'tablesPerLaunch'>): number {
  return timeUs / tablesPerLaunch;
}

const PLAIN = planLabel(plainPlan('cuda'));

type TimedRow = Pick<LaunchRow, 'pattern' | 'variant' | 'group' | 'timeUs' | 'tablesPerLaunch'>;

/** µs per table, mean over the tables that the rows of a plan on a pattern stand for; undefined: there are no rows. */
export function meanTableUs(
  rows: readonly Pick<TimedRow, 'group' | 'timeUs' | 'tablesPerLaunch'>[],
): number | undefined {
  const standsFor = ({ group, tablesPerLaunch }: (typeof rows)[number]) => group?.tables ?? tablesPerLaunch;
  const tables = rows.reduce((sum, row) => sum + standsFor(row), 0);
  return tables === 0
    ? undefined
    : rows.reduce((sum, row) => sum + tableUs(row) * standsFor(row), 0) / tables;
}

/** The rows of the plain kernel. */
export function plainAmong<Row extends Pick<LaunchRow, 'variant'>>(rows: readonly Row[]): Row[] {
  return rows.filter(({ variant }) => variant === PLAIN);
}

/** µs of a table under the plain kernel on the row's pattern: of the same tables, or the mean of all. */
export function plainTableUs(row: TimedRow, rows: readonly TimedRow[]): number | undefined {
  const plain = plainAmong(rows).filter(
    ({ pattern, group }) =>
      pattern === row.pattern && (row.group === undefined || group?.measured === row.group.measured),
  );
  return meanTableUs(plain);
}

/** The groups of some rows, each once. */
export function groupsOf(rows: readonly Pick<LaunchRow, 'group'>[]): MeasuredGroup[] {
  return [
    ...new Map(rows.flatMap(({ group }) => (group === undefined ? [] : [[group.measured, group]]))).values(),
  ];
}

/** `18 like emb_l.3`. */
export function groupLabel({ tables, measured }: MeasuredGroup): string {
  return `${tables} like ${measured}`;
}
