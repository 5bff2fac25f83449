/** The dense operations of a program, ready to be put into a stream. */
import type { CudaStream } from '../../../cuda/stream.ts';
import {
  type CopyOperation,
  type DotInteractionOperation,
  type LinearOperation,
  type Matrix,
  type Operation,
  ownBy,
  type RowFunctionOperation,
} from '../../backend.ts';
import { startOf } from '../memory/buffer.ts';
import { CudaLinear } from './cuda-linear.ts';
import type { DenseKernels } from './dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix } from './dense-operation.ts';

export type DenseOperation = LinearOperation | DotInteractionOperation | RowFunctionOperation | CopyOperation;

export function isDense(operation: Operation): operation is DenseOperation {
  const { op } = operation;
  return op === 'linear' || op === 'dotInteraction' || op === 'rowFunction' || op === 'copy';
}

/**
 * Makes an operation ready: returns what puts it into a stream. Blocks for some milliseconds when a linear layer has a
 * shape that was not seen before, since the ways to compute it are measured.
 * @throws DeviceError KERNEL_FAILED for matrices that do not fit, OUT_OF_MEMORY.
 */
export function prepareDense(kernels: DenseKernels, operation: DenseOperation): (stream: CudaStream) => void {
  const output = deviceMatrix(operation.output);
  const input = deviceMatrix(operation.input);
  switch (operation.op) {
    case 'linear': {
      const { layer, activation, cross } = operation;
      const linear: DeviceLinear = {
        layer: ownBy(CudaLinear, layer),
        input,
        output,
        activation,
        ...(cross === undefined ? {} : { cross: { x0: deviceMatrix(cross.x0), x: deviceMatrix(cross.x) } }),
      };
      kernels.prepare(linear);
      return (stream) => kernels.linear(stream, linear);
    }
    case 'dotInteraction': {
      const { features, dim, diagonal, order } = operation;
      const dot = { input, output, features, dim, diagonal, order };
      return (stream) => kernels.dotInteraction(stream, dot);
    }
    case 'rowFunction':
      return (stream) => kernels.rowFunction(stream, { function: operation.function, input, output });
    case 'copy':
      return (stream) => kernels.copy(stream, { input, output });
    default:
      return operation satisfies never;
  }
}

function deviceMatrix(matrix: Matrix): DeviceMatrix {
  const { rows, cols, stride } = matrix;
  return { address: startOf(matrix), rows, cols, stride };
}
