/** Elements of matrices in every format, and how coarse a format is. */
import { elementBytes } from '../../src/backend/backend.ts';
import { activationFormat, type ElementFormat, type UnscaledPrecision } from '../../src/device.ts';
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';

/** Elements as a device has them: the values of float32, the bits of others. */
export type Elements = Float32Array | Uint16Array;

const CODECS: Readonly<
  Record<ElementFormat, readonly [encode: (x: number) => number, decode: (x: number) => number]>
> = {
  float32: [(x) => x, (x) => x],
  float16: [numberToFloat16, float16ToNumber],
  bfloat16: [numberToBfloat16, bfloat16ToNumber],
};

/** Zeros, in memory of their own. */
export function newElements(format: ElementFormat, count: number): Elements {
  const memory = new ArrayBuffer(count * elementBytes({ format }));
  return format === 'float32' ? new Float32Array(memory) : new Uint16Array(memory);
}

export function encoded(format: ElementFormat, value: number): number {
  return CODECS[format][0](value);
}

export function decoded(format: ElementFormat, element: number): number {
  return CODECS[format][1](element);
}

/** The nearest value that a format has. */
export function roundedTo(format: ElementFormat, value: number): number {
  return decoded(format, encoded(format, Math.fround(value)));
}

/** The most that rounding once to a format changes a value by: half a unit in its last place, or of the smallest number. */
export function roundingOf(format: ElementFormat, value: number): number {
  const [relative, least] = {
    float32: [2 ** -24, 2 ** -150],
    float16: [2 ** -11, 2 ** -25],
    bfloat16: [2 ** -8, 2 ** -134],
  }[format] as [number, number];
  return Math.max(relative * Math.abs(value), least);
}

/** Formats of matrices that a layer of a precision takes and gives. */
export function formatsOf(precision: UnscaledPrecision): readonly ElementFormat[] {
  return [...new Set<ElementFormat>(['float32', activationFormat(precision)])];
}
