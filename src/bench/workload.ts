/** Lookups for the benchmark: drawn from an access pattern, or a user's own traffic. */
import { at } from '../at.ts';
import type { BagBatch, Bags, EmbeddingTable, IndexArray } from '../embedding/bag.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import type { AccessPatternName } from '../workload/access-patterns.ts';
import { distinctShare, lookedUpRows, type Traffic, trafficOf } from '../workload/batch-traffic.ts';
import { type Coverage, countRows, coverageCurve } from '../workload/hotness.ts';
import { asInt32 } from '../workload/index-values.ts';
import { onceEach } from '../workload/once-each.ts';
import { createRandom, floats } from '../workload/random.ts';
import type { CategoryOptions } from '../workload/request-file.ts';
import { syntheticBags } from '../workload/synthetic.ts';
import type { TrafficSource } from '../workload/traffic/sources.ts';
import { readTraffic } from '../workload/traffic/traffic.ts';

/** Lookups of one pattern or trace: several batches, so that a run does not find the last run's rows in cache. */
export interface EmbeddingWorkload {
  readonly pattern: string;
  readonly batches: readonly BagBatch[];
  /** Share of distinct rows among the lookups of a batch. */
  readonly distinctShare: number;
  /** Of the first batch, which stands for the others. */
  readonly traffic: Traffic;
}

/** Requests of one pattern. */
export interface ModelWorkload {
  readonly pattern: string;
  readonly requests: readonly DlrmRequest[];
  readonly distinctShare: number;
}

/** One pattern or trace: lookups for the embedding stage, and the same lookups as requests for the whole model. */
export interface BenchWorkload {
  readonly pattern: string;
  readonly embedding: EmbeddingWorkload;
  readonly model: ModelWorkload;
  /** How much of the first table's lookups in a batch its hottest rows answer. */
  readonly hotness: readonly Coverage[];
  /** Whether bags are as they were recorded, and not of drawn lengths. */
  readonly recorded: boolean;
  /** What of the traffic was assumed, left out or repeated, for people. */
  readonly notes: readonly string[];
}

export interface WorkloadShape {
  readonly architecture: ModelArchitecture;
  readonly batchSize: number;
  readonly bagLengths: string;
  /** Distinct batches in rotation. */
  readonly batches: number;
  readonly seed: number;
  /** Default: int64. */
  readonly indexType?: IndexType;
}

/** The type of indices and offsets. */
export type IndexType = 'int32' | 'int64';
export const INDEX_TYPES: readonly IndexType[] = ['int64', 'int32'];

/** Tables that are drawn for; of hundreds of equal ones, the others get the same lookups again, each in its own rows. */
export const MOST_DRAWN = 32;

/** Batches drawn from an access pattern, each table from its own stream. */
export function patternWorkload(pattern: AccessPatternName, shape: WorkloadShape): BenchWorkload {
  const { architecture, batchSize, bagLengths, seed } = shape;
  const { tables } = architecture;
  const drawn = drawnTables(tables, bagLengths);
  const batches = syntheticBags({
    tables: drawn,
    batchSize,
    pattern,
    bagLengths,
    seed,
    batches: shape.batches,
  });
  const repeated = batches.map(({ bags }) => ({
    batchSize,
    bags: tables.map((_, t) => at(bags, t % drawn.length)),
  }));
  return workload(pattern, repeated, shape);
}

/** The first tables, where all are alike and more than one draws for. */
function drawnTables(tables: readonly EmbeddingTable[], bagLengths: string): readonly EmbeddingTable[] {
  const alike = tables.every(({ rows }) => rows === tables[0]?.rows) && !bagLengths.includes('/');
  return alike ? tables.slice(0, MOST_DRAWN) : tables;
}

/**
 * Batches of a user's own traffic. `batchSize`: of its batches, in place of its own or the shape's.
 * @throws as readTraffic.
 */
export async function trafficWorkload(
  source: TrafficSource,
  shape: WorkloadShape,
  { batchSize, ...categories }: CategoryOptions & { readonly batchSize?: number } = {},
): Promise<BenchWorkload> {
  const traffic = await readTraffic(
    source,
    shape.architecture,
    {
      ...{ bagLengths: shape.bagLengths, batches: shape.batches, seed: shape.seed },
      usualBatchSize: shape.batchSize,
      ...(batchSize === undefined ? {} : { batchSize }),
    },
    categories,
  );
  const { recorded, notes } = traffic;
  return { ...workload(traffic.name, traffic.batches, shape), recorded, notes };
}

function workload(
  pattern: string,
  given: readonly (BagBatch | DlrmRequest)[],
  { architecture, seed, indexType = 'int64' }: WorkloadShape,
): BenchWorkload {
  const convert = onceEach((bags: Bags) => withIndexType(bags, indexType));
  const batches = given.map(
    ({ batchSize, bags, users }): BagBatch => ({
      batchSize,
      bags: bags.map(convert),
      ...(users === undefined ? {} : { users }),
    }),
  );
  const { denseFeatures } = architecture;
  const traffic = trafficOf(at(batches, 0), architecture.tables);
  const share = distinctShare(traffic);
  const [first] = batches[0]?.bags ?? [];
  const drawn = floats(createRandom(seed), (batches[0]?.batchSize ?? 0) * denseFeatures);
  return {
    pattern,
    embedding: { pattern, batches, distinctShare: share, traffic },
    model: {
      pattern,
      requests: batches.map((batch, b): DlrmRequest => {
        const own = at(given, b);
        return { ...batch, dense: 'dense' in own ? own.dense : drawn, denseFeatures };
      }),
      distinctShare: share,
    },
    hotness: first === undefined ? [] : coverageCurve(countRows(lookedUpRows(first.indices))),
    recorded: false,
    notes: [],
  };
}

function withIndexType(bags: Bags, indexType: IndexType): Bags {
  const convert = indexType === 'int64' ? widen : asInt32;
  return { ...bags, indices: convert(bags.indices), offsets: convert(bags.offsets) };
}

/** As int64, in halves: by way of BigInt it would take many times as long. */
function widen(values: IndexArray): BigInt64Array {
  if (values instanceof BigInt64Array) return values;
  const wide = new BigInt64Array(values.length);
  const halves = new Int32Array(wide.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    halves[2 * i] = value;
    halves[2 * i + 1] = value >> 31;
  }
  return wide;
}
