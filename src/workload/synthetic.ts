/** Batches of lookups, and requests, drawn from an access pattern. */
import type { BagBatch } from '../embedding/bag.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { type AccessPatternName, createStream } from './access-patterns.ts';
import {
  type BagLengths,
  bagOffsets,
  drawBagLengths,
  parseTableBagLengths,
  totalLookups,
} from './bag-lengths.ts';
import { createRandom, floats } from './random.ts';

export interface SyntheticBags {
  readonly tables: readonly { readonly rows: number }[];
  readonly batchSize: number;
  readonly pattern: AccessPatternName;
  /** As parseTableBagLengths takes them. */
  readonly bagLengths: string;
  readonly seed: number;
  /** How many batches. */
  readonly batches: number;
}

/**
 * Consecutive batches; each table has its own stream, its own hot rows and its own bag lengths. int64 indices, offsets
 * [B].
 * @throws UsageError USAGE for bag lengths that are not understood.
 */
export function syntheticBags({
  tables,
  batchSize,
  pattern,
  bagLengths,
  seed,
  batches,
}: SyntheticBags): BagBatch[] {
  const lengths = parseTableBagLengths(bagLengths, tables.length);
  const random = createRandom(seed);
  const streams = tables.map(({ rows }) => createStream(pattern, { rows, seed: random.uint32() }));
  return Array.from({ length: batches }, () => ({
    batchSize,
    bags: streams.map((next, t) => {
      const drawn = drawBagLengths(lengths[t] as BagLengths, batchSize, random);
      return { indices: next(totalLookups(drawn)), offsets: bagOffsets(drawn) };
    }),
  }));
}

export interface SyntheticRequest extends Omit<SyntheticBags, 'batches'> {
  readonly denseFeatures: number;
}

/**
 * One request: the first batch that syntheticBags draws, and dense features uniform in [0, 1).
 * @throws UsageError USAGE as syntheticBags.
 */
export function syntheticRequest({ denseFeatures, ...options }: SyntheticRequest): DlrmRequest {
  const [batch] = syntheticBags({ ...options, batches: 1 }) as [BagBatch];
  const random = createRandom(options.seed);
  const dense = floats(random, options.batchSize * denseFeatures);
  return { ...batch, dense, denseFeatures };
}
