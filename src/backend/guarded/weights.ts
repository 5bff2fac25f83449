/** Weights of layers that callers place. */
import { arrayOf } from '../../checks/arguments.ts';
import { type Check, membersOf, optional, refuseOption } from '../../checks/value.ts';
import type { DensePrecision } from '../../device.ts';
import { isScale, LEAST_SCALE, type ScaledWeight } from '../scaled-weight.ts';

const SCALE = `a finite number from ${LEAST_SCALE} on`;

const scale: Check<number> = (value, at) =>
  typeof value === 'number' && isScale(value) ? value : refuseOption(at, value, SCALE);

const scales =
  (outputs: number): Check<Float32Array> =>
  (value, at) => {
    const own = arrayOf('Float32Array', outputs)(value, at);
    const odd = own.findIndex((one) => !isScale(one));
    return odd < 0 ? own : refuseOption(`${at}[${odd}]`, own[odd], SCALE);
  };

/** A weight [outputs, inputs] of a precision; scaled ones are of float8_e4m3 alone. @throws UsageError OPTION_INVALID. */
export function weightOf(
  value: unknown,
  { outputs, inputs }: { readonly outputs: number; readonly inputs: number },
  precision: DensePrecision,
): Float32Array | ScaledWeight {
  const at = 'placeLinear: weight';
  const scaled = precision === 'float8_e4m3' && !(value instanceof Float32Array);
  if (!scaled) return arrayOf('Float32Array', outputs * inputs)(value, at);
  return membersOf<ScaledWeight>({
    elements: arrayOf('Uint8Array', outputs * inputs),
    scales: scales(outputs),
    inputScale: optional(scale),
  })(value, at);
}
