/** Parameter blocks of the CUDA kernels, as their structs in kernels/cuda lay them out: one 64-bit word a field. */
import type { BagFault } from '../../embedding/bag.ts';

/** An address in device memory; 0: none. */
type Address = bigint;

/** `hotrow::StandardBagParams`, field by field. */
export interface StandardBagParams {
  readonly rows: Address;
  readonly rowStrideBytes: number;
  readonly rowCount: number;
  readonly dim: number;
  readonly indices: Address;
  readonly offsets: Address;
  readonly lookups: number;
  readonly offsetCount: number;
  readonly weights: Address;
  readonly rowWeights: Address;
  /** -1: none. */
  readonly paddingIndex: number;
  readonly output: Address;
  readonly outputStride: number;
  readonly batch: number;
  readonly stop: Address;
}

export function encodeStandardBag(params: StandardBagParams): BigInt64Array {
  const { rows, rowStrideBytes, rowCount, dim, indices, offsets, lookups, offsetCount } = params;
  const { weights, rowWeights, paddingIndex, output, outputStride, batch, stop } = params;
  return words(
    ...[rows, rowStrideBytes, rowCount, dim, indices, offsets, lookups, offsetCount],
    ...[weights, rowWeights, paddingIndex, output, outputStride, batch, stop],
  );
}

/** `hotrow::CheckedBags`: the bags of one table. */
export interface CheckedBags {
  readonly indices: Address;
  readonly offsets: Address;
  readonly indexBytes: number;
  readonly offsetBytes: number;
  readonly lookups: number;
  readonly offsetCount: number;
  readonly rowCount: number;
}

/** An array of `hotrow::CheckedBags`. */
export function encodeCheckedBags(tables: readonly CheckedBags[]): BigInt64Array {
  return words(
    ...tables.flatMap(({ indices, offsets, indexBytes, offsetBytes, lookups, offsetCount, rowCount }) => [
      ...[indices, offsets, indexBytes, offsetBytes, lookups, offsetCount, rowCount],
    ]),
  );
}

/** 64-bit words of `hotrow::BagsReport`. */
export const BAGS_REPORT_WORDS = 7;

export interface CheckBagsParams {
  readonly tables: Address;
  readonly reports: Address;
  readonly total: Address;
  readonly tableCount: number;
}

export function encodeCheckBags({ tables, reports, total, tableCount }: CheckBagsParams): BigInt64Array {
  return words(tables, reports, total, tableCount);
}

/** What the check found in one table. */
export interface BagsReport {
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

/** Reads a table's report (after describe_bags) out of an array of `hotrow::BagsReport`. */
export function decodeBagsReport(reports: BigInt64Array, table: number): BagsReport {
  const start = table * BAGS_REPORT_WORDS;
  const [code, position, value, limit, badIndices, badOffsets] = Array.from(
    reports.subarray(start, start + BAGS_REPORT_WORDS),
  );
  const kind = FAULT_KINDS[Number(code)];
  return {
    badIndices: Number(badIndices),
    badOffsets: Number(badOffsets),
    ...(kind === undefined
      ? {}
      : {
          first: { kind, table, position: Number(position), value: value ?? 0n, limit: limit ?? 0n },
        }),
  };
}

/** `hotrow::CountRowsParams`. */
export interface CountRowsParams {
  readonly indices: Address;
  readonly indexBytes: number;
  readonly lookups: number;
  readonly rowCount: number;
  /** -1: none. */
  readonly paddingIndex: number;
  readonly counts: Address;
}

export function encodeCountRows(params: CountRowsParams): BigInt64Array {
  const { indices, indexBytes, lookups, rowCount, paddingIndex, counts } = params;
  return words(indices, indexBytes, lookups, rowCount, paddingIndex, counts);
}

/** `hotrow::PinRowsParams`. */
export interface PinRowsParams {
  readonly rows: Address;
  readonly rowStrideBytes: number;
  readonly rowBytes: number;
  readonly rowCount: number;
  readonly rowNumbers: Address;
  readonly count: number;
  readonly stepBytes: 32 | 64 | 128;
}

export function encodePinRows(params: PinRowsParams): BigInt64Array {
  const { rows, rowStrideBytes, rowBytes, rowCount, rowNumbers, count, stepBytes } = params;
  return words(rows, rowStrideBytes, rowBytes, rowCount, rowNumbers, count, stepBytes);
}

/** Fields as 64-bit words, in order. */
export function words(...fields: readonly (number | bigint)[]): BigInt64Array {
  return BigInt64Array.from(fields, BigInt);
}
