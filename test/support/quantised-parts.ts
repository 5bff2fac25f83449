/** Quantised tables as other programs save them. */
import type { TablePart } from '../../src/model/checkpoint/checkpoint-parts.ts';
import { type PackedFormat, packedBytes, type RowHeader } from '../../src/model/checkpoint/packed-rows.ts';
import { float16ToNumber, numberToFloat16, type StoredTensor } from '../../src/tensor.ts';
import { Random } from './random.ts';
import { bytesOf, storedBytes } from './stored.ts';

/** Rows as a quantiser by minimum and maximum leaves them. */
export interface Quantised {
  readonly rows: number;
  readonly dim: number;
  readonly format: PackedFormat;
  /** [rows]. */
  readonly scale: Float32Array;
  readonly bias: Float32Array;
  /** [rows, dim]. */
  readonly levels: Uint8Array;
}

interface Shape {
  readonly rows?: number;
  readonly dim?: number;
  readonly format?: PackedFormat;
  readonly offset?: number;
  /** Scales and biases are float16. */
  readonly half?: boolean;
}

export function quantised({
  rows = 40,
  dim = 16,
  format = 'int8',
  offset = 0,
  half = true,
}: Shape): Quantised {
  const random = new Random(rows * 1000 + dim);
  const top = format === 'int8' ? 255 : 15;
  const round = (x: number) => (half ? float16ToNumber(numberToFloat16(x)) : Math.fround(x));
  const [scale, bias] = [new Float32Array(rows), new Float32Array(rows)];
  const levels = new Uint8Array(rows * dim);
  for (let r = 0; r < rows; r++) {
    const row = random.reals(dim).map((x) => offset + x / 4);
    bias[r] = round(Math.min(...row));
    scale[r] = round((Math.max(...row) - Math.min(...row)) / top);
    row.forEach((x, d) => {
      const q = Math.round((x - (bias[r] as number)) / (scale[r] as number));
      levels[r * dim + d] = Math.min(top, Math.max(0, q));
    });
  }
  return { rows, dim, format, scale, bias, levels };
}

/** [rows, bytes of the elements of a row]. */
function elementsOf({ rows, dim, format, levels }: Quantised): Uint8Array {
  if (format === 'int8') return levels;
  const width = packedBytes(format, dim);
  const bytes = new Uint8Array(rows * width);
  levels.forEach((q, i) => {
    const at = Math.floor(i / dim) * width + ((i % dim) >> 1);
    bytes[at] = (bytes[at] as number) | (q << (4 * ((i % dim) & 1)));
  });
  return bytes;
}

export const halves = (values: Float32Array) => Uint16Array.from(values, numberToFloat16);

/** Rows with their scales and biases, padded to `alignment`. */
export function packed(table: Quantised, { place, dtype }: RowHeader, alignment = 1): StoredTensor {
  const elements = elementsOf(table);
  const own = elements.length / table.rows;
  const [scale, bias] = [table.scale, table.bias].map((x) => bytesOf(dtype === 'float16' ? halves(x) : x));
  const size = dtype === 'float16' ? 2 : 4;
  const width = Math.ceil((own + 2 * size) / alignment) * alignment;
  const bytes = new Uint8Array(table.rows * width);
  for (let r = 0; r < table.rows; r++) {
    const header = place === 'front' ? 0 : own;
    bytes.set(elements.subarray(r * own, (r + 1) * own), r * width + (place === 'front' ? 2 * size : 0));
    bytes.set((scale as Uint8Array).subarray(r * size, (r + 1) * size), r * width + header);
    bytes.set((bias as Uint8Array).subarray(r * size, (r + 1) * size), r * width + header + size);
  }
  return storedBytes('uint8', [table.rows, width], bytes);
}

/** Weight, scale and bias, as TorchRec's split state dict has them. */
export function split(
  table: Quantised,
  dtype: 'float16' | 'float32' = 'float16',
  column = true,
): Partial<TablePart> {
  const elements = elementsOf(table);
  const { rows } = table;
  const numbers = (values: Float32Array) =>
    storedBytes(dtype, column ? [rows, 1] : [rows], bytesOf(dtype === 'float16' ? halves(values) : values));
  return {
    weight: storedBytes('uint8', [rows, elements.length / rows], elements),
    scale: numbers(table.scale),
    bias: numbers(table.bias),
  };
}

export const part = (own: Partial<TablePart>, name = 't'): TablePart => ({
  ...{ name, parameter: `embedding_bags.${name}.weight` },
  weight: storedBytes('uint8', [0], new Uint8Array()),
  ...own,
});

/** scale · q + bias, in doubles. */
export function valuesOf({ dim, scale, bias, levels }: Quantised): number[] {
  return Array.from(levels, (q, i) => {
    const row = Math.floor(i / dim);
    return (scale[row] as number) * q + (bias[row] as number);
  });
}
