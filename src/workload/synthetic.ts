/** Batches of lookups, and requests, drawn from an access pattern. */
import { at } from '../at.ts';
import { allocated } from '../checks/arguments.ts';
import { listOf, membersOf, someOf, text, whole } from '../checks/value.ts';
import type { BagBatch } from '../embedding/bag.ts';
import { MOST_SAMPLES } from '../embedding/check-bags.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { type AccessPatternName, LookupStream, patternName } from './access-patterns.ts';
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

const MEMBERS = {
  tables: listOf(someOf<SyntheticBags['tables'][number]>({ rows: whole(1) })),
  batchSize: whole(0, MOST_SAMPLES),
  pattern: patternName,
  bagLengths: text,
  seed: whole(),
};
/** More are no batches to keep in memory. */
const MOST_BATCHES = 2 ** 20;
const BAGS = membersOf<SyntheticBags>({ ...MEMBERS, batches: whole(0, MOST_BATCHES) });
const REQUEST = membersOf<SyntheticRequest>({ ...MEMBERS, denseFeatures: whole() });

/**
 * Consecutive batches; each table has its own stream, its own hot rows and its own bag lengths. int64 indices, offsets
 * [B].
 * @throws UsageError USAGE for bag lengths that are not understood, OPTION_INVALID; DeviceError OUT_OF_MEMORY.
 */
export function syntheticBags(options: SyntheticBags): BagBatch[] {
  const { tables, batchSize, pattern, bagLengths, seed, batches } = BAGS(options, 'syntheticBags');
  const lengths = parseTableBagLengths(bagLengths, tables.length);
  const random = createRandom(seed);
  const streams = tables.map(({ rows }) => new LookupStream(pattern, { rows, seed: random.uint32() }));
  return Array.from({ length: batches }, () => {
    const drawn = lengths.map((ofTable) =>
      allocated('bags', () => drawBagLengths(ofTable, batchSize, random)),
    );
    const indices = LookupStream.draw(streams, drawn.map(totalLookups));
    return {
      batchSize,
      bags: drawn.map((ofBags, t) => ({
        indices: at(indices, t),
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
export function syntheticRequest(given: SyntheticRequest): DlrmRequest {
  const { denseFeatures, ...options } = REQUEST(given, 'syntheticRequest');
  const [batch] = syntheticBags({ ...options, batches: 1 }) as [BagBatch];
  const random = createRandom(options.seed);
  const dense = allocated('dense features', () => floats(random, options.batchSize * denseFeatures));
  return { ...batch, dense, denseFeatures };
}
