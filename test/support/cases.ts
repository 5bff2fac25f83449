/** Tables and bags for tests. */
import {
  type BagBatch,
  type Bags,
  type EmbeddingTable,
  type IndexArray,
  type PoolingMode,
  ROW_FORMATS,
  type RowFormat,
} from '../../src/embedding/bag.ts';
import { quantizeRows } from '../../src/embedding/quantize.ts';
import {
  isQuantized,
  type QuantizedRowFormat,
  rowBytes,
  weightShape,
} from '../../src/embedding/row-format.ts';
import { type HostTensor, isHost, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';
import type { Random } from './random.ts';

export type IntegerType = 'int32' | 'int64';
export const INTEGER_TYPES: readonly IntegerType[] = ['int32', 'int64'];
export const MODES: readonly PoolingMode[] = ['sum', 'mean', 'max'];

/** Around every power of two up to 256, odd ones, and wider than any block of registers. */
export const DIMS = [
  1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130, 255, 256, 257, 512, 1000,
];

/** `values` as rows of `format`, rounded to nearest even, or quantised. */
export function rowsTensor(values: Float32Array, rows: number, dim: number, format: RowFormat): HostTensor {
  const shape = [rows, dim];
  if (isQuantized(format)) return quantizedTensor(quantizeRows(values, dim, format).data, rows, dim, format);
  if (format === 'float32') return { dtype: format, shape, data: values };
  const encode = format === 'float16' ? numberToFloat16 : numberToBfloat16;
  return { dtype: format, shape, data: Uint16Array.from(values, encode) };
}

function quantizedTensor(
  data: Uint8Array,
  rows: number,
  dim: number,
  rowFormat: QuantizedRowFormat,
): HostTensor {
  const { dtype, shape } = weightShape({ rows, dim, rowFormat });
  return { dtype, shape, data };
}

/** Integers of [-8, 8) as quantised rows of scale 1 and bias -8: exact. */
function exactRows(values: Float32Array, rows: number, dim: number, format: QuantizedRowFormat): HostTensor {
  const data = quantizeRows(values, dim, format).data;
  if (format === 'float8_e4m3') return quantizedTensor(data, rows, dim, format);
  const stride = rowBytes({ dim, rowFormat: format });
  const header = new Uint8Array(new Uint16Array([numberToFloat16(1), numberToFloat16(-8)]).buffer);
  for (let row = 0; row < rows; row++) {
    const own = data.subarray(row * stride, (row + 1) * stride);
    own.fill(0);
    own.set(header);
    for (let d = 0; d < dim; d++) {
      const q = Math.min(15, (values[row * dim + d] as number) + 8);
      const at = 4 + (format === 'int8' ? d : d >> 1);
      own[at] = (own[at] as number) | (q << (format === 'int8' ? 0 : 4 * (d & 1)));
    }
  }
  return quantizedTensor(data, rows, dim, format);
}

export interface TableSpec {
  readonly rows: number;
  readonly dim: number;
  readonly name?: string;
  readonly rowFormat?: RowFormat;
  readonly mode?: PoolingMode;
  readonly paddingIdx?: number;
  readonly rowWeights?: boolean;
  /** Small integers instead of reals: every sum is exact. */
  readonly exact?: boolean;
  /** The largest size of an element that is a real; default 1. */
  readonly size?: number;
}

export function randomTable(random: Random, spec: TableSpec): EmbeddingTable {
  const { rows, dim, rowFormat = 'float32', exact = false, size = 1 } = spec;
  const draw = (count: number) => (exact ? random.integers(count, 8) : random.reals(count));
  const elements = () => draw(rows * dim).map((x) => (exact ? x : size * x));
  return {
    name: spec.name ?? `${rowFormat}-${rows}x${dim}`,
    weight:
      exact && isQuantized(rowFormat)
        ? exactRows(elements(), rows, dim, rowFormat)
        : rowsTensor(elements(), rows, dim, rowFormat),
    rows,
    dim,
    rowFormat,
    mode: spec.mode ?? 'sum',
    ...(spec.paddingIdx === undefined ? {} : { paddingIdx: spec.paddingIdx }),
    ...(spec.rowWeights ? { rowWeights: draw(rows) } : {}),
  };
}

/** Indices or offsets as int32 or int64. */
export function integers(values: readonly (number | bigint)[], type: IntegerType = 'int64'): IndexArray {
  return type === 'int64' ? BigInt64Array.from(values, BigInt) : Int32Array.from(values, Number);
}

export interface BagsSpec {
  readonly index?: IntegerType;
  readonly offset?: IntegerType;
  /** B + 1 offsets instead of B. */
  readonly endOffset?: boolean;
  readonly weights?: Float32Array;
}

/** Bags from lists of row numbers. */
export function bagsOf(lists: readonly (readonly number[])[], spec: BagsSpec = {}): Bags {
  const offsets = [0];
  for (const list of lists) offsets.push((offsets.at(-1) as number) + list.length);
  if (!spec.endOffset) offsets.pop();
  return {
    indices: integers(lists.flat(), spec.index),
    offsets: integers(offsets, spec.offset),
    ...(spec.weights === undefined ? {} : { weights: spec.weights }),
  };
}

export interface RandomBagsSpec {
  readonly batch: number;
  readonly rows: number;
  /** Bag lengths, both included; default 0 to 9, so that some bags are empty. */
  readonly lengths?: readonly [number, number];
  readonly index?: IntegerType;
  readonly offset?: IntegerType;
  readonly endOffset?: boolean;
  readonly weighted?: boolean;
  readonly exact?: boolean;
}

export function randomBags(random: Random, spec: RandomBagsSpec): Bags {
  const [shortest, longest] = spec.lengths ?? [0, 9];
  const lists = Array.from({ length: spec.batch }, () =>
    Array.from({ length: random.integer(shortest, longest) }, () => random.integer(0, spec.rows - 1)),
  );
  const count = lists.flat().length;
  const weights = spec.exact ? random.integers(count, 4) : random.reals(count);
  return bagsOf(lists, { ...spec, ...(spec.weighted ? { weights } : {}) });
}

export interface Problem {
  readonly tables: readonly EmbeddingTable[];
  readonly batch: BagBatch;
}

const made = new Map<string, unknown>();

/** Makes a problem once a process: every backend gets the same object, and so the same cached reference. */
export function shared<T>(key: string, make: () => T): T {
  if (!made.has(key)) made.set(key, make());
  return made.get(key) as T;
}

/** A batch for one table. */
export function problemOf(table: EmbeddingTable, batchSize: number, bags: Bags): Problem {
  return { tables: [table], batch: { batchSize, bags: [bags] } };
}

/** Tables of different sizes, dims, row formats and modes, with every kind of bag, in one call. */
export function mixedProblem(random: Random, batchSize: number, longest = 9, weighted = true): Problem {
  const tables: EmbeddingTable[] = [];
  const bags: Bags[] = [];
  let t = 0;
  for (const rowFormat of ROW_FORMATS) {
    for (const mode of [...MODES, 'sum', 'sum'] as const) {
      const kind = t % 5; // 0–2: the modes; 3: per-sample weights; 4: row weights
      const rows = [1, 3, 50, 300, 1200][random.integer(0, 4)] as number;
      const dim = [1, 5, 8, 16, 33, 64, 100, 128, 130, 257][t % 10] as number;
      const rowWeights = weighted && kind === 4;
      const padded = t % 2 === 0 ? { paddingIdx: random.integer(0, rows - 1) } : {};
      tables.push(randomTable(random, { name: `t${t}`, rows, dim, rowFormat, mode, rowWeights, ...padded }));
      bags.push(
        randomBags(random, {
          batch: batchSize,
          rows,
          lengths: [0, longest],
          index: INTEGER_TYPES[t % 2] as IntegerType,
          offset: INTEGER_TYPES[(t >> 1) % 2] as IntegerType,
          endOffset: t % 3 === 0,
          weighted: weighted && kind === 3,
        }),
      );
      t += 1;
    }
  }
  return { tables, batch: { batchSize, bags } };
}

/** The rows of a table that the test made itself. */
export function hostWeight({ name, weight }: EmbeddingTable): HostTensor {
  if (!isHost(weight)) throw new TypeError(`table ${name} is not in host memory`);
  return weight;
}
