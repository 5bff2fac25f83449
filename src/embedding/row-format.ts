/** How rows of embedding tables are stored: the layout of every format, in one place. */
import { oneOf, someOf, whole } from '../checks/value.ts';

/** A row is its elements. */
export type FloatRowFormat = 'float32' | 'float16' | 'bfloat16';

/**
 * Eight or four bits per element. `int8` and `int4` are FBGEMM's layout: a float16 scale, a float16 bias, then the elements,
 * of `int4` the even one in the low half of a byte; the value of an element q is scale · q + bias. `float8_e4m3`: sign, 4
 * bits of exponent, 3 of mantissa; no infinities, NaN is all ones. A row is padded with zeros to 16 bytes.
 */
export type QuantizedRowFormat = 'int8' | 'int4' | 'float8_e4m3';

export type RowFormat = FloatRowFormat | QuantizedRowFormat;

export const FLOAT_ROW_FORMATS: readonly FloatRowFormat[] = ['float32', 'float16', 'bfloat16'];
export const QUANTIZED_ROW_FORMATS: readonly QuantizedRowFormat[] = ['int8', 'int4', 'float8_e4m3'];
export const ROW_FORMATS: readonly RowFormat[] = Object.freeze([
  ...FLOAT_ROW_FORMATS,
  ...QUANTIZED_ROW_FORMATS,
]);

interface RowLayout {
  readonly elementBits: number;
  /** A float16 scale and bias. */
  readonly headerBytes: number;
  /** What the length of a row is a multiple of. */
  readonly alignment: number;
}

const LAYOUTS = {
  float32: { elementBits: 32, headerBytes: 0, alignment: 1 },
  float16: { elementBits: 16, headerBytes: 0, alignment: 1 },
  bfloat16: { elementBits: 16, headerBytes: 0, alignment: 1 },
  int8: { elementBits: 8, headerBytes: 4, alignment: 16 },
  int4: { elementBits: 4, headerBytes: 4, alignment: 16 },
  float8_e4m3: { elementBits: 8, headerBytes: 0, alignment: 16 },
} as const satisfies Record<RowFormat, RowLayout>;

export function rowLayout(format: RowFormat): RowLayout {
  return LAYOUTS[format];
}

export function isQuantized(format: RowFormat): format is QuantizedRowFormat {
  return (QUANTIZED_ROW_FORMATS as readonly RowFormat[]).includes(format);
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
