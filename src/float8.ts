/**
 * float8 e4m3 as machine learning has it (e4m3fn of "FP8 Formats for Deep Learning", Micikevicius et al. 2022; OCP OFP8): a sign,
 * four bits of exponent with bias 7, three of mantissa. No infinities; 0x7f and 0xff are NaN; the largest is 448, the smallest
 * normal one 2⁻⁶, steps below it are 2⁻⁹.
 */

/** The largest float8 e4m3. */
export const FLOAT8_E4M3_MOST = 448;
const FLOAT8_NAN = 0x7f;

/** float32 number → float8 e4m3 bits, rounded to nearest even, saturating, infinities too; NaN stays NaN. */
export function numberToFloat8(value: number): number {
  if (Number.isNaN(value)) return FLOAT8_NAN;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const size = Math.abs(value);
  if (size >= FLOAT8_E4M3_MOST) return sign | 0x7e;
  // In units of the last place: 2^-9 for subnormals, else 2^(exponent - 3).
  scratch[0] = size;
  const exponent = Math.max(-6, ((scratchBits[0] as number) >>> 23) - 127);
  const units = roundToEven(size * (UNITS[exponent + 6] as number));
  // 8 units are the next exponent's first.
  return sign | (units < 8 ? units : ((exponent + 7) << 3) + (units - 8));
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);
/** 2^(3 - exponent), from exponent -6 on. */
const UNITS = Float64Array.from({ length: 15 }, (_, i) => 2 ** (9 - i));

function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** float8 e4m3 bits → number, exact. */
export function float8ToNumber(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 15;
  const mantissa = bits & 7;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return exponent === 0 ? sign * mantissa * 2 ** -9 : sign * (8 + mantissa) * 2 ** (exponent - 10);
}

/** The values of all 256, by their bits. */
export const FLOAT8_VALUES = Float32Array.from({ length: 256 }, (_, bits) => float8ToNumber(bits));
