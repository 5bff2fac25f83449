/**
 * The embedding-bag operator as plainly as it can be written: what every device is compared with. Tables in host
 * memory only, one element at a time.
 */
import { at } from '../at.ts';
import { isHost, toFloat32 } from '../tensor.ts';
import {
  type BagBatch,
  type BagFault,
  type BagFindings,
  type Bags,
  bagFaultError,
  type EmbeddingTable,
  type IndexChecking,
} from './bag.ts';
import { checkBagShapes } from './check-bags.ts';
import { dequantizeRows } from './quantize.ts';
import { isQuantized } from './row-format.ts';

/**
 * - `float64`: as exact as it gets, for comparisons with a tolerance;
 * - `float32`: rounded to float32 after every operation, in index order. Backends that add in that order give the
 *   same bits for unweighted sum, mean and max.
 */
export type Accumulate = 'float64' | 'float32';

export interface ReferencePooled {
  /** [B, Σ dim], row-major; float32 values under `float32`. */
  readonly pooled: Float64Array;
  readonly findings: BagFindings;
}

/**
 * Pools the bags of every table. Bad input in `none` mode, which is undefined behaviour, is repaired here.
 * @throws RequestError as every backend does.
 */
export function referenceEmbeddingBags(
  tables: readonly EmbeddingTable[],
  batch: BagBatch,
  checking: IndexChecking = 'error',
  accumulate: Accumulate = 'float64',
): ReferencePooled {
  checkBagShapes(tables, batch);
  const found = referenceCheckBags(tables, batch);
  if (checking === 'error' && found.first !== undefined) throw found.first;

  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  const pooled = new Float64Array(batch.batchSize * width);
  const users = usersOf(batch);
  let column = 0;
  tables.forEach((table, t) => {
    const rows = hostRows(table);
    const bags = at(batch.bags, t);
    for (let b = 0; b < batch.batchSize; b++) {
      const output = pooled.subarray(b * width + column, b * width + column + table.dim);
      const bag = bags.perUser === true ? (users[b] as number) : b;
      poolBag(table, rows, bags, bag, accumulate, output);
    }
    column += table.dim;
  });
  return { pooled, findings: checking === 'warn' ? found : { badIndices: 0, badOffsets: 0 } };
}

/** The user of each sample; of none where the batch has no users. */
function usersOf({ users }: BagBatch): number[] {
  if (users === undefined) return [];
  return Array.from(users.subarray(1)).flatMap((end, u) => {
    return Array.from({ length: end - at(users, u) }, () => u);
  });
}

/** Counts what is wrong; the first finding is in the lowest table, offsets before indices, at the lowest position. */
export function referenceCheckBags(tables: readonly EmbeddingTable[], batch: BagBatch): BagFindings {
  const faults = batch.bags.flatMap((bags, t) => {
    return [...offsetFaults(bags, t), ...indexFaults(bags, at(tables, t), t)];
  });
  const [first] = faults;
  const badIndices = faults.filter(({ kind }) => kind === 'index-out-of-range').length;
  return {
    badIndices,
    badOffsets: faults.length - badIndices,
    ...(first === undefined ? {} : { first: bagFaultError(first, at(tables, first.table).name) }),
  };
}

/** The index of a pruned row. */
const PRUNED = -1n;

function offsetFaults({ indices, offsets }: Bags, table: number): BagFault[] {
  const faults: BagFault[] = [];
  let before = 0n;
  offsets.forEach((entry: number | bigint, position: number) => {
    const value = BigInt(entry);
    const at = { table, position, value };
    if (position === 0) {
      if (value !== 0n) faults.push({ ...at, kind: 'first-offset-not-zero', limit: 0n });
    } else if (value < before) faults.push({ ...at, kind: 'offsets-decrease', limit: before });
    else if (value > indices.length) {
      faults.push({ ...at, kind: 'offset-past-end', limit: BigInt(indices.length) });
    }
    before = value;
  });
  return faults;
}

function indexFaults({ indices }: Bags, { rows, pruned = false }: EmbeddingTable, table: number): BagFault[] {
  const faults: BagFault[] = [];
  indices.forEach((entry: number | bigint, position: number) => {
    const value = BigInt(entry);
    if ((value >= 0n && value < rows) || (pruned && value === PRUNED)) return;
    faults.push({ kind: 'index-out-of-range', table, position, value, limit: BigInt(rows) });
  });
  return faults;
}

/** One bag of one table into `output` [dim], which holds zeros. */
function poolBag(
  table: EmbeddingTable,
  rows: Float32Array,
  bags: Bags,
  b: number,
  accumulate: Accumulate,
  output: Float64Array,
): void {
  const { dim, mode, paddingIdx, rowWeights, pruned = false } = table;
  const round = accumulate === 'float32' ? Math.fround : (x: number) => x;
  const [begin, end] = bagBounds(bags, b);
  let counted = 0;
  let passedOver = 0;
  for (let position = begin; position < end; position++) {
    const raw = bags.indices[position] as number | bigint;
    if (pruned && BigInt(raw) === PRUNED) {
      passedOver += 1;
      continue;
    }
    const index = repaired(raw, table.rows);
    if (index === paddingIdx) continue;
    const weight = bags.weights?.[position] ?? rowWeights?.[index] ?? 1;
    for (let d = 0; d < dim; d++) {
      const x = rows[index * dim + d] as number;
      const before = output[d] as number;
      if (mode === 'max') output[d] = counted === 0 || x > before ? x : before;
      else output[d] = round(before + round(weight * x));
    }
    counted += 1;
  }
  if (mode !== 'mean' || counted === 0) return;
  for (let d = 0; d < dim; d++) output[d] = round((output[d] as number) / (counted + passedOver));
}

/** Where bag `b` begins and ends, clamped into the lookups. */
function bagBounds({ indices, offsets }: Bags, b: number): [number, number] {
  const lookups = indices.length;
  const begin = clamp(offsets[b] as number | bigint, 0, lookups);
  const next = offsets[b + 1];
  return [begin, next === undefined ? lookups : clamp(next, begin, lookups)];
}

function clamp(value: number | bigint, low: number, high: number): number {
  return value < low ? low : value > high ? high : Number(value);
}

function repaired(index: number | bigint, rows: number): number {
  return index >= 0 && index < rows ? Number(index) : 0;
}

/** A table's values [rows, dim] as float32. @throws TypeError for a table that is not in host memory. */
export function hostRows({ name, weight, rowFormat, dim }: EmbeddingTable): Float32Array {
  if (!isHost(weight)) throw new TypeError(`table ${name}: the reference reads tables in host memory only`);
  return isQuantized(rowFormat)
    ? dequantizeRows(weight.data as Uint8Array, dim, rowFormat)
    : toFloat32(weight);
}
