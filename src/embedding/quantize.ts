/** Rows of floats to quantised rows, and back. */
import { allocated, arrayOf } from '../checks/arguments.ts';
import { type Check, oneOf, refuseOption, someOf, whole } from '../checks/value.ts';
import { ModelError } from '../errors.ts';
import { FLOAT8_E4M3_MOST, FLOAT8_VALUES, numberToFloat8 } from '../float8.ts';
import { float16ToNumber, numberToFloat16 } from '../tensor.ts';
import { QUANTIZED_ROW_FORMATS, type QuantizedRowFormat, rowBytes, rowLayout } from './row-format.ts';

/** What quantising some rows lost. */
export interface QuantizationError {
  readonly elements: number;
  /** Of an element: |quantised - original|. */
  readonly maxAbsolute: number;
  readonly sumSquaredError: number;
  readonly sumSquares: number;
  /** Elements beyond what the format holds, which became the nearest that it does. */
  readonly saturated: number;
}

export const NO_ERROR: QuantizationError = {
  elements: 0,
  maxAbsolute: 0,
  sumSquaredError: 0,
  sumSquares: 0,
  saturated: 0,
};

export function addErrors(a: QuantizationError, b: QuantizationError): QuantizationError {
  return {
    elements: a.elements + b.elements,
    maxAbsolute: Math.max(a.maxAbsolute, b.maxAbsolute),
    sumSquaredError: a.sumSquaredError + b.sumSquaredError,
    sumSquares: a.sumSquares + b.sumSquares,
    saturated: a.saturated + b.saturated,
  };
}

/** A number from 0 on; sums may be infinite. */
const sum: Check<number> = (value, at) =>
  typeof value === 'number' && value >= 0 ? value : refuseOption(at, value, 'a number from 0 on');

const SUMS = someOf<Pick<QuantizationError, 'sumSquaredError' | 'sumSquares'>>({
  sumSquaredError: sum,
  sumSquares: sum,
});

/** √(Σ error² / Σ value²); 0 where all is 0. @throws UsageError OPTION_INVALID. */
export function relativeRmsError(error: QuantizationError): number {
  const { sumSquaredError, sumSquares } = SUMS(error, 'relativeRmsError');
  return sumSquares === 0 ? 0 : Math.sqrt(sumSquaredError / sumSquares);
}

export interface QuantizedRows {
  /** [rows, rowBytes]. */
  readonly data: Uint8Array;
  readonly error: QuantizationError;
}

/**
 * Quantises rows [rows, dim], each by itself.
 *
 * `int8` and `int4`, of n bits: bias = the row's smallest element, rounded down to float16; scale = (largest - bias) /
 * (2^n - 1), rounded to float16; q = (x - bias) / scale, rounded and clamped. Where float16 is too coarse for that scale
 * or that bias, other scales are tried, and the one whose largest error is smallest is taken (`scalesToTry`). So an
 * element is off by at most half a scale. `float8_e4m3`: rounded to nearest even, saturating.
 * @throws ModelError VALUE_NOT_FINITE for NaN and infinities, VALUE_OUT_OF_RANGE for a row beyond float16's range; both
 * name the row, counted from `firstRow`. UsageError OPTION_INVALID; DeviceError OUT_OF_MEMORY.
 */
export function quantizeRows(
  given: Float32Array,
  dim: number,
  format: QuantizedRowFormat,
  firstRow = 0,
): QuantizedRows {
  const values = arrayOf('Float32Array')(given, 'quantizeRows: values');
  oneOf(QUANTIZED_ROW_FORMATS)(format, 'quantizeRows: format');
  whole()(firstRow, 'quantizeRows: firstRow');
  const rows = rowsOf(values.length, whole(1)(dim, 'quantizeRows: dim'), 'quantizeRows: values.length');
  const stride = rowBytes({ dim, rowFormat: format });
  const data = allocated(`${rows} rows`, () => new Uint8Array(rows * stride));
  const encode = ENCODERS[format];
  let error = NO_ERROR;
  for (let row = 0; row < rows; row++) {
    const own = values.subarray(row * dim, (row + 1) * dim);
    const into = data.subarray(row * stride, (row + 1) * stride);
    checkFinite(own, firstRow + row);
    encode(own, into, firstRow + row);
    error = addErrors(error, errorOf(own, into, format));
  }
  return { data, error };
}

