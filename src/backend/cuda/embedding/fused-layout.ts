/** How a launch of the fused kernel divides the bags of a batch among blocks. Pure. */
import { bufferOf, lengthOf, offsetOf } from '../../../checks/array.ts';
import { type BagBatch, type Bags, bagCount } from '../../../embedding/bag.ts';
import { findLongBags } from '../../../ffi/long-bags.ts';
import type { FusedSegment } from './fused-params.ts';
import type { FusedShape } from './fused-source.ts';

/** No shorter bag is cut, and none that is not much longer than its table's others. */
export const SHORTEST_SPLIT = 512;
const SPLIT_OVER_MEAN = 4;
/** Lookups of a segment, which a block's groups share. */
const SEGMENT_LOOKUPS = 1024;

/** A group walks several bags when they are shorter than this together … */
const GROUP_LOOKUPS = 32;
/** … and when there are more bags than so many warps of each multiprocessor have lanes for at once. */
const FILLING_WARPS = 32;
const WARP_LANES = 32;

/** Fewer offsets than this are read here sooner than by a native call. */
const FEW_OFFSETS = 1 << 12;

export interface FusedLayout {
  /** Bags of more lookups are segments' work. */
  readonly split: number;
  readonly segments: readonly FusedSegment[];
  /** Partial sums that the segments need. */
  readonly slots: number;
  /** Floats of a slot: the widest tile and a count. */
  readonly partialWidth: number;
  /** Counters of segments that are done: one a long bag and tile. */
  readonly arrivals: number;
  readonly bagsPerGroup: number;
}

/**
 * Looks for long bags and cuts them, so that no warp is left alone with one. Bags of users count once a candidate: what is
 * cut, and so the order of additions, is as if the request repeated them. `shapes`: how lanes share each table's rows;
 * `multiprocessors`: of the GPU.
 */
export function fusedLayout(
  batch: BagBatch,
  shapes: readonly FusedShape[],
  multiprocessors: number,
): FusedLayout {
  const { batchSize, bags } = batch;
  const lookups = bags.reduce((sum, own) => sum + repeatedLookups(own, batch), 0);
  const count = bags.length * batchSize;
  const mean = count === 0 ? 0 : lookups / count;
  const split = Math.max(SHORTEST_SPLIT, Math.ceil(SPLIT_OVER_MEAN * mean));
  const groups = shapes.reduce((sum, { lanes, tiles }) => sum + tiles * lanes, 0);
  const warps = (batchSize * groups) / WARP_LANES;
  return {
    split,
    ...cutLongBags(batch, shapes, split),
    partialWidth: shapes.reduce((widest, { tileElements }) => Math.max(widest, 1 + tileElements), 1),
    bagsPerGroup: powerBelow(
      Math.min(GROUP_LOOKUPS / Math.max(1, mean), warps / (FILLING_WARPS * multiprocessors)),
    ),
  };
}

/** A table's lookups, those of a user once a candidate. */
function repeatedLookups(own: Bags, { users }: BagBatch): number {
  if (own.perUser !== true || users === undefined) return lengthOf(own.indices);
  let lookups = 0;
  eachBag(own, users.length - 1, (user, begin, end) => {
    lookups += Math.max(0, end - begin) * ((users[user + 1] as number) - (users[user] as number));
  });
  return lookups;
}

/** A power of two, so that batches that differ a little are launched alike. */
function powerBelow(most: number): number {
  return most < 2 ? 1 : 2 ** Math.floor(Math.log2(most));
}

