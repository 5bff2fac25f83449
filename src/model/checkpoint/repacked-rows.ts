/** Quantised rows of other layouts as Hotrow's, put together while they are read: scale, bias, elements, padding. */
import { at } from '../../at.ts';
import { quantizeRows, storedElement } from '../../embedding/quantize.ts';
import { type QuantizedRowFormat, rowBytes, rowLayout } from '../../embedding/row-format.ts';
import { filesOf, readBytes, readTensor } from '../../stored-tensor.ts';
import {
  type AssembledTensor,
  elementBytes,
  float16ToNumber,
  numberToFloat16,
  type StoredTensor,
  toFloat32,
  viewElements,
} from '../../tensor.ts';
import { inTable } from './in-table.ts';
import {
  headerBytes,
  type PackedLayout,
  packedBytes,
  packedOffsets,
  range,
  TOP_LEVEL,
} from './packed-rows.ts';
import { quantizedRowsText } from './quantized-rows.ts';

/** Bytes of stored rows that are in memory at a time. */
const BLOCK_BYTES = 4 << 20;

/** Rows as they are stored, `count` of them. */
interface RowBlock {
  /** [count, width]. */
  readonly bytes: Uint8Array;
  readonly width: number;
  /** Where a row's elements begin, and how many bytes they are. */
  readonly elements: number;
  readonly elementBytes: number;
  /** [count] each; of rows that have a header in Hotrow's layout. */
  readonly scale?: Float32Array;
  readonly bias?: Float32Array;
  /** Elements are signed: their sign bit is turned into 128 more. */
  readonly signed?: boolean;
}

/** A source of rows, `first` to `first + count`. */
type RowReader = (first: number, count: number) => Promise<RowBlock>;

interface RowsTarget {
  /** The table, for messages. */
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  readonly format: QuantizedRowFormat;
}

/** Rows that hold their scale and bias. The tensor itself where it has Hotrow's layout already. */
export function repackedRows(name: string, weight: StoredTensor, layout: PackedLayout): StoredTensor {
  const { format, dim, width, header } = layout;
  const rows = at(weight.shape, 0);
  const same = header.place === 'front' && width === rowBytes({ dim, rowFormat: format });
  if (same) return { ...weight, annotation: quantizedRowsText({ format, dim }) };
  const offsets = packedOffsets(layout);
  const step = headerBytes(header) / 2;
  return assembled({ name, rows, dim, format }, width, [weight], async (first, count) => {
    const bytes = await rowsOf(weight, width, first, count);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const numbers = (offset: number) =>
      Float32Array.from({ length: count }, (_, i) => {
        const at = i * width + offsets.header + offset;
        return header.dtype === 'float16'
          ? float16ToNumber(view.getUint16(at, true))
          : view.getFloat32(at, true);
      });
    const { elements } = offsets;
    return {
      ...{ bytes, width, elements, elementBytes: packedBytes(format, dim) },
      ...{ scale: numbers(0), bias: numbers(step) },
    };
  });
}

/** Scales or biases apart from the rows: one for each, or one for all; rounded to float32. */
export type RowNumbers = (first: number, count: number) => Promise<Float32Array>;

/** @throws as readBytes, when it is called. */
export function numbersOf(tensor: StoredTensor, rows: number): RowNumbers {
  const { dtype, shape } = tensor;
  if (shape.every((extent) => extent === 1) && rows !== 1) {
    return async (_, count) => new Float32Array(count).fill(at(toFloat32(await readTensor(tensor)), 0));
  }
  const size = elementBytes(dtype);
  return async (first, count) => {
    const bytes = new Uint8Array(count * size);
    await readBytes(tensor, bytes, first * size);
    return toFloat32({ dtype, shape: [count], data: viewElements(dtype, bytes) });
  };
}

/** Rows [rows, bytes of their elements], uint8 or int8, with scales and biases apart; without biases these are 0. */
export function joinedRows(
  name: string,
  weight: StoredTensor,
  { scale, bias }: { readonly scale: RowNumbers; readonly bias: RowNumbers | undefined },
  { format, dim }: Pick<PackedLayout, 'format' | 'dim'>,
  sources: readonly StoredTensor[],
): StoredTensor {
  const [rows, width] = weight.shape as [number, number];
  const signed = weight.dtype === 'int8';
  return assembled({ name, rows, dim, format }, width, [weight, ...sources], async (first, count) => {
    const scales = await scale(first, count);
    const biases = (await bias?.(first, count)) ?? new Float32Array(count);
    return {
      ...{ bytes: await rowsOf(weight, width, first, count), width, elements: 0, elementBytes: width },
      scale: scales,
      // An element q is q + 128 there.
      bias: signed ? biases.map((x, i) => x - 128 * (scales[i] as number)) : biases,
      signed,
    };
  });
}

