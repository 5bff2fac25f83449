/** Results of a load: versioned JSON of what a server did at each rate. */
import Type, { type Static } from 'typebox';

export const LOAD_VERSION = 1;

const strict = { additionalProperties: false } as const;
const count = (description?: string) =>
  Type.Integer({ minimum: 0, ...(description === undefined ? {} : { description }) });
const ms = (description?: string) =>
  Type.Number({ minimum: 0, ...(description === undefined ? {} : { description }) });
const spreadSchema = Type.Object(
  {
    least: Type.Number({ minimum: 0 }),
    mean: Type.Number({ minimum: 0 }),
    most: Type.Number({ minimum: 0 }),
  },
  strict,
);

const quantileSchema = Type.Object(
  {
    quantile: Type.Number({ minimum: 0, maximum: 1 }),
    ms: ms(),
    lowMs: Type.Optional(ms('the distribution’s quantile is not below it, with 97.5 % confidence')),
    highMs: Type.Optional(ms('nor above this one; absent where too few were measured to say')),
  },
  strict,
);

/** One run at one rate. */
const runSchema = Type.Object(
  {
    step: Type.Union([Type.Literal('rate'), Type.Literal('bracket'), Type.Literal('confirm')], {
      description: '`bracket` and `confirm`: of a search',
    }),
    rate: Type.Number({ minimum: 0, description: 'arrivals per second that were asked for' }),
    seconds: Type.Number({
      minimum: 0,
      description: 'of arrivals that count, the warm-up before them left out',
    }),
    scheduled: count('arrivals that count'),
    inTime: count('answered within the deadline; without one, answered'),
    late: count('answered after the deadline'),
    refused: count('503'),
    dropped: count('504'),
    failed: count('other statuses, broken connections, answers that are none'),
    unanswered: count('by the end of the run'),
    waited: count('for a connection, all of them being busy'),
    answeredPerSecond: Type.Number({ minimum: 0 }),
    samplesPerSecond: Type.Number({ minimum: 0 }),
    /** From the scheduled arrival to the answer; of what was not answered, to the end of the run. */
    latency: Type.Object(
      {
        count: count(),
        meanMs: ms(),
        mostMs: ms(),
        quantiles: Type.Array(quantileSchema),
        /** Of so many requests, one takes longer than this. */
        slowest: Type.Array(Type.Tuple([Type.Number({ minimum: 1 }), Type.Number({ minimum: 0 })])),
      },
      strict,
    ),
    /** What the generator itself sent late. */
    lag: Type.Object({ p50Ms: ms(), p99Ms: ms(), mostMs: ms() }, strict),
    /** Refusals, drops and failures by status and code. */
    why: Type.Array(Type.Object({ what: Type.String(), count: count() }, strict)),
    /** Of a search: whether the bound held, and what did not. */
    held: Type.Optional(Type.Boolean()),
    because: Type.Optional(Type.String()),
  },
  strict,
);

export const loadSchema = Type.Object(
  {
    version: Type.Literal(LOAD_VERSION),
    kind: Type.Literal('load'),
    createdAt: Type.String(),
    command: Type.String(),
    hotrow: Type.String(),
    server: Type.Object(
      {
        url: Type.String({ description: 'without credentials' }),
        software: Type.Optional(Type.String({ description: 'as the server names itself' })),
        model: Type.String(),
        features: count(),
        denseFeatures: count(),
      },
      strict,
    ),
    requests: Type.Object(
      {
        source: Type.String({ description: 'an access pattern, or recorded traffic' }),
        bagLengths: Type.String(),
        /** Of a request. */
        samples: spreadSchema,
        /** Of a request, its head included. */
        bytes: spreadSchema,
        indexType: Type.String(),
        userFeatures: Type.Optional(Type.String()),
        bodies: count('different requests of a process'),
        deadlineMs: Type.Optional(ms('the server was told')),
        priority: Type.Optional(count()),
        seed: Type.Integer(),
      },
      strict,
    ),
    generator: Type.Object(
      {
        processes: Type.Integer({ minimum: 1 }),
        cores: Type.Integer({ minimum: 1, description: 'of its machine' }),
        connections: Type.Integer({ minimum: 1, description: 'of a process, at most' }),
        opened: count('connections, all processes'),
        pacing: Type.Union([Type.Literal('spin'), Type.Literal('sleep')]),
      },
      strict,
    ),
    search: Type.Optional(
      Type.Object(
        {
          quantile: Type.Number({ minimum: 0, maximum: 1 }),
          boundMs: ms(),
          inTimeShare: Type.Number({ minimum: 0, maximum: 1 }),
          rate: Type.Optional(Type.Number({ minimum: 0, description: 'absent: none was found' })),
        },
        strict,
      ),
    ),
    runs: Type.Array(runSchema),
    partial: Type.Optional(Type.Boolean({ description: 'it was interrupted' })),
    notes: Type.Array(Type.String()),
  },
  { ...strict, $id: 'hotrow-load-1', title: 'Hotrow load results, version 1' },
);

export type LoadResults = Static<typeof loadSchema>;
export type LoadRun = Static<typeof runSchema>;
