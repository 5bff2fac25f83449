/** Problems that fit a variant of the standard CUDA kernel, and what every device gives for them, in bits. */
import type { StandardBagVariant } from '../../src/backend/cuda/embedding/standard-source.ts';
import { deviceRowBytes, deviceTableBytes, isScaled } from '../../src/backend/cuda/rows/row-layout.ts';
import { type Bags, type EmbeddingTable, rowBytes } from '../../src/embedding/bag.ts';
import { hostRows, referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { bagsOf, hostWeight, randomTable } from './cases.ts';
import type { Random } from './random.ts';

/** a · b + c, rounded once to float32: by way of a float64 sum that is rounded to odd. */
function fusedMultiplyAdd(a: number, b: number, c: number): number {
  const product = a * b; // exact: 24 bits by 24 bits
  const sum = product + c;
  const fromC = sum - product;
  const lost = product - (sum - fromC) + (c - fromC);
  if (lost === 0 || !Number.isFinite(sum)) return Math.fround(sum);
  const words = new BigInt64Array(Float64Array.of(sum).buffer);
  const bits = words[0] as bigint;
  if ((bits & 1n) === 0n) words[0] = bits + (lost > 0 === sum > 0 ? 1n : -1n);
  return Math.fround(new Float64Array(words.buffer)[0] as number);
}

/** What every backend gives, in bits: index order, float32, fused where rows are weighted. */
export function expectedOf(table: EmbeddingTable, bags: Bags, batch: number): Float64Array {
  const weighted = bags.weights !== undefined || table.rowWeights !== undefined;
  const reference = referenceEmbeddingBags(
    [table],
    { batchSize: batch, bags: [bags] },
    'ignore',
    'float32',
  ).pooled;
  if (!weighted) return reference;
  const rows = hostRows(table);
  const pooled = new Float64Array(batch * table.dim);
  for (let b = 0; b < batch; b++) {
    const end = b + 1 < bags.offsets.length ? Number(bags.offsets[b + 1]) : bags.indices.length;
    for (let p = Number(bags.offsets[b]); p < end; p++) {
      const row = Number(bags.indices[p]);
      if (row === table.paddingIdx || (table.pruned && row === -1)) continue;
      const weight = (bags.weights?.[p] ?? table.rowWeights?.[row]) as number;
      for (let d = 0; d < table.dim; d++) {
        const at = b * table.dim + d;
        pooled[at] = fusedMultiplyAdd(weight, rows[row * table.dim + d] as number, pooled[at] as number);
      }
    }
  }
  return pooled;
}

/** A table's rows as kernels read them. */
export function deviceRows(table: EmbeddingTable): ReturnType<typeof hostWeight>['data'] {
  const { data } = hostWeight(table);
  return isScaled(table)
    ? deviceRowsOf(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), table)
    : data;
}

/** Quantised rows of a file as kernels read them. */
export function deviceRowsOf(
  file: Uint8Array,
  table: Pick<EmbeddingTable, 'rows' | 'dim' | 'rowFormat'>,
): Uint8Array {
  if (!isScaled(table)) return file;
  const [from, to] = [rowBytes(table), deviceRowBytes(table)];
  const placed = new Uint8Array(new ArrayBuffer(deviceTableBytes(table)));
  for (let row = 0; row < table.rows; row++) {
    const own = file.subarray(row * from, (row + 1) * from);
    placed.set(own.subarray(4).subarray(0, to), row * to);
    placed.set(own.subarray(0, 4), table.rows * to + 4 * row);
  }
  return placed;
}

/** A table that fits a variant. */
export function tableFor(
  random: Random,
  variant: StandardBagVariant,
  rows: number,
  dim: number,
): EmbeddingTable {
  const { rowFormat, pooling: mode, padding, pruned, weights } = variant;
  const paddingIdx = padding ? { paddingIdx: rows >> 1 } : {};
  const rowWeights = weights === 'row';
  return randomTable(random, { rows, dim, rowFormat, mode, pruned, rowWeights, ...paddingIdx });
}

/** Bags of the given lengths that fit a variant. */
export function bagsFor(
  random: Random,
  variant: StandardBagVariant,
  rows: number,
  lengths: readonly number[],
  endOffset = false,
): Bags {
  const row = () => (variant.pruned && random.integer(0, 2) === 0 ? -1 : random.integer(0, rows - 1));
  const lists = lengths.map((length) => Array.from({ length }, row));
  const weights = variant.weights === 'sample' ? { weights: random.reals(lists.flat().length) } : {};
  return bagsOf(lists, { index: variant.index, offset: variant.offset, endOffset, ...weights });
}

/** 0, 1, … past three groups of the variant's prefetch, in an order that is not sorted. */
export function everyLength(variant: StandardBagVariant): number[] {
  const longest = 3 * (variant.prefetch?.distance ?? 4) + 2;
  return Array.from({ length: longest + 1 }, (_, i) => (i % 2 === 0 ? i : longest - i + (longest % 2)));
}