/** Rows of so many elements or bytes. */
function rowsOf(length: number, ofRow: number, at: string): number {
  return length % ofRow === 0 ? length / ofRow : refuseOption(at, length, `whole rows, of ${ofRow} each`);
}

function checkFinite(row: Float32Array, number: number): void {
  for (let d = 0; d < row.length; d++) {
    if (Number.isFinite(row[d])) continue;
    throw new ModelError('VALUE_NOT_FINITE', `row ${number} has ${row[d]} at ${d}`, { position: number });
  }
}

const ENCODERS: Readonly<
  Record<QuantizedRowFormat, (row: Float32Array, into: Uint8Array, number: number) => void>
> = {
  int8: (row, into, number) => {
    const { bias, step } = putHeader(row, into, 255, number);
    for (let d = 0; d < row.length; d++) into[4 + d] = level(row[d] as number, bias, step, 255);
  },
  int4: (row, into, number) => {
    const { bias, step } = putHeader(row, into, 15, number);
    for (let d = 0; d < row.length; d++) {
      const at = 4 + (d >> 1);
      into[at] = (into[at] as number) | (level(row[d] as number, bias, step, 15) << (4 * (d & 1)));
    }
  },
  float8_e4m3: (row, into) => {
    for (let d = 0; d < row.length; d++) into[d] = numberToFloat8(row[d] as number);
  },
};

/** Writes a row's scale and bias, both as float16. */
function putHeader(
  row: Float32Array,
  into: Uint8Array,
  levels: number,
  number: number,
): { readonly bias: number; readonly step: number } {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let d = 0; d < row.length; d++) {
    const x = row[d] as number;
    if (x < low) low = x;
    if (x > high) high = x;
  }
  const biasBits = float16Below(low);
  const bias = float16ToNumber(biasBits);
  const scales = scalesToTry(low, high, bias, levels);
  const scaleBits = scales.length === 1 ? (scales[0] as number) : bestScale(row, bias, scales, levels);
  const step = float16ToNumber(scaleBits);
  if (!Number.isFinite(bias) || !Number.isFinite(step)) {
    throw new ModelError(
      'VALUE_OUT_OF_RANGE',
      `row ${number} reaches from ${low} to ${high}, and float16, which its scale and bias are, ends at 65504`,
      { position: number },
    );
  }
  const header = new DataView(into.buffer, into.byteOffset, 4);
  header.setUint16(0, scaleBits, true);
  header.setUint16(2, biasBits, true);
  return { bias, step };
}

/**
 * The scales, as float16 bits, that may suit a row from `low` to `high` best: (high - bias) / levels to the nearest; where
 * its last level is then more than half a step below `high`, the next one up too; where the row is narrower than a step,
 * the one that puts level 1 in its middle too. The first one covers the row; a row of usual range has no other.
 */
function scalesToTry(low: number, high: number, bias: number, levels: number): number[] {
  const span = high - bias;
  const nearest = numberToFloat16(span / levels);
  const covers = span <= (levels + 0.5) * float16ToNumber(nearest);
  const scales = covers ? [nearest] : [nearest + 1, nearest];
  const narrow = span > 0 && high - low < float16ToNumber(scales[0] as number);
  return narrow ? [...scales, numberToFloat16((low + high) / 2 - bias)] : scales;
}

/** The scale whose largest error of an element is smallest; of equals the first. */
function bestScale(row: Float32Array, bias: number, scales: readonly number[], levels: number): number {
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (const bits of scales) {
    const step = float16ToNumber(bits);
    let largest = 0;
    for (let d = 0; d < row.length && largest < least; d++) {
      const x = row[d] as number;
      const off = Math.abs(level(x, bias, step, levels) * step + bias - x);
      if (off > largest) largest = off;
    }
    if (largest >= least) continue;
    least = largest;
    best = bits;
  }
  return best;
}

