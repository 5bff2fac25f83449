/** What the host tells check_bags.cuh, and what that reports. */
import type { BagFault } from '../../../embedding/bag.ts';
import { type FieldsOf, struct } from '../kernels/struct.ts';

/** The bags of one table. */
export const CheckedBags = struct('CheckedBags', 'check_bags.cuh', {
  indices: 'address',
  offsets: 'address',
  indexBytes: 'integer',
  offsetBytes: 'integer',
  lookups: 'integer',
  offsetCount: 'integer',
  rowCount: 'integer',
  /** 0; −1 where that stands for a pruned row. */
  firstIndex: 'integer',
});

export const CheckBagsParams = struct('CheckBagsParams', 'check_bags.cuh', {
  tables: 'address',
  reports: 'address',
  total: 'address',
  tableCount: 'integer',
});
export type CheckBagsParams = FieldsOf<typeof CheckBagsParams>;

export const BagsReport = struct('BagsReport', 'check_bags.cuh', {
  code: 'integer',
  position: 'integer',
  value: 'integer',
  limit: 'integer',
  badIndices: 'integer',
  badOffsets: 'integer',
  first: 'integer',
});

/** What the check found in one table. */
export interface FoundInBags {
  readonly badIndices: number;
  readonly badOffsets: number;
  readonly first?: BagFault;
}

const FAULT_KINDS: readonly (BagFault['kind'] | undefined)[] = [
  undefined,
  'index-out-of-range',
  'first-offset-not-zero',
  'offsets-decrease',
  'offset-past-end',
];

/** Reads a table's report (after describe_bags) out of an array of them. */
export function foundInBags(reports: BigInt64Array, table: number): FoundInBags {
  const { code, position, value, limit, badIndices, badOffsets } = BagsReport.decode(reports, table);
  const kind = FAULT_KINDS[Number(code)];
  return {
    badIndices: Number(badIndices),
    badOffsets: Number(badOffsets),
    ...(kind === undefined ? {} : { first: { kind, table, position: Number(position), value, limit } }),
  };
}
