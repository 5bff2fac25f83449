/** Parameter blocks of the CUDA kernels, as their structs in kernels/cuda lay them out: one 64-bit word a field. */
import type { BagFault, RowFormat } from '../../../embedding/bag.ts';
import { ROW_FORMAT } from '../../../ffi/cpu-operators.ts';
import type { ColumnSpan } from '../../user-rows.ts';
import { putWord } from '../../words.ts';

/** An address in device memory; 0: none. As a number, which sums faster, it is exact below 2^53, where they all lie. */
type Address = bigint | number;

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

/** `hotrow::FusedTable`. */
export interface FusedTable {
  readonly rows: Address;
  readonly rowCount: number;
  readonly indices: Address;
  readonly lookups: number;
  readonly offsets: Address;
  readonly offsetCount: number;
  readonly weights: Address;
  readonly rowWeights: Address;
  readonly paddingIndex: number;
  readonly column: number;
  readonly kind: number;
}

/** 64-bit words of `hotrow::FusedTable`, its unused one included. */
export const FUSED_TABLE_WORDS = 12;

/** Writes a `hotrow::FusedTable` at word `at`. */
export function encodeFusedTable(into: Int32Array, at: number, table: FusedTable): void {
  putWord(into, at, table.rows);
  putWord(into, at + 1, table.rowCount);
  putWord(into, at + 2, table.indices);
  putWord(into, at + 3, table.lookups);
  putWord(into, at + 4, table.offsets);
  putWord(into, at + 5, table.offsetCount);
  putWord(into, at + 6, table.weights);
  putWord(into, at + 7, table.rowWeights);
  putWord(into, at + 8, table.paddingIndex);
  putWord(into, at + 9, table.column);
  putWord(into, at + 10, table.kind);
  putWord(into, at + 11, 0);
}

/** `hotrow::FusedSegment`. */
export interface FusedSegment {
  readonly table: number;
  readonly bag: number;
  readonly tile: number;
  readonly begin: number;
  readonly end: number;
  readonly slot: number;
  readonly firstSlot: number;
  readonly slots: number;
  readonly arrivals: number;
}

/** 64-bit words of `hotrow::FusedSegment`, its unused one included. */
export const FUSED_SEGMENT_WORDS = 10;

/** An array of `hotrow::FusedSegment`. */
export function encodeFusedSegments(segments: readonly FusedSegment[]): BigInt64Array {
  return words(
    ...segments.flatMap(({ table, bag, tile, begin, end, slot, firstSlot, slots, arrivals }) => [
      ...[table, bag, tile, begin, end, slot, firstSlot, slots, arrivals, 0],
    ]),
  );
}

/** `hotrow::FusedBagsParams`. */
export interface FusedBagsParams {
  readonly tables: Address;
  readonly batch: number;
  readonly blocksPerTable: number;
  readonly bagsPerGroup: number;
  readonly output: Address;
  readonly outputStride: number;
  readonly findings: Address;
  readonly split: number;
  readonly segments: Address;
  readonly segmentCount: number;
  readonly partials: Address;
  readonly partialWidth: number;
  readonly arrivals: Address;
  readonly users: number;
  readonly userOutput: Address;
  readonly userOutputStride: number;
}

