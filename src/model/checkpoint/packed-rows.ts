/**
 * Rows that hold their scale and bias, as FBGEMM, TorchRec and PyTorch pack them: which layouts a width allows, and how
 * much sampled rows speak for one.
 *
 * Sources: fbgemm_gpu split_table_batched_embeddings_ops_inference.py (rounded_row_size_in_bytes,
 * split_embedding_weights_with_scale_bias), fbgemm QuantUtils (FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf,
 * FloatToFused8BitRowwiseQuantizedSBFloat), aten qembeddingbag_prepack.cpp.
 */
import { float16ToNumber } from '../../tensor.ts';

export type PackedFormat = 'int8' | 'int4';

/** Where a row's scale and bias stand, and as what; the value of an element q is scale · q + bias in all of them. */
export interface RowHeader {
  readonly place: 'front' | 'end';
  readonly dtype: 'float16' | 'float32';
  /** Who writes it, for people. */
  readonly title: string;
}

export const ROW_HEADERS: readonly RowHeader[] = [
  {
    place: 'front',
    dtype: 'float16',
    title: "float16 scale and bias in front, as in FBGEMM's inference tables",
  },
  {
    place: 'end',
    dtype: 'float16',
    title: "float16 scale and bias at the end, as in FBGEMM's fused rows",
  },
  {
    place: 'end',
    dtype: 'float32',
    title: "float32 scale and bias at the end, as PyTorch's embedding_bag_byte_prepack",
  },
];

/** FBGEMM pads rows to this on GPUs, to 1 elsewhere. */
const ALIGNMENT = 16;

/** How the rows of a table lie: [rows, width] bytes, of which `dim` elements and a header, then padding. */
export interface PackedLayout {
  readonly format: PackedFormat;
  readonly dim: number;
  readonly width: number;
  readonly header: RowHeader;
}

/** What is known of a table's rows before they are looked at. */
export interface KnownRows {
  readonly dim?: number | undefined;
  readonly rowFormat?: PackedFormat | undefined;
}

/** Bytes of `dim` elements. */
export function packedBytes(format: PackedFormat, dim: number): number {
  return format === 'int8' ? dim : Math.ceil(dim / 2);
}

/** The largest q. */
export const TOP_LEVEL: Readonly<Record<PackedFormat, number>> = { int8: 255, int4: 15 };

/** Bytes of scale and bias together. */
export function headerBytes({ dtype }: RowHeader): number {
  return dtype === 'float16' ? 4 : 8;
}

/** Where a row's scale and its elements begin. */
export function packedOffsets({ format, dim, header }: PackedLayout): {
  readonly header: number;
  readonly elements: number;
} {
  return header.place === 'front'
    ? { header: 0, elements: headerBytes(header) }
    : { header: packedBytes(format, dim), elements: 0 };
}

/** The layouts of rows of `width` bytes under a header. Without a dim, rows are taken to have no padding. */
export function packedLayouts(
  width: number,
  header: RowHeader,
  { dim, rowFormat }: KnownRows,
): PackedLayout[] {
  const own = headerBytes(header);
  // 4-bit rows have no float32 header anywhere.
  const formats = (['int8', 'int4'] as const).filter(
    (format) =>
      (rowFormat ?? format) === format && (format === 'int8' || header.dtype === 'float16') && width > own,
  );
  if (dim === undefined) {
    return formats.map((format) => {
      const elements = (width - own) * (format === 'int8' ? 1 : 2);
      return { format, dim: elements, width, header };
    });
  }
  return formats
    .filter((format) => {
      const content = own + packedBytes(format, dim);
      return width === content || width === Math.ceil(content / ALIGNMENT) * ALIGNMENT;
    })
    .map((format) => ({ format, dim, width, header }));
}

/** Whole rows of one table, [rows, width]. */
export interface SampledRows {
  readonly bytes: Uint8Array;
  readonly width: number;
}

/** How far sampled rows speak for a layout. */
export interface LayoutEvidence {
  /** No row has a scale or a bias that cannot be one. */
  readonly possible: boolean;
  /** Rows whose elements are not all the same. */
  readonly telling: number;
  /** Of those, the share that reaches from the lowest level to the highest, as quantisers by minimum and maximum leave them. */
  readonly fullRange: number;
}

/** Scales and biases beyond are no weights of a model. */
const LARGEST_VALUE = 65504;
const SMALLEST_SCALE = 1e-20;

export function evidenceFor(layout: PackedLayout, { bytes, width }: SampledRows): LayoutEvidence {
  const { header, format } = layout;
  const offsets = packedOffsets(layout);
  const top = TOP_LEVEL[format];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = (at: number) =>
    header.dtype === 'float16' ? float16ToNumber(view.getUint16(at, true)) : view.getFloat32(at, true);
  const size = headerBytes(header) / 2;
  let telling = 0;
  let full = 0;
  for (let start = 0; start + width <= bytes.length; start += width) {
    const scale = number(start + offsets.header);
    const bias = number(start + offsets.header + size);
    const fits = Math.abs(bias) + top * scale <= LARGEST_VALUE && (scale >= SMALLEST_SCALE || scale === 0);
    if (!fits || Object.is(scale, -0)) return { possible: false, telling: 0, fullRange: 0 };
    const [lowest, highest] = range(bytes, start + offsets.elements, layout);
    if (lowest === highest) continue;
    telling += 1;
    if (lowest <= top >> 6 && highest >= top - (top >> 6)) full += 1;
  }
  return { possible: true, telling, fullRange: telling === 0 ? 1 : full / telling };
}

/** The lowest and the highest element of the row whose elements begin at `at`. */
export function range(
  bytes: Uint8Array,
  at: number,
  { format, dim }: Pick<PackedLayout, 'format' | 'dim'>,
): [number, number] {
  let lowest = Number.POSITIVE_INFINITY;
  let highest = Number.NEGATIVE_INFINITY;
  for (let d = 0; d < dim; d++) {
    const q =
      format === 'int8'
        ? (bytes[at + d] as number)
        : ((bytes[at + (d >> 1)] as number) >> (4 * (d & 1))) & 15;
    if (q < lowest) lowest = q;
    if (q > highest) highest = q;
  }
  return [lowest, highest];
}
