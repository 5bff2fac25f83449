/** Tables that a kernel treats alike: one of a group is measured, and stands for the others. */
import { at } from '../at.ts';
import { bagKinds } from '../backend/cuda/embedding/bag-kinds.ts';
import type { BagBatch, EmbeddingTable, IndexArray } from '../embedding/bag.ts';
import { countRows } from '../workload/hotness.ts';
import type { Lookups } from './kept-lookups.ts';
import type { MeasuredGroup } from './results.ts';

export interface TableGroup {
  /** Their numbers, rising; the first is measured. */
  readonly tables: readonly number[];
  /** As results have it. */
  readonly about: MeasuredGroup;
}

/** Shares of distinct rows that part hot tables, warm ones and cold ones. */
const HOTNESS_LIMITS = [0.1, 0.5] as const;

/**
 * Tables of one group have the same kernel (dim, row format, pooling, weights, types of indices and offsets), bags about as
 * long (within a factor of two), and are about as hot where they are coldest: less than a tenth of the lookups of a batch
 * distinct, less than half, or more. In the order of their first tables.
 */
export function tableGroups(tables: readonly EmbeddingTable[], workloads: readonly Lookups[]): TableGroup[] {
  const batches = workloads.flatMap(({ batches: [first] }) => (first === undefined ? [] : [first]));
  const [first] = batches;
  if (first === undefined) return [];
  const { numbers } = bagKinds(tables, first.bags);
  const distinctShare = distinctShares();
  const groups = new Map<string, { tables: number[]; about: MeasuredGroup }>();
  for (const [t, table] of tables.entries()) {
    const shares = batches.map(({ bags }) => distinctShare(at(bags, t).indices));
    const lengths = batches.map((batch) => bagLength(batch, t));
    const coldest = Math.max(...shares);
    const hotness = HOTNESS_LIMITS.filter((limit) => coldest >= limit).length;
    const key = [numbers[t], hotness, ...lengths.map((length) => Math.round(Math.log2(1 + length)))].join(
      ' ',
    );
    const known = groups.get(key);
    if (known !== undefined) {
      known.tables.push(t);
      continue;
    }
    const { name, rows, dim, rowFormat, mode } = table;
    const measured = { measured: name, rows, dim, rowFormat, pooling: mode };
    const about = { ...measured, tables: 1, bagLength: Math.max(...lengths), distinctShare: coldest };
    groups.set(key, { tables: [t], about });
  }
  return [...groups.values()].map((group) => ({
    ...group,
    about: { ...group.about, tables: group.tables.length },
  }));
}

/** Mean lookups per bag. */
function bagLength({ batchSize, bags }: BagBatch, t: number): number {
  return at(bags, t).indices.length / Math.max(1, batchSize);
}

/** Tables that share their lookups are counted once. */
function distinctShares(): (indices: IndexArray) => number {
  const known = new Map<IndexArray, number>();
  return (indices) => {
    const share =
      known.get(indices) ?? (indices.length === 0 ? 0 : countRows(indices).rows.length / indices.length);
    known.set(indices, share);
    return share;
  };
}