/** The segments of bags of more than `split` lookups. */
function cutLongBags(
  batch: BagBatch,
  shapes: readonly FusedShape[],
  split: number,
): Pick<FusedLayout, 'segments' | 'slots' | 'arrivals'> {
  const { batchSize, bags } = batch;
  const segments: FusedSegment[] = [];
  let arrivals = 0;
  const mayBeLong: number[] = [];
  const ofUsers: number[] = [];
  for (let table = 0; table < bags.length; table++) {
    const { indices, perUser } = bags[table] as Bags;
    if (lengthOf(indices) > split) (perUser === true ? ofUsers : mayBeLong).push(table);
  }
  // So many offsets are scanned natively; after that, only those of tables that have a long bag are read here.
  const scanned =
    mayBeLong.length * batchSize < FEW_OFFSETS
      ? mayBeLong
      : tablesOfLongBags(bags, mayBeLong, batchSize, split);
  for (const table of [...scanned, ...ofUsers]) {
    const own = bags[table] as Bags;
    for (const { bag, begin, end } of longBags(own, bagCount(own, batch), split)) {
      for (let tile = 0; tile < (shapes[table] as FusedShape).tiles; tile++) {
        const slots = Math.ceil((end - begin) / SEGMENT_LOOKUPS);
        const firstSlot = segments.length;
        for (let i = 0; i < slots; i++) {
          const start = begin + i * SEGMENT_LOOKUPS;
          segments.push({
            table,
            bag,
            tile,
            begin: start,
            end: Math.min(end, start + SEGMENT_LOOKUPS),
            slot: firstSlot + i,
            firstSlot,
            slots,
            arrivals,
          });
        }
        arrivals += 1;
      }
    }
  }
  return { segments, slots: segments.length, arrivals };
}

function tablesOfLongBags(
  bags: readonly Bags[],
  tables: readonly number[],
  batchSize: number,
  split: number,
) {
  const offsets = tables.map((table) => {
    const { offsets, indices } = bags[table] as Bags;
    return { offsets, lookups: lengthOf(indices) };
  });
  const long = findLongBags(offsets, batchSize, split);
  return tables.filter((_, i) => long[i]);
}

interface LongBag {
  readonly bag: number;
  readonly begin: number;
  readonly end: number;
}

/** Bags of more than `split` lookups. */
function longBags(own: Bags, count: number, split: number): LongBag[] {
  const long: LongBag[] = [];
  eachBag(own, count, (bag, begin, end) => {
    if (end - begin > split) long.push({ bag, begin, end });
  });
  return long;
}

/** The first `count` bags, their bounds clamped as the kernel's repairs clamp them. */
function eachBag(
  { indices, offsets }: Bags,
  count: number,
  visit: (bag: number, begin: number, end: number) => void,
): void {
  const lookups = lengthOf(indices);
  const given = lengthOf(offsets);
  // Halves of words are many times faster to read than BigInts.
  const wide = offsets instanceof BigInt64Array;
  const halves = new Int32Array(bufferOf(offsets), offsetOf(offsets), wide ? 2 * given : given);
  const step = wide ? 2 : 1;
  let begin = clampedOffset(halves, 0, wide, lookups);
  for (let bag = 0; bag < count; bag++) {
    const next = bag + 1 < given ? clampedOffset(halves, (bag + 1) * step, wide, lookups) : lookups;
    visit(bag, begin, next);
    begin = next;
  }
}

/** The offset whose word begins at half `at`, clamped to [0, lookups]; lookups < 2^31. */
function clampedOffset(halves: Int32Array, at: number, wide: boolean, lookups: number): number {
  const low = halves[at] as number;
  const high = wide ? (halves[at + 1] as number) : 0;
  if (high < 0 || (!wide && low < 0)) return 0;
  return high > 0 || low < 0 || low > lookups ? lookups : low;
}

/** Blocks that share the ordinary bags of a table: as many as the table that needs most. `tables`: how many bags each has. */
export function blocksPerTable(
  tables: readonly { readonly count: number; readonly shape: FusedShape }[],
  bagsPerGroup: number,
  threads: number,
): number {
  return tables.reduce((most, { count, shape: { lanes, tiles } }) => {
    const blocks = Math.ceil(Math.ceil((count * tiles) / bagsPerGroup) / (threads / lanes));
    return Math.max(most, blocks);
  }, 1);
}