export function encodeFusedBags(params: FusedBagsParams): BigInt64Array {
  const { tables, batch, blocksPerTable, bagsPerGroup, output, outputStride, findings } = params;
  const { split, segments, segmentCount, partials, partialWidth, arrivals } = params;
  const { users, userOutput, userOutputStride } = params;
  return words(
    ...[tables, batch, blocksPerTable, bagsPerGroup, output, outputStride, findings],
    ...[split, segments, segmentCount, partials, partialWidth, arrivals],
    ...[users, userOutput, userOutputStride],
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
  /** −1 where that stands for a pruned row. */
  readonly firstIndex: 0 | -1;
}

/** 64-bit words of `hotrow::CheckedBags`. */
export const CHECKED_BAGS_WORDS = 8;

/** An array of `hotrow::CheckedBags`. */
export function encodeCheckedBags(tables: readonly CheckedBags[]): BigInt64Array {
  return words(
    ...tables.flatMap(
      ({ indices, offsets, indexBytes, offsetBytes, lookups, offsetCount, rowCount, firstIndex }) => [
        ...[indices, offsets, indexBytes, offsetBytes, lookups, offsetCount, rowCount, firstIndex],
      ],
    ),
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

/** `hotrow::HotRowsParams`. */
export interface HotRowsParams {
  readonly counts: Address;
  readonly rowCount: number;
  readonly capacity: number;
  readonly bins: Address;
  readonly choice: Address;
  readonly rowNumbers: Address;
  readonly rangeRows: number;
  readonly ranges: Address;
}

/** 32-bit words of bins and of a `hotrow::RowChoice`. */
export const HOT_ROWS_BINS = 1024;
export const ROW_CHOICE_WORDS = 4;

export function encodeHotRows(params: HotRowsParams): BigInt64Array {
  const { counts, rowCount, capacity, bins, choice, rowNumbers, rangeRows, ranges } = params;
  return words(counts, rowCount, capacity, bins, choice, rowNumbers, rangeRows, ranges);
}

/** `hotrow::FillUniformParams`. */
export interface FillUniformParams {
  readonly target: Address;
  readonly rowFormat: RowFormat;
  /** Elements. */
  readonly count: number;
  readonly seed: number;
}

export function encodeFillUniform({ target, rowFormat, count, seed }: FillUniformParams): BigInt64Array {
  return words(target, ROW_FORMAT[rowFormat], count, seed);
}

/** `hotrow::FillQuantizedParams`. */
export interface FillQuantizedParams {
  readonly target: Address;
  readonly rowFormat: RowFormat;
  readonly rows: number;
  readonly dim: number;
  readonly rowStrideBytes: number;
  readonly fileStrideBytes: number;
  readonly seed: number;
}

export function encodeFillQuantized(params: FillQuantizedParams): BigInt64Array {
  const { target, rowFormat, rows, dim, rowStrideBytes, fileStrideBytes, seed } = params;
  return words(target, ROW_FORMAT[rowFormat], rows, dim, rowStrideBytes, fileStrideBytes, seed);
}

/** `hotrow::SplitRowsParams`. */
export interface SplitRowsParams {
  readonly source: Address;
  readonly elements: Address;
  readonly headers: Address;
  readonly rows: number;
  /** In words of 4 bytes, as is the next. */
  readonly sourceStride: number;
  readonly stride: number;
}

export function encodeSplitRows(params: SplitRowsParams): BigInt64Array {
  const { source, elements, headers, rows, sourceStride, stride } = params;
  return words(source, elements, headers, rows, sourceStride, stride);
}

/** `hotrow::CopyWordsParams`. */
export interface CopyWordsParams {
  readonly source: Address;
  readonly target: Address;
  readonly words: number;
  readonly clears: 0 | 1;
}

export function encodeCopyWords({ source, target, words: count, clears }: CopyWordsParams): BigInt64Array {
  return words(source, target, count, clears);
}

/** 64-bit words of `hotrow::ColumnSpan`. */
export const COLUMN_SPAN_WORDS = 3;

/** An array of `hotrow::ColumnSpan`. */
export function encodeColumnSpans(spans: readonly ColumnSpan[]): BigInt64Array {
  return words(...spans.flatMap(({ from, to, columns }) => [from, to, columns]));
}

/** `hotrow::SpreadRowsParams`. */
export interface SpreadRowsParams {
  readonly input: Address;
  /** In elements, as is the next. */
  readonly inputStride: number;
  readonly output: Address;
  readonly outputStride: number;
  readonly elementBytes: number;
  readonly users: Address;
  readonly rows: number;
  readonly spans: Address;
  readonly spanCount: number;
}

export function encodeSpreadRows(params: SpreadRowsParams): BigInt64Array {
  const { input, inputStride, output, outputStride, elementBytes, users, rows, spans, spanCount } = params;
  return words(input, inputStride, output, outputStride, elementBytes, users, rows, spans, spanCount);
}

/** `hotrow::CeilingsParams`. */
export interface CeilingsParams {
  readonly memory: Address;
  readonly bytes: number;
  readonly rounds: number;
  readonly sink: Address;
}

export function encodeCeilings({ memory, bytes, rounds, sink }: CeilingsParams): BigInt64Array {
  return words(memory, bytes, rounds, sink);
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
  const values = new BigInt64Array(fields.length);
  const halves = new Int32Array(values.buffer);
  for (let i = 0; i < fields.length; i++) putWord(halves, i, fields[i] as number | bigint);
  return values;
}
