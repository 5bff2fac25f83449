/** How a launch of the fused kernel divides the bags of a batch among blocks. Pure. */
import type { Bags } from '../../embedding/bag.ts';
import type { FusedShape } from './fused-source.ts';
import type { FusedSegment } from './kernel-params.ts';

/** No shorter bag is cut, and none that is not much longer than its table's others. */
export const SHORTEST_SPLIT = 512;
const SPLIT_OVER_MEAN = 4;
/** Lookups of a segment, which a block's groups share. */
const SEGMENT_LOOKUPS = 1024;

/** A group walks several bags when they are shorter than this together … */
const GROUP_LOOKUPS = 32;
/** … and when there are more bags than so many warps have lanes for at once: about those of 132 multiprocessors. */
const FILLING_WARPS = 132 * 32;
const WARP_LANES = 32;

export interface TableBags {
  readonly bags: Bags;
  readonly batchSize: number;
  readonly shape: FusedShape;
}

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

/** Looks for long bags and cuts them, so that no warp is left alone with one. */
export function fusedLayout(tables: readonly TableBags[]): FusedLayout {
  const lookups = tables.reduce((sum, { bags }) => sum + bags.indices.length, 0);
  const bagCount = tables.reduce((sum, { batchSize }) => sum + batchSize, 0);
  const mean = bagCount === 0 ? 0 : lookups / bagCount;
  const warps = tables.reduce(
    (sum, { batchSize, shape: { lanes, tiles } }) => sum + (batchSize * tiles * lanes) / WARP_LANES,
    0,
  );
  const split = Math.max(SHORTEST_SPLIT, Math.ceil(SPLIT_OVER_MEAN * mean));
  const segments: FusedSegment[] = [];
  let arrivals = 0;
  tables.forEach(({ bags, batchSize, shape }, table) => {
    for (const { bag, begin, end } of longBags(bags, batchSize, split)) {
      for (let tile = 0; tile < shape.tiles; tile++) {
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
  });
  return {
    split,
    segments,
    slots: segments.length,
    partialWidth: 1 + Math.max(0, ...tables.map(({ shape }) => shape.tileElements)),
    arrivals,
    bagsPerGroup: Math.max(1, Math.floor(Math.min(GROUP_LOOKUPS / Math.max(1, mean), warps / FILLING_WARPS))),
  };
}

interface LongBag {
  readonly bag: number;
  readonly begin: number;
  readonly end: number;
}

/** Bags of more than `split` lookups, their bounds clamped as the kernel's repairs clamp them. */
function* longBags({ indices, offsets }: Bags, batchSize: number, split: number): Generator<LongBag> {
  const lookups = indices.length;
  if (lookups <= split) return;
  const at = offsetReader(offsets);
  for (let bag = 0; bag < batchSize; bag++) {
    const begin = Math.min(lookups, Math.max(0, at(bag)));
    const end = Math.min(lookups, Math.max(begin, bag + 1 < offsets.length ? at(bag + 1) : lookups));
    if (end - begin > split) yield { bag, begin, end };
  }
}

/** Reads offsets as numbers, exact up to 2^53; greater ones stay greater. */
function offsetReader(offsets: Bags['offsets']): (position: number) => number {
  if (offsets instanceof Int32Array) return (position) => offsets[position] as number;
  const low = new Uint32Array(offsets.buffer, offsets.byteOffset, 2 * offsets.length);
  const high = new Int32Array(offsets.buffer, offsets.byteOffset, 2 * offsets.length);
  return (position) => (low[2 * position] as number) + 2 ** 32 * (high[2 * position + 1] as number);
}

/** Blocks that share the ordinary bags of a table: as many as the table that needs most. */
export function blocksPerTable(tables: readonly TableBags[], bagsPerGroup: number, threads: number): number {
  const blocks = tables.map(({ batchSize, shape: { lanes, tiles } }) =>
    Math.ceil(Math.ceil((batchSize * tiles) / bagsPerGroup) / (threads / lanes)),
  );
  return Math.max(1, ...blocks);
}
