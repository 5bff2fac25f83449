/** Batches of lookups, and requests, drawn from an access pattern. */
import type { BagBatch } from '../embedding/bag.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { type AccessPatternName, LookupStream } from './access-patterns.ts';
import { bagOffsets, drawBagLengths, parseTableBagLengths, totalLookups } from './bag-lengths.ts';
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
  const streams = tables.map(({ rows }) => new LookupStream(pattern, { rows, seed: random.uint32() }));
  return Array.from({ length: batches }, () => {
    const drawn = lengths.map((ofTable) => drawBagLengths(ofTable, batchSize, random));
    const indices = LookupStream.draw(streams, drawn.map(totalLookups));
    return {
      batchSize,
      bags: drawn.map((ofBags, t) => ({
        indices: indices[t] as BigInt64Array,
        offsets: bagOffsets(ofBags),
      })),
    };
  });
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
