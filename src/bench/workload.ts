/** Lookups for the benchmark: drawn from an access pattern, or read from a trace. */
import { basename } from 'node:path';
import type { BagBatch, Bags, EmbeddingTable, IndexArray } from '../embedding/bag.ts';
import { rowContentBytes } from '../embedding/row-format.ts';
import { tableNumbers } from '../embedding/shared-tables.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import type { AccessPatternName } from '../workload/access-patterns.ts';
import { type Coverage, countRows, coverageCurve } from '../workload/hotness.ts';
import { createRandom, floats } from '../workload/random.ts';
import { syntheticBags } from '../workload/synthetic.ts';
import { readTrace, traceBatches } from '../workload/trace.ts';
import type { PatternWorkload, Traffic } from './embedding-bench.ts';
import type { ModelWorkload } from './model-bench.ts';

/** One pattern or trace: lookups for the embedding stage, and the same lookups as requests for the whole model. */
export interface BenchWorkload {
  readonly pattern: string;
  readonly embedding: PatternWorkload;
  readonly model: ModelWorkload;
  /** How much of the first table's lookups in a batch its hottest rows answer. */
  readonly hotness: readonly Coverage[];
}

export interface WorkloadShape {
  readonly architecture: DlrmArchitecture;
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
    bags: tables.map((_, t) => bags[t % drawn.length] as Bags),
  }));
  return workload(pattern, repeated, shape);
}

/** The first tables, where all are alike and more than one draws for. */
function drawnTables(tables: readonly EmbeddingTable[], bagLengths: string): readonly EmbeddingTable[] {
  const alike = tables.every(({ rows }) => rows === tables[0]?.rows) && !bagLengths.includes('/');
  return alike ? tables.slice(0, MOST_DRAWN) : tables;
}

/** Batches read from a trace; `note` says what was left out. */
export async function traceWorkload(
  file: string,
  shape: WorkloadShape,
): Promise<{ workload: BenchWorkload; note?: string }> {
  const { architecture, batchSize, bagLengths, seed } = shape;
  const trace = await readTrace(file);
  const { batches, dropped } = traceBatches(trace, {
    tables: architecture.tables,
    batchSize,
    bagLengths,
    seed,
    batches: shape.batches,
  });
  const name = basename(file).replace(/(\.500K)?(\.txt|\.pt)?(\.gz)?$/, '');
  const note =
    dropped > 0 ? `note: ${file}: ${dropped} lookups past the tables' rows were dropped` : undefined;
  return { workload: workload(name, batches, shape), ...(note === undefined ? {} : { note }) };
}

function workload(
  pattern: string,
  drawn: readonly BagBatch[],
  { architecture, batchSize, seed, indexType = 'int64' }: WorkloadShape,
): BenchWorkload {
  const narrow = onceEach(narrowBags);
  const batches =
    indexType === 'int64' ? drawn : drawn.map((batch) => ({ ...batch, bags: batch.bags.map(narrow) }));
  const { denseFeatures } = architecture;
  const traffic = trafficOf(batches[0] as BagBatch, architecture.tables);
  const share = traffic.lookups === 0 ? 0 : traffic.distinct / traffic.lookups;
  const random = createRandom(seed);
  const [first] = batches[0]?.bags ?? [];
  const dense = floats(random, batchSize * denseFeatures);
  return {
    pattern,
    embedding: { pattern, batches, distinctShare: share, traffic },
    model: {
      pattern,
      requests: batches.map((batch) => ({ ...batch, dense, denseFeatures })),
      distinctShare: share,
    },
    hotness: first === undefined ? [] : coverageCurve(countRows(first.indices)),
  };
}

/** Drawn indices are rows of tables that have fewer than 2^31: their low halves are their values. */
function narrow(values: IndexArray): Int32Array {
  if (values instanceof Int32Array) return values;
  const halves = new Int32Array(values.buffer, values.byteOffset, 2 * values.length);
  const narrowed = new Int32Array(values.length);
  for (let i = 0; i < narrowed.length; i++) narrowed[i] = halves[2 * i] as number;
  return narrowed;
}

function narrowBags(bags: Bags): Bags {
  return { ...bags, indices: narrow(bags.indices), offsets: narrow(bags.offsets) };
}

/** Works out what belongs to an object once, however often it is asked for. */
function onceEach<K extends object, V>(work: (of: K) => V): (of: K) => V {
  const known = new Map<K, V>();
  return (of) => {
    const value = known.get(of) ?? work(of);
    known.set(of, value);
    return value;
  };
}

/** How many rows of their table some features look up. */
function distinctRows(features: readonly Bags[], rowsOf: (indices: IndexArray) => Int32Array): number {
  const [rows] = features.map(({ indices }) => rowsOf(indices));
  if (features.length === 1) return rows?.length ?? 0;
  return new Set(features.flatMap(({ indices }) => [...rowsOf(indices)])).size;
}

/** What a batch must move, whatever the kernel. */
function trafficOf({ batchSize, bags }: BagBatch, tables: readonly EmbeddingTable[]): Traffic {
  const rowsOf = onceEach((indices: IndexArray) => countRows(indices).rows);
  const numbers = tableNumbers(tables);
  const parts = bags.map(({ indices, offsets, weights }, t): Traffic => {
    const table = tables[t] as EmbeddingTable;
    const bytes = rowContentBytes(table);
    const number = numbers[t] as number;
    const sharers = bags.filter((_, other) => numbers[other] === number);
    // Rows of a table that several features read are counted with the first.
    const distinct = numbers.indexOf(number) === t ? distinctRows(sharers, rowsOf) : 0;
    const inputBytes = indices.byteLength + offsets.byteLength + (weights?.byteLength ?? 0);
    return {
      lookups: indices.length,
      distinct,
      distinctRowBytes: distinct * bytes,
      lookupRowBytes: indices.length * bytes,
      otherBytes: inputBytes + batchSize * table.dim * Float32Array.BYTES_PER_ELEMENT,
    };
  });
  const sum = (key: keyof Traffic) => parts.reduce((total, part) => total + part[key], 0);
  return {
    lookups: sum('lookups'),
    distinct: sum('distinct'),
    distinctRowBytes: sum('distinctRowBytes'),
    lookupRowBytes: sum('lookupRowBytes'),
    otherBytes: sum('otherBytes'),
  };
}
