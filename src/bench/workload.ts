/** Lookups for the benchmark: drawn from an access pattern, or read from a trace. */
import { basename } from 'node:path';
import type { BagBatch } from '../embedding/bag.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import type { AccessPatternName } from '../workload/access-patterns.ts';
import { createRandom } from '../workload/random.ts';
import { syntheticBags } from '../workload/synthetic.ts';
import { readTrace, traceBatches } from '../workload/trace.ts';
import type { PatternWorkload } from './embedding-bench.ts';
import type { ModelWorkload } from './model-bench.ts';

/** One pattern or trace: lookups for the embedding stage, and the same lookups as requests for the whole model. */
export interface BenchWorkload {
  readonly pattern: string;
  readonly embedding: PatternWorkload;
  readonly model: ModelWorkload;
}

export interface WorkloadShape {
  readonly architecture: DlrmArchitecture;
  readonly batchSize: number;
  readonly bagLengths: string;
  /** Distinct batches in rotation. */
  readonly batches: number;
  readonly seed: number;
}

/** Batches drawn from an access pattern, each table from its own stream. */
export function patternWorkload(pattern: AccessPatternName, shape: WorkloadShape): BenchWorkload {
  const { architecture, batchSize, bagLengths, seed } = shape;
  const { tables } = architecture;
  const batches = syntheticBags({ tables, batchSize, pattern, bagLengths, seed, batches: shape.batches });
  return workload(pattern, batches, shape);
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
  batches: readonly BagBatch[],
  { architecture, batchSize, seed }: WorkloadShape,
): BenchWorkload {
  const { denseFeatures } = architecture;
  const share = distinctShare(batches[0] as BagBatch);
  const random = createRandom(seed);
  const dense = Float32Array.from({ length: batchSize * denseFeatures }, () => random.float());
  return {
    pattern,
    embedding: { pattern, batches, distinctShare: share },
    model: {
      pattern,
      requests: batches.map((batch) => ({ ...batch, dense, denseFeatures })),
      distinctShare: share,
    },
  };
}

/** Distinct rows over lookups, tables counted apart. */
function distinctShare({ bags }: BagBatch): number {
  const lookups = bags.reduce((sum, { indices }) => sum + indices.length, 0);
  const distinct = bags.reduce(
    (sum, { indices }) => sum + new Set<number | bigint>(indices as Iterable<number | bigint>).size,
    0,
  );
  return lookups === 0 ? 0 : distinct / lookups;
}
