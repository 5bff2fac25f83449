/** Benchmark results: versioned JSON whose rows each say what was run, on what, and how it was timed. */
import Type, { type Static } from 'typebox';
import { DEVICE_KINDS } from '../device.ts';
import { ROW_FORMATS, type RowFormat } from '../embedding/row-format.ts';
import { planSchema } from '../plan/plan.ts';
import { TECHNIQUES } from '../plan/techniques/registry.ts';
import { timingSchema } from './statistics.ts';

export const RESULTS_VERSION = 1;

/** Where the arrays of requests are; pinned: the device copies them without staging. */
export const PLACES = { host: 'host memory', pinned: 'pinned host memory', device: 'device memory' } as const;

/** Of an embedding: an int32. */
const MOST_DIM = 2 ** 31 - 1;

const strict = { additionalProperties: false } as const;

export const deviceSchema = Type.Object(
  {
    kind: Type.Enum([...DEVICE_KINDS]),
    id: Type.String(),
    name: Type.String(),
    architecture: Type.String(),
    threads: Type.Integer({ minimum: 1 }),
    memoryBytes: Type.Number({ minimum: 0 }),
    versions: Type.Record(Type.String(), Type.String()),
    gpu: Type.Optional(
      Type.Object(
        {
          multiprocessors: Type.Integer({ minimum: 1 }),
          l2Bytes: Type.Integer({ minimum: 0 }),
          persistingL2Bytes: Type.Integer({ minimum: 0 }),
        },
        strict,
      ),
    ),
  },
  strict,
);

/** Times of one launch, each by a pair of events of its own: for one table, or for all. */
const launchTimesSchema = Type.Object(
  {
    medianUs: Type.Number({ minimum: 0 }),
    p10Us: Type.Number({ minimum: 0 }),
    p90Us: Type.Number({ minimum: 0 }),
    samples: Type.Integer({ minimum: 1 }),
  },
  strict,
);

const kernelSchema = Type.Object(
  {
    id: Type.String(),
    registers: Type.Integer({ minimum: 0, description: 'of a thread' }),
    localBytes: Type.Integer({ minimum: 0, description: 'of a thread: stack and spilled registers' }),
    sharedBytes: Type.Integer({ minimum: 0, description: 'of a block' }),
    warps: Type.Number({ minimum: 0, description: 'that live on a multiprocessor at once' }),
    occupancy: Type.Number({ minimum: 0, maximum: 1 }),
  },
  strict,
);

/** What every row has in common: enough to read it without the rest of the file. */
const rowBase = {
  /** Whose code ran: `hotrow`, or a peer with its version. */
  implementation: Type.String(),
  device: Type.String(),
  /** Access pattern or trace file. */
  pattern: Type.String(),
  /** The plan's label, or the peer's operator. */
  variant: Type.String(),
  plan: Type.Optional(planSchema),
  batchSize: Type.Integer({ minimum: 1 }),
  tables: Type.Integer({ minimum: 1 }),
  /** Lookups of one batch, all tables. */
  lookups: Type.Integer({ minimum: 0 }),
  /** Share of distinct rows among the lookups of a batch. */
  distinctShare: Type.Number({ minimum: 0, maximum: 1 }),
  cacheState: Type.String(),
  timing: timingSchema,
};

const embeddingRowSchema = Type.Object(
  {
    stage: Type.Literal('embedding'),
    ...rowBase,
    /** The plan that the search found best on this pattern. */
    best: Type.Boolean(),
    /** The technique that this row varies; rows of a comparison have none. */
    sweep: Type.Optional(Type.Enum(TECHNIQUES.map(({ name }) => name))),
    /** Where launches are timed: the kernel that pools bags, the bringing in of a table's pinned rows. */
    launch: Type.Optional(launchTimesSchema),
    /** Of a peer; absent: a fused plan's launch serves all tables, any other's one. */
    tablesPerLaunch: Type.Optional(Type.Integer({ minimum: 1 })),
    pin: Type.Optional(launchTimesSchema),
    /** The compiled kernel; of tables of several shapes, the first table's. */
    kernel: Type.Optional(kernelSchema),
    /** Rows asked for, repeats included, times row bytes, over the median. */
    gigabytesPerSecond: Type.Number({ minimum: 0 }),
    /** The speed of light: what a batch takes at the ceilings of this run, and its share of the median. */
    limitMs: Type.Optional(Type.Number({ minimum: 0 })),
    limitShare: Type.Optional(Type.Number({ minimum: 0 })),
    /** Speed relative to the first plan, which is the plain kernel or the paper's, on the same pattern in the same run. */
    speedup: Type.Number({ minimum: 0 }),
  },
  strict,
);

