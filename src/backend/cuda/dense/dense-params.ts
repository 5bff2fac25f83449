/** Parameter blocks of the dense CUDA kernels, as their structs in kernels/cuda lay them out. */
import type { Activation } from '../../backend.ts';
import { words } from '../kernels/params.ts';

/** An address in device memory; 0: none. */
type Address = bigint;

/** `hotrow::DotInteractionParams`. */
export interface DotInteractionParams {
  readonly input: Address;
  readonly inputStride: number;
  readonly features: number;
  readonly dim: number;
  /** 1: with the diagonal. */
  readonly diagonal: number;
  /** 0: the lower triangle; 1: the upper one. */
  readonly upper: number;
  readonly output: Address;
  readonly outputStride: number;
  readonly batch: number;
}

export function encodeDotInteraction(params: DotInteractionParams): BigInt64Array {
  const { input, inputStride, features, dim, diagonal, upper, output, outputStride, batch } = params;
  return words(input, inputStride, features, dim, diagonal, upper, output, outputStride, batch);
}

/** `hotrow::Activation`. */
export const ACTIVATION_NUMBER = { none: 0, relu: 1, sigmoid: 2 } as const satisfies Record<
  Activation,
  number
>;

/** What finishes the sums of a linear layer. */
interface Finish {
  readonly bias: Address;
  /** Of ACTIVATION_NUMBER. */
  readonly activation: number;
  readonly x0: Address;
  readonly x0Stride: number;
  readonly x: Address;
  readonly xStride: number;
  readonly output: Address;
  readonly outputStride: number;
  readonly batch: number;
  readonly outputs: number;
}

function finishFields(finish: Finish): (number | bigint)[] {
  const { bias, activation, x0, x0Stride, x, xStride, output, outputStride, batch, outputs } = finish;
  return [bias, activation, x0, x0Stride, x, xStride, output, outputStride, batch, outputs];
}

/** `hotrow::FinishLinearParams`. */
export interface FinishLinearParams extends Finish {
  readonly sums: Address;
  readonly sumsStride: number;
}

export function encodeFinishLinear(params: FinishLinearParams): BigInt64Array {
  return words(params.sums, params.sumsStride, ...finishFields(params));
}

/** `hotrow::DirectLinearParams`. */
export interface DirectLinearParams extends Finish {
  readonly input: Address;
  readonly inputStride: number;
  readonly weight: Address;
  readonly weightStride: number;
  readonly inputs: number;
}

export function encodeDirectLinear(params: DirectLinearParams): BigInt64Array {
  const { input, inputStride, weight, weightStride, inputs } = params;
  return words(input, inputStride, weight, weightStride, inputs, ...finishFields(params));
}

/** `hotrow::ConvertRowsParams`. */
export interface ConvertRowsParams {
  readonly input: Address;
  readonly inputStride: number;
  readonly output: Address;
  readonly outputStride: number;
  readonly rows: number;
  readonly columns: number;
  readonly outputColumns: number;
}

export function encodeConvertRows(params: ConvertRowsParams): BigInt64Array {
  const { input, inputStride, output, outputStride, rows, columns, outputColumns } = params;
  return words(input, inputStride, output, outputStride, rows, columns, outputColumns);
}