/** The largest float16 that is not above `x`. */
function float16Below(x: number): number {
  const nearest = numberToFloat16(x);
  if (float16ToNumber(nearest) <= x) return nearest;
  // One step down: towards zero in size for positive numbers, away from it for negative ones.
  if (nearest === 0x0000 || nearest === 0x8000) return 0x8001;
  return nearest & 0x8000 ? nearest + 1 : nearest - 1;
}

/** The level nearest to x, which is not below the bias. */
function level(x: number, bias: number, step: number, levels: number): number {
  if (step === 0) return 0;
  const q = Math.round((x - bias) / step);
  return q > levels ? levels : q;
}

/**
 * The float32 values of quantised rows [rows, rowBytes]: scale · q + bias, rounded once; [rows, dim].
 * @throws UsageError OPTION_INVALID; DeviceError OUT_OF_MEMORY.
 */
export function dequantizeRows(given: Uint8Array, dim: number, format: QuantizedRowFormat): Float32Array {
  const data = arrayOf('Uint8Array')(given, 'dequantizeRows: data');
  oneOf(QUANTIZED_ROW_FORMATS)(format, 'dequantizeRows: format');
  const stride = rowBytes({ dim: whole(1)(dim, 'dequantizeRows: dim'), rowFormat: format });
  const rows = rowsOf(data.length, stride, 'dequantizeRows: data.length');
  const values = allocated(`${rows} rows`, () => new Float32Array(rows * dim));
  for (let row = 0; row < rows; row++) {
    const own = data.subarray(row * stride, (row + 1) * stride);
    const { scale, bias } = headerOf(own, format);
    for (let d = 0; d < dim; d++) values[row * dim + d] = valueAt(own, d, format, scale, bias);
  }
  return values;
}

/** Scale and bias of a row; 1 and 0 where it has none. */
export function headerOf(row: Uint8Array, format: QuantizedRowFormat): { scale: number; bias: number } {
  if (rowLayout(format).headerBytes === 0) return { scale: 1, bias: 0 };
  const header = new DataView(row.buffer, row.byteOffset, 4);
  return {
    scale: float16ToNumber(header.getUint16(0, true)),
    bias: float16ToNumber(header.getUint16(2, true)),
  };
}

/** The element q of a row as it is stored, a number: of float8 its value. */
export function storedElement(row: Uint8Array, d: number, format: QuantizedRowFormat): number {
  switch (format) {
    case 'int8':
      return row[4 + d] as number;
    case 'int4':
      return ((row[4 + (d >> 1)] as number) >> (4 * (d & 1))) & 15;
    case 'float8_e4m3':
      return FLOAT8_VALUES[row[d] as number] as number;
    default:
      return format satisfies never;
  }
}

/** scale · q is exact in a double, and so is the sum, before the caller rounds it. */
function valueAt(
  row: Uint8Array,
  d: number,
  format: QuantizedRowFormat,
  scale: number,
  bias: number,
): number {
  const q = storedElement(row, d, format);
  // Without a header nothing is added: -0 keeps its sign.
  return rowLayout(format).headerBytes === 0 ? q : scale * q + bias;
}

function errorOf(row: Float32Array, stored: Uint8Array, format: QuantizedRowFormat): QuantizationError {
  const { scale, bias } = headerOf(stored, format);
  let maxAbsolute = 0;
  let sumSquaredError = 0;
  let sumSquares = 0;
  let saturated = 0;
  for (let d = 0; d < row.length; d++) {
    const x = row[d] as number;
    const difference = Math.abs(valueAt(stored, d, format, scale, bias) - x);
    if (difference > maxAbsolute) maxAbsolute = difference;
    sumSquaredError += difference * difference;
    sumSquares += x * x;
    if (format === 'float8_e4m3' && Math.abs(x) > FLOAT8_E4M3_MOST) saturated += 1;
  }
  return { elements: row.length, maxAbsolute, sumSquaredError, sumSquares, saturated };
}
