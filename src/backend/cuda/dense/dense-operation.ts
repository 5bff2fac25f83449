/** The dense operations of the contract over device addresses: their types, their checks, what follows from their layout. */

import { activationFormat, type ElementFormat, type UnscaledPrecision } from '../../../device.ts';
import { DeviceError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { type Activation, elementBytes } from '../../backend.ts';
import type { RowFunction } from '../../row-functions.ts';
import type { CudaLinear } from './cuda-linear.ts';
import { type PackWidth, widestPack } from './dense-source.ts';
import { addressAlignment } from './linear-choice.ts';

/** A row-major matrix in device memory. */
export interface DeviceMatrix {
  readonly format: ElementFormat;
  /** Of row 0, column 0. */
  readonly address: DevicePtr;
  readonly rows: number;
  readonly cols: number;
  /** Elements between the starts of consecutive rows. */
  readonly stride: number;
  /** Columns behind the last that hold zeros; default: 0. */
  readonly padding?: number;
}

/** A matrix in 8 bits: e4m3(x · (1 / scale)), [rows, stride]. */
export interface RoundedCopy {
  /** A multiple of 16. */
  readonly address: DevicePtr;
  /** Bytes between rows, a multiple of 16. */
  readonly stride: number;
  /** Columns that are written: those of the matrix, then zeros. */
  readonly cols: number;
  readonly scale: number;
  /** Whether nobody needs what it is a copy of: of an output, which may be left unwritten. Default: false. */
  readonly alone?: boolean;
}

/** A LinearOperation of the contract, with device matrices. */
export interface DeviceLinear {
  readonly layer: CudaLinear;
  readonly input: DeviceMatrix;
  readonly output: DeviceMatrix;
  readonly activation: Activation;
  /** Of the output's format; either may be the output. */
  readonly cross?: { readonly x0: DeviceMatrix; readonly x: DeviceMatrix };
  /** The output in 8 bits too: written by whatever computes the layer, from the values that the output holds, as round_rows does. */
  readonly rounded?: RoundedCopy;
  /** The input is there in 8 bits already, by the scale that the layer has for all its inputs. */
  readonly inputRounded?: RoundedCopy;
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

/** Whether a layer's input is multiplied as it lies: one that is not is converted first. */
export function isMultipliedAsItIs({ layer, input }: Pick<DeviceLinear, 'layer' | 'input'>): boolean {
  return layer.scales === undefined && input.format === activationFormat(layer.kernels);
}

/** The columns of a layer's input that are multiplied: with its zeros, where they fill rows up to those of the weight. */
export function multipliedColumns({ layer, input }: Pick<DeviceLinear, 'layer' | 'input'>): number {
  const { inputs, weightStride } = layer;
  const { padding = 0 } = input;
  return inputs + padding >= weightStride ? weightStride : inputs;
}

/** Everything that the choice for a layer depends on. */
export function shapeKey(operation: DeviceLinear): string {
  const { layer, input, output, activation, cross, rounded, inputRounded } = operation;
  const place = ({ address, stride, format }: DeviceMatrix) =>
    `${format === 'float32' ? '' : format}+${stride}@${addressAlignment(address)}`;
  return [
    `${input.rows}×${multipliedColumns(operation)}→${layer.outputs}`,
    ...(layer.scales === undefined ? [] : ['float8_e4m3']),
    ...(layer.scales?.areOne === true ? ['by one scale'] : []),
    ...(layer.hasBias ? ['bias'] : []),
    ...(activation === 'none' ? [] : [activation]),
    ...(cross === undefined ? [] : [isInPlace(operation) ? 'cross in place' : 'cross']),
    ...(inputRounded === undefined ? [] : [`from 8 bits +${inputRounded.stride}`]),
    ...(rounded === undefined ? [] : [`to 8 bits ${rounded.cols}+${rounded.stride}`]),
    ...(rounded?.alone === true ? ['alone'] : []),
    `${place(input)}${place(output)}`,
  ].join(' ');
}

/** Whether a cross overwrites what it reads. */
export function isInPlace({ output, cross }: Pick<DeviceLinear, 'output' | 'cross'>): boolean {
  return cross !== undefined && [cross.x0, cross.x].some(({ address }) => address === output.address);
}

/** How many elements at a time: 16 bytes of the widest when `cols` and every matrix allow it. */
export function widthOf(cols: number, matrices: readonly DeviceMatrix[]): PackWidth {
  const widest = widestPack(...matrices.map(({ format }) => format));
  const aligned = ({ address, stride, format }: DeviceMatrix) =>
    stride % widest === 0 && address % BigInt(widest * elementBytes({ format })) === 0n;
  return cols % widest === 0 && matrices.every(aligned) ? widest : 1;
}

export function checkLinear(operation: DeviceLinear, precision: UnscaledPrecision): void {
  const { layer, input, output, activation, cross } = operation;
  if (layer.kernels !== precision) {
    throw new DeviceError('KERNEL_FAILED', `a ${layer.kernels} layer ran on ${precision} kernels`);
  }
  const formats = [activationFormat(precision), 'float32'] as const;
  checkMatrix('the input', input, output.rows, layer.inputs, formats);
  checkMatrix('the output', output, input.rows, layer.outputs, formats);
  checkCopies(operation);
  if (cross === undefined) return;
  if (activation !== 'none') {
    throw new DeviceError('KERNEL_FAILED', `a cross layer has no activation, not ${activation}`);
  }
  checkMatrix('x0', cross.x0, output.rows, layer.outputs, [output.format]);
  checkMatrix('x', cross.x, output.rows, layer.outputs, [output.format]);
}

function checkCopies({ layer, rounded, inputRounded }: DeviceLinear): void {
  const checkCopy = (name: string, { address, stride, cols }: RoundedCopy, columns: number) => {
    if (address % 16n === 0n && stride % 16 === 0 && cols % 16 === 0 && stride >= cols && cols >= columns)
      return;
    const what = `${name} in 8 bits, at ${address} with ${stride} bytes a row`;
    throw new DeviceError('KERNEL_FAILED', `${what}, holds no rows of ${columns} in units of 16 bytes`);
  };
  if (rounded !== undefined) checkCopy('the output', rounded, layer.outputs);
  if (inputRounded === undefined) return;
  checkCopy('the input', inputRounded, layer.inputs);
  const scale = layer.scales?.input;
  if (scale === inputRounded.scale) return;
  throw new DeviceError('KERNEL_FAILED', `an input by the scale ${inputRounded.scale} is not by ${scale}`);
}

export function checkMatrix(
  name: string,
  { rows, cols, stride, format }: DeviceMatrix,
  expectedRows: number,
  expectedCols: number,
  formats: readonly ElementFormat[],
): void {
  if (!formats.includes(format))
    throw new DeviceError('KERNEL_FAILED', `${name} is ${format}, expected ${formats.join(' or ')}`);
  if (rows === expectedRows && cols === expectedCols && stride >= cols) return;
  throw new DeviceError(
    'KERNEL_FAILED',
    `${name} is [${rows}, ${cols}] with stride ${stride}, expected [${expectedRows}, ${expectedCols}]`,
  );
}
