/** What the host tells the dense kernels: dot_interaction.cuh, row_function.cuh, linear.cuh, round_rows.cuh, cross_product.cuh, convert_rows.cuh. */
import { struct } from '../kernels/struct.ts';

export const DotInteractionParams = struct('DotInteractionParams', 'dot_interaction.cuh', {
  input: 'address',
  inputStride: 'integer',
  features: 'integer',
  dim: 'integer',
  /** 1: with the diagonal. */
  diagonal: 'integer',
  /** 0: the lower triangle; 1: the upper one. */
  upper: 'integer',
  output: 'address',
  outputStride: 'integer',
  batch: 'integer',
  /** Zeros behind the pairs. */
  padding: 'integer',
});

export const RowFunctionParams = struct('RowFunctionParams', 'row_function.cuh', {
  input: 'address',
  inputStride: 'integer',
  columns: 'integer',
  output: 'address',
  outputStride: 'integer',
  batch: 'integer',
});

/** What finishes the sums of a linear layer. */
const FINISH = {
  bias: 'address',
  /** `hotrow::Activation`: a number of ACTIVATION. */
  activation: 'integer',
  x0: 'address',
  x0Stride: 'integer',
  x: 'address',
  xStride: 'integer',
  output: 'address',
  outputStride: 'integer',
  batch: 'integer',
  outputs: 'integer',
  rowScales: 'address',
  weightScales: 'address',
} as const;

export const FinishLinearParams = struct('FinishLinearParams', 'linear.cuh', {
  sums: 'address',
  sumsStride: 'integer',
  ...FINISH,
});

export const DirectLinearParams = struct('DirectLinearParams', 'linear.cuh', {
  input: 'address',
  inputStride: 'integer',
  weight: 'address',
  weightStride: 'integer',
  inputs: 'integer',
  ...FINISH,
});

/** Behind the CUtensorMaps of its matrices: see `crossProductWords`. */
export const CrossProductParams = struct('CrossProductParams', 'cross_product.cuh', {
  weight: 'address',
  weightStride: 'integer',
  bias: 'address',
  batch: 'integer',
  outputs: 'integer',
  inputs: 'integer',
  rowScales: 'address',
  weightScales: 'address',
  /** 1: x is x0. */
  xIsX0: 'integer',
  x0: 'address',
  x0Stride: 'integer',
  /** 0: the output is not written in 8 bits. */
  rounded: 'address',
  roundedStride: 'integer',
  /** The bits of a float32. */
  roundedScale: 'integer',
  /** 1: the output is written in 8 bits alone. */
  roundedAlone: 'integer',
});

export const RoundRowsParams = struct('RoundRowsParams', 'round_rows.cuh', {
  input: 'address',
  inputStride: 'integer',
  output: 'address',
  outputStride: 'integer',
  scales: 'address',
  /** The bits of a float32. */
  inputScale: 'integer',
  rows: 'integer',
  columns: 'integer',
  outputColumns: 'integer',
});

export const ConvertRowsParams = struct('ConvertRowsParams', 'convert_rows.cuh', {
  input: 'address',
  inputStride: 'integer',
  output: 'address',
  outputStride: 'integer',
  rows: 'integer',
  columns: 'integer',
  outputColumns: 'integer',
});