export const modelRowSchema = Type.Object(
  {
    stage: Type.Literal('model'),
    ...rowBase,
    /**
     * What the plan is in the comparison: the plain kernel, the one found best on this pattern's lookups, or the one that
     * was given; by the paper's protocol also the paper's kernel, and that with the techniques found best on this pattern's
     * lookups. Absent for peers, and from results of before there were roles.
     */
    role: Type.Optional(
      Type.Union([
        Type.Literal('plain'),
        Type.Literal('tuned'),
        Type.Literal('given'),
        Type.Literal('artifact'),
        Type.Literal('artifact-tuned'),
      ]),
    ),
    /** How the dense layers multiplied. */
    precision: Type.Optional(Type.String()),
    /** Where the arrays of requests were. */
    inputs: Type.Optional(Type.Union([Type.Literal('host'), Type.Literal('pinned'), Type.Literal('device')])),
    /** Batches under way at once, for `batchMs` and `samplesPerSecond`; `timing` is the latency of one alone. */
    inFlight: Type.Optional(Type.Integer({ minimum: 1 })),
    batchMs: Type.Optional(Type.Number({ minimum: 0 })),
    /** What came over from host memory, and its share of what the connection carries. */
    inputGigabytesPerSecond: Type.Optional(Type.Number({ minimum: 0 })),
    inputLimitShare: Type.Optional(Type.Number({ minimum: 0 })),
    /** Medians of device time per stage, which may overlap; absent for peers. */
    embeddingMs: Type.Optional(Type.Number({ minimum: 0 })),
    bottomMs: Type.Optional(Type.Number({ minimum: 0 })),
    interactionMs: Type.Optional(Type.Number({ minimum: 0 })),
    topMs: Type.Optional(Type.Number({ minimum: 0 })),
    copyMs: Type.Optional(Type.Number({ minimum: 0 })),
    hostMs: Type.Optional(Type.Number({ minimum: 0 })),
    /** Embedding time over that of all stages. */
    embeddingShare: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    samplesPerSecond: Type.Number({ minimum: 0 }),
    speedup: Type.Number({ minimum: 0 }),
  },
  strict,
);

/** How hot one pattern's lookups are: of the first table in one batch, the share that the hottest rows answer. */
const hotnessSchema = Type.Object(
  {
    pattern: Type.String(),
    points: Type.Array(
      Type.Tuple([
        Type.Integer({ minimum: 1, description: 'the hottest rows' }),
        Type.Number({ minimum: 0, maximum: 1, description: 'share of the lookups' }),
      ]),
    ),
  },
  strict,
);

export const resultsSchema = Type.Object(
  {
    version: Type.Literal(RESULTS_VERSION),
    kind: Type.Literal('bench'),
    createdAt: Type.String(),
    command: Type.String(),
    hotrow: Type.String(),
    device: deviceSchema,
    preset: Type.String(),
    /** The tables that were looked up. */
    collection: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          rows: Type.Integer({ minimum: 1 }),
          dim: Type.Integer({ minimum: 1, maximum: MOST_DIM }),
          rowFormat: Type.Enum(ROW_FORMATS as RowFormat[]),
          mode: Type.String(),
          /** The number of the feature's table, where features share some. */
          table: Type.Optional(Type.Integer({ minimum: 0 })),
        },
        strict,
      ),
    ),
    workload: Type.Object(
      {
        bagLengths: Type.String(),
        indexType: Type.String(),
        seed: Type.Integer(),
        indexChecking: Type.String(),
      },
      strict,
    ),
    hotness: Type.Optional(Type.Array(hotnessSchema)),
    /** How times were taken. */
    protocol: Type.String(),
    ceilings: Type.Object(
      {
        readGigabytesPerSecond: Type.Number({ minimum: 0 }),
        cacheReadGigabytesPerSecond: Type.Optional(Type.Number({ minimum: 0 })),
        hostCopyGigabytesPerSecond: Type.Optional(Type.Number({ minimum: 0 })),
        multiplyAddsPerSecond: Type.Number({ minimum: 0 }),
      },
      strict,
    ),
    embedding: Type.Array(embeddingRowSchema),
    model: Type.Array(modelRowSchema),
    /** What was not run and why, what a plan brought about. */
    notes: Type.Array(Type.String()),
  },
  { ...strict, $id: 'hotrow-results-1', title: 'Hotrow benchmark results, version 1' },
);

export type BenchResults = Static<typeof resultsSchema>;
export type EmbeddingRow = Static<typeof embeddingRowSchema>;
export type LaunchTimes = Static<typeof launchTimesSchema>;
export type ModelRow = Static<typeof modelRowSchema>;

const STAGES = [
  ...(['embeddingMs', 'bottomMs', 'interactionMs', 'topMs', 'copyMs', 'hostMs'] as const),
  'embeddingShare',
] as const;
/** A row whose stages were timed. */
export type StagedModelRow = ModelRow & Required<Pick<ModelRow, (typeof STAGES)[number]>>;

export function hasStages(row: ModelRow): row is StagedModelRow {
  return STAGES.every((stage) => row[stage] !== undefined);
}
