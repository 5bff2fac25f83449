/** The dense operations of the contract over device addresses: their types, their checks, what follows from their layout. */

import type { UnscaledPrecision } from '../../../device.ts';
import { DeviceError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { Activation } from '../../backend.ts';
import type { RowFunction } from '../../row-functions.ts';
import type { CudaLinear } from './cuda-linear.ts';
import type { PackWidth } from './dense-source.ts';
import { addressAlignment } from './linear-choice.ts';

/** A row-major float32 matrix in device memory. */
export interface DeviceMatrix {
  /** Of row 0, column 0. */
  readonly address: DevicePtr;
  readonly rows: number;
  readonly cols: number;
  /** Elements between the starts of consecutive rows. */
  readonly stride: number;
}

/** A LinearOperation of the contract, with device matrices. */
export interface DeviceLinear {
  readonly layer: CudaLinear;
  readonly input: DeviceMatrix;
  readonly output: DeviceMatrix;
  readonly activation: Activation;
  /** `x` may be the output. */
  readonly cross?: { readonly x0: DeviceMatrix; readonly x: DeviceMatrix };
}

/** A DotInteractionOperation of the contract, with device matrices. */
export interface DeviceDotInteraction {
  readonly input: DeviceMatrix;
  readonly features: number;
  readonly dim: number;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
  readonly output: DeviceMatrix;
}

/** A RowFunctionOperation of the contract, with device matrices. */
export interface DeviceRowFunction {
  readonly function: RowFunction;
  readonly input: DeviceMatrix;
  readonly output: DeviceMatrix;
}

export interface DeviceCopy {
  readonly input: DeviceMatrix;
  readonly output: DeviceMatrix;
}

/** Sums that wait for a cross are packed, rows aligned to 16 bytes. */
export function sumsStride({ cols }: DeviceMatrix): number {
  return Math.ceil(cols / 4) * 4;
}

/** Everything that the choice for a layer depends on. */
export function shapeKey({ layer, input, output, activation, cross }: DeviceLinear): string {
  const place = ({ address, stride }: DeviceMatrix) => `+${stride}@${addressAlignment(address)}`;
  return [
    `${input.rows}×${layer.inputs}→${layer.outputs}`,
    ...(layer.bias === undefined ? [] : ['bias']),
    ...(activation === 'none' ? [] : [activation]),
    ...(cross === undefined ? [] : ['cross']),
    `${place(input)}${place(output)}`,
  ].join(' ');
}

/** How many elements at a time: 4 when `cols` and every matrix allow it. */
export function widthOf(cols: number, matrices: readonly DeviceMatrix[]): PackWidth {
  const aligned = ({ address, stride }: DeviceMatrix) => stride % 4 === 0 && address % 16n === 0n;
  return cols % 4 === 0 && matrices.every(aligned) ? 4 : 1;
}

export function checkLinear(
  { layer, input, output, activation, cross }: DeviceLinear,
  precision: UnscaledPrecision,
): void {
  if (layer.precision !== precision) {
    throw new DeviceError('KERNEL_FAILED', `a ${layer.precision} layer ran on ${precision} kernels`);
  }
  checkMatrix('the input', input, output.rows, layer.inputs);
  checkMatrix('the output', output, input.rows, layer.outputs);
  if (cross === undefined) return;
  if (activation !== 'none') {
    throw new DeviceError('KERNEL_FAILED', `a cross layer has no activation, not ${activation}`);
  }
  checkMatrix('x0', cross.x0, output.rows, layer.outputs);
  checkMatrix('x', cross.x, output.rows, layer.outputs);
}

export function checkMatrix(
  name: string,
  { rows, cols, stride }: DeviceMatrix,
  expectedRows: number,
  expectedCols: number,
): void {
  if (rows === expectedRows && cols === expectedCols && stride >= cols) return;
  throw new DeviceError(
    'KERNEL_FAILED',
    `${name} is [${rows}, ${cols}] with stride ${stride}, expected [${expectedRows}, ${expectedCols}]`,
  );
}
