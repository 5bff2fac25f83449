/** Weights of linear layers in 8 bits, one scale for each output, and how inputs are rounded to multiply with them. */
import { ModelError } from '../errors.ts';
import { FLOAT8_E4M3_MOST, FLOAT8_VALUES, numberToFloat8 } from '../float8.ts';

/** A weight W [outputs, inputs] in 8 bits: W[n, k] = elements[n, k] · scales[n]. */
export interface ScaledWeight {
  /** float8 e4m3 [outputs, inputs]. */
  readonly elements: Uint8Array;
  /** [outputs], finite and above 0. */
  readonly scales: Float32Array;
  /** What inputs are divided by before they are rounded, finite and above 0. Default: for each row its largest |x| / 448. */
  readonly inputScale?: number;
}

/** The smallest scale: what it is the scale of is less than 2⁻⁹¹, and its inverse is far from infinite. */
export const LEAST_SCALE = 2 ** -100;

/** The scale under which the largest of some numbers becomes the largest float8 e4m3. */
export function scaleFor(largest: number): number {
  return Math.max(Math.fround(largest / FLOAT8_E4M3_MOST), LEAST_SCALE);
}

/** Whether a number can be a scale. */
export function isScale(value: number): boolean {
  return Number.isFinite(value) && value >= LEAST_SCALE;
}

/** Whose largest |W| a scale of a weight is of: each output's, or that of all, which all have then. */
export type WeightScales = 'output' | 'tensor';
export const WEIGHT_SCALES: readonly WeightScales[] = Object.freeze(['tensor', 'output'] as const);

/**
 * Rounds a weight [outputs, inputs] to float8 e4m3, each output by its own scale, or all by one.
 * @throws ModelError VALUE_NOT_FINITE for NaN and infinities.
 */
export function scaledWeight(
  weight: Float32Array,
  outputs: number,
  scalesOf: WeightScales = 'output',
): ScaledWeight {
  const inputs = weight.length / outputs;
  const elements = new Uint8Array(weight.length);
  const scales = new Float32Array(outputs);
  for (let n = 0; n < outputs; n++) {
    const row = weight.subarray(n * inputs, (n + 1) * inputs);
    let largest = 0;
    for (let k = 0; k < inputs; k++) {
      const size = Math.abs(row[k] as number);
      if (!Number.isFinite(size))
        throw new ModelError('VALUE_NOT_FINITE', `the weight of output ${n} and input ${k} is ${row[k]}`, {
          position: n * inputs + k,
        });
      if (size > largest) largest = size;
    }
    scales[n] = scaleFor(largest);
  }
  if (scalesOf === 'tensor') scales.fill(scales.reduce((most, scale) => Math.max(most, scale), 0));
  for (let i = 0; i < weight.length; i++)
    elements[i] = numberToFloat8((weight[i] as number) / (scales[Math.floor(i / inputs)] as number));
  return { elements, scales };
}

/** A weight [outputs, inputs] in 8 bits, if it is not yet. */
export function asScaled(weight: Float32Array | ScaledWeight, outputs: number): ScaledWeight {
  return weight instanceof Float32Array ? scaledWeight(weight, outputs) : weight;
}

/** The values of a weight's elements without its scales, [outputs, inputs]. */
export function elementValues({ elements }: ScaledWeight): Float32Array {
  return Float32Array.from(elements, (bits) => FLOAT8_VALUES[bits] as number);
}

/** W [outputs, inputs], each value rounded once. */
export function unscaled(weight: ScaledWeight): Float32Array {
  const values = elementValues(weight);
  const inputs = values.length / weight.scales.length;
  for (let i = 0; i < values.length; i++)
    values[i] = (values[i] as number) * (weight.scales[Math.floor(i / inputs)] as number);
  return values;
}
