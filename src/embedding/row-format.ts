/** How rows of embedding tables are stored: the layout of every format, in one place. */
import { oneOf, someOf, whole } from '../checks/value.ts';

export interface RowLayout {
  /** In the C header, kernels/cpu/hotrow_cpu.h, and in kernels/cuda/rows.cuh. */
  readonly number: number;
  /** In ids of kernels. */
  readonly id: string;
  readonly elementBits: number;
  /** A float16 scale and bias. */
  readonly headerBytes: number;
  /** What the length of a row is a multiple of. */
  readonly alignment: number;
  readonly quantized: boolean;
}

/**
 * Of plain formats, a row is its elements. Quantised ones have eight or four bits an element. `int8` and `int4` are FBGEMM's
 * layout: a float16 scale, a float16 bias, then the elements, of `int4` the even one in the low half of a byte; the value of an
 * element q is scale · q + bias. `float8_e4m3`: sign, 4 bits of exponent, 3 of mantissa; no infinities, NaN is all ones. A
 * quantised row is padded with zeros to 16 bytes.
 */
const LAYOUTS = {
  float32: { number: 0, id: 'f32', elementBits: 32, headerBytes: 0, alignment: 1, quantized: false },
  float16: { number: 1, id: 'f16', elementBits: 16, headerBytes: 0, alignment: 1, quantized: false },
  bfloat16: { number: 2, id: 'bf16', elementBits: 16, headerBytes: 0, alignment: 1, quantized: false },
  int8: { number: 3, id: 'q8', elementBits: 8, headerBytes: 4, alignment: 16, quantized: true },
  int4: { number: 4, id: 'q4', elementBits: 4, headerBytes: 4, alignment: 16, quantized: true },
  float8_e4m3: { number: 5, id: 'f8', elementBits: 8, headerBytes: 0, alignment: 16, quantized: true },
} as const satisfies Readonly<Record<string, RowLayout>>;

export type RowFormat = keyof typeof LAYOUTS;
/** Formats whose rows are their elements. */
export type FloatRowFormat = Exclude<RowFormat, QuantizedRowFormat>;
export type QuantizedRowFormat = {
  [F in RowFormat]: (typeof LAYOUTS)[F]['quantized'] extends true ? F : never;
}[RowFormat];

export const ROW_FORMATS: readonly RowFormat[] = Object.freeze(Object.keys(LAYOUTS) as RowFormat[]);
export const QUANTIZED_ROW_FORMATS: readonly QuantizedRowFormat[] = ROW_FORMATS.filter(isQuantized);
export const FLOAT_ROW_FORMATS: readonly FloatRowFormat[] = ROW_FORMATS.filter(
  (format) => !isQuantized(format),
);

export function rowLayout(format: RowFormat): RowLayout {
  return LAYOUTS[format];
}

export function isQuantized(format: RowFormat): format is QuantizedRowFormat {
  return LAYOUTS[format].quantized;
}

interface RowShape {
  readonly dim: number;
  readonly rowFormat: RowFormat;
}

/** Bytes of one row's header and elements, wherever they lie. */
export function rowContentBytes({ dim, rowFormat }: RowShape): number {
  const { elementBits, headerBytes } = LAYOUTS[rowFormat];
  return headerBytes + Math.ceil((dim * elementBits) / 8);
}

/** Elements of a row stay few enough for exact sizes. */
const MOST_DIM = 2 ** 31 - 1;
const ROW_SHAPE = someOf<RowShape>({ dim: whole(1, MOST_DIM), rowFormat: oneOf(ROW_FORMATS) });

/** Bytes of one row in files and in the CPU's memory, with what pads it. @throws UsageError OPTION_INVALID. */
export function rowBytes(given: RowShape): number {
  const row = ROW_SHAPE(given, 'rowBytes');
  const { alignment } = LAYOUTS[row.rowFormat];
  return Math.ceil(rowContentBytes(row) / alignment) * alignment;
}

/** dtype and shape of a table's weight: [rows, dim] elements, or [rows, bytes of a row]. */
export function weightShape({
  rows,
  dim,
  rowFormat,
}: {
  readonly rows: number;
  readonly dim: number;
  readonly rowFormat: RowFormat;
}): { readonly dtype: FloatRowFormat | 'uint8'; readonly shape: readonly [number, number] } {
  if (isQuantized(rowFormat)) return { dtype: 'uint8', shape: [rows, rowBytes({ dim, rowFormat })] };
  return { dtype: rowFormat, shape: [rows, dim] };
}