/** Rows of float8, [rows, dim] of float8_e4m3. The tensor's bytes themselves where rows need no padding. */
export function float8Rows(name: string, weight: StoredTensor): StoredTensor {
  const format = 'float8_e4m3';
  const [rows, dim] = weight.shape as [number, number];
  if (rowBytes({ dim, rowFormat: format }) === dim)
    return { ...weight, dtype: 'uint8', annotation: quantizedRowsText({ format, dim }) };
  return assembled({ name, rows, dim, format }, dim, [weight], async (first, count) => {
    const bytes = await rowsOf(weight, dim, first, count);
    return { bytes, width: dim, elements: 0, elementBytes: dim };
  });
}

async function rowsOf(
  weight: StoredTensor,
  width: number,
  first: number,
  count: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(count * width);
  await readBytes(weight, bytes, first * width);
  return bytes;
}

/** The tensor whose rows `reader` brings; `width` bytes are stored per row. */
function assembled(
  target: RowsTarget,
  width: number,
  sources: readonly StoredTensor[],
  reader: RowReader,
): AssembledTensor {
  const { rows, dim, format } = target;
  const stride = rowBytes({ dim, rowFormat: format });
  const rowsAtOnce = Math.max(1, Math.floor(BLOCK_BYTES / width));
  return {
    dtype: 'uint8',
    shape: [rows, stride],
    byteLength: rows * stride,
    annotation: quantizedRowsText({ format, dim }),
    files: [...new Set(sources.flatMap(filesOf))],
    read: async (into, at) => {
      for (let done = 0; done < into.length; ) {
        const first = Math.floor((at + done) / stride);
        const skipped = at + done - first * stride;
        const wanted = Math.ceil((skipped + into.length - done) / stride);
        const count = Math.min(rowsAtOnce, wanted);
        const block = packed(await reader(first, count), target, first).subarray(skipped);
        const part = block.subarray(0, into.length - done);
        into.set(part, done);
        done += part.length;
      }
    },
  };
}

/** A block's rows in Hotrow's layout. */
function packed(block: RowBlock, target: RowsTarget, first: number): Uint8Array {
  const { bytes, width, elements, elementBytes: size, scale, bias, signed = false } = block;
  const { dim, format } = target;
  const stride = rowBytes({ dim, rowFormat: format });
  const count = bytes.length / width;
  const own = rowLayout(format).headerBytes;
  const result = new Uint8Array(count * stride);
  const headers = new DataView(result.buffer);
  for (let i = 0; i < count; i++) {
    const start = i * width + elements;
    const to = i * stride;
    result.set(bytes.subarray(start, start + size), to + own);
    if (signed) for (let d = to + own; d < to + own + size; d++) result[d] = (result[d] as number) ^ 0x80;
    if (format === 'float8_e4m3') continue;
    const numbers = { scale: scale?.[i] as number, bias: bias?.[i] as number };
    if (roundsBadly(result, to + own, numbers, { format, dim })) {
      const row = result.subarray(to, to + stride);
      row.set(inTable(target.name, () => requantized(row, numbers, target, first + i)));
    } else {
      headers.setUint16(to, numberToFloat16(numbers.scale), true);
      headers.setUint16(to + 2, numberToFloat16(numbers.bias), true);
    }
  }
  return result;
}

interface RowNumber {
  readonly scale: number;
  readonly bias: number;
}

/** Whether rounding scale and bias to float16 moves an element by more than half a level of what the row holds. */
function roundsBadly(
  bytes: Uint8Array,
  at: number,
  { scale, bias }: RowNumber,
  row: Pick<PackedLayout, 'format' | 'dim'>,
): boolean {
  const top = TOP_LEVEL[row.format];
  const off = (x: number) => Math.abs(float16ToNumber(numberToFloat16(x)) - x);
  const moved = top * off(scale) + off(bias);
  if (!(moved > 0)) return false;
  const [lowest, highest] = range(bytes, at, row);
  return moved > ((highest - lowest) / top / 2) * scale;
}

/** The values of a row in Hotrow's layout, but for its header, quantised anew. */
function requantized(
  row: Uint8Array,
  { scale, bias }: RowNumber,
  { dim, format }: RowsTarget,
  number: number,
): Uint8Array {
  const values = Float32Array.from({ length: dim }, (_, d) => scale * storedElement(row, d, format) + bias);
  return quantizeRows(values, dim, format, number).data;
}
