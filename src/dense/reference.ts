/** The dense operators as plainly as they can be written, in float64: what every device is compared with. */
import type { Activation } from '../backend/backend.ts';
import type { RowFunction } from '../backend/row-functions.ts';
import { scaleFor } from '../backend/scaled-weight.ts';
import { float8ToNumber, numberToFloat8 } from '../float8.ts';

type Values = Float32Array | Float64Array;

export interface ReferenceLinear {
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
  /** [batch, inputs]. */
  readonly input: Values;
  /** [outputs, inputs]. */
  readonly weight: Values;
  /** [outputs]. */
  readonly bias?: Values | undefined;
  readonly activation: Activation;
  /** Each [batch, outputs]. */
  readonly cross?: { readonly x0: Values; readonly x: Values } | undefined;
}

/** activation(input · Wᵀ + bias), or with `cross`: x0 ⊙ (input · Wᵀ + bias) + x; [batch, outputs]. */
export function referenceLinear(layer: ReferenceLinear): Float64Array {
  const { batch, inputs, outputs, input, weight, bias, activation, cross } = layer;
  const output = new Float64Array(batch * outputs);
  for (let m = 0; m < batch; m++) {
    for (let n = 0; n < outputs; n++) {
      let sum = 0;
      for (let k = 0; k < inputs; k++) {
        sum += (input[m * inputs + k] as number) * (weight[n * inputs + k] as number);
      }
      const at = m * outputs + n;
      const y = sum + (bias?.[n] ?? 0);
      output[at] =
        cross === undefined
          ? activate(y, activation)
          : (cross.x0[at] as number) * y + (cross.x[at] as number);
    }
  }
  return output;
}

/**
 * Inputs [batch, inputs] as an 8-bit layer multiplies them: each the value of float8 e4m3 nearest to x · (1 / s), in float32, times s.
 * s: `inputScale`, or, of each row, max(largest |x| / 448, 2⁻¹⁰⁰), NaN left out.
 */
export function roundedInputs(input: Float32Array, inputs: number, inputScale?: number): Float64Array {
  const rounded = new Float64Array(input.length);
  for (let first = 0; first < input.length; first += inputs) {
    const row = input.subarray(first, first + inputs);
    const largest = row.reduce((most, x) => (Math.abs(x) > most ? Math.abs(x) : most), 0);
    const scale = inputScale ?? scaleFor(largest);
    const inverse = Math.fround(1 / scale);
    row.forEach((x, k) => {
      rounded[first + k] = float8ToNumber(numberToFloat8(Math.fround(x * inverse))) * scale;
    });
  }
  return rounded;
}

function activate(y: number, activation: Activation): number {
  switch (activation) {
    case 'none':
      return y;
    case 'relu':
      return Math.max(0, y); // NaN stays NaN
    case 'sigmoid':
      return 1 / (1 + Math.exp(-y));
    default:
      return activation satisfies never;
  }
}

export interface ReferenceDotInteraction {
  readonly batch: number;
  readonly features: number;
  readonly dim: number;
  /** [batch, features, dim]. */
  readonly input: Values;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
}

/** The pairs (i, j) of `features` vectors in the order in which their products stand in the output. */
export function interactionPairs(
  features: number,
  diagonal: boolean,
  order: 'lower' | 'upper',
): [number, number][] {
  const pairs: [number, number][] = [];
  for (let i = 0; i < features; i++) {
    const [first, last] = order === 'lower' ? [0, i - 1] : [i + 1, features - 1];
    if (diagonal && order === 'upper') pairs.push([i, i]);
    for (let j = first; j <= last; j++) pairs.push([i, j]);
    if (diagonal && order === 'lower') pairs.push([i, i]);
  }
  return pairs;
}

/** Z[i] · Z[j] for every pair, Z = input[b] as [features, dim]; [batch, pairs]. */
export function referenceDotInteraction(interaction: ReferenceDotInteraction): Float64Array {
  const { batch, features, dim, input, diagonal, order } = interaction;
  const pairs = interactionPairs(features, diagonal, order);
  const output = new Float64Array(batch * pairs.length);
  for (let b = 0; b < batch; b++) {
    const z = b * features * dim;
    pairs.forEach(([i, j], p) => {
      let sum = 0;
      for (let d = 0; d < dim; d++) {
        sum += (input[z + i * dim + d] as number) * (input[z + j * dim + d] as number);
      }
      output[b * pairs.length + p] = sum;
    });
  }
  return output;
}

/** [batch, columns], row after row. */
export interface ReferenceRows {
  readonly batch: number;
  readonly columns: number;
  readonly input: Values;
}

/** The products of all pairs of elements of each row, added up [batch]: each element times those before it. */
function referenceFactorizationMachine({ batch, columns, input }: ReferenceRows): Float64Array {
  return Float64Array.from({ length: batch }, (_, b) => {
    let [before, pairs] = [0, 0];
    for (const x of input.subarray(b * columns, (b + 1) * columns)) {
      pairs += x * before;
      before += x;
    }
    return pairs;
  });
}

/** [batch, outputs] of every function of a row. */
export const REFERENCE_ROW_FUNCTIONS: Readonly<Record<RowFunction, (rows: ReferenceRows) => Float64Array>> = {
  factorizationMachine: referenceFactorizationMachine,
};
