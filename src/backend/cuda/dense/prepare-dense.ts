/** The dense operations of a program, ready to be put into a stream. */
import type { CudaStream } from '../../../cuda/stream.ts';
import {
  activationFormat,
  type DensePrecision,
  type ElementFormat,
  UNSCALED_PRECISIONS,
} from '../../../device.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import {
  type CopyOperation,
  type DotInteractionOperation,
  formatOf,
  type LinearOperation,
  type Matrix,
  type Operation,
  ownBy,
  type RowFunctionOperation,
} from '../../backend.ts';
import { startOf } from '../memory/buffer.ts';
import { CudaLinear } from './cuda-linear.ts';
import type { DenseKernels } from './dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix, RoundedCopy } from './dense-operation.ts';
import { type CopyPlace, eightBitCopies } from './eight-bit-copies.ts';

type DenseOperation = LinearOperation | DotInteractionOperation | RowFunctionOperation | CopyOperation;

function isDense(operation: Operation): operation is DenseOperation {
  const { op } = operation;
  return op === 'linear' || op === 'dotInteraction' || op === 'rowFunction' || op === 'copy';
}

function isCross([, operation]: readonly [number, DenseOperation]): boolean {
  return operation.op === 'linear' && operation.cross !== undefined;
}

/** Puts a dense operation into a stream. */
export type EnqueueDense = (stream: CudaStream) => void;

/**
 * Makes the dense operations of a program ready, by their place, each with the kernels of its precision: `kernelsIn` gives
 * them. Blocks for some milliseconds when a linear layer has a shape that was not seen before, since the ways to compute it
 * are measured.
 * @throws DeviceError KERNEL_FAILED for matrices that do not fit, OUT_OF_MEMORY; what `kernelsIn` throws.
 */
export async function prepareDense(
  program: readonly Operation[],
  kernelsIn: (precision?: DensePrecision) => Promise<DenseKernels>,
): Promise<Map<number, EnqueueDense>> {
  const operations = [...program.entries()].filter((entry): entry is [number, DenseOperation] =>
    isDense(entry[1]),
  );
  const precisions = [...new Set(operations.map(([, operation]) => precisionOf(operation)))];
  // Copies and functions of float32 rows are the same in every precision.
  const [forCopies] = precisions.filter((precision) => precision !== undefined);
  const kernels = new Map(
    await Promise.all(precisions.map(async (own) => [own, await kernelsIn(own ?? forCopies)] as const)),
  );
  for (const own of new Set(operations.filter(isCross).map(([, operation]) => precisionOf(operation))))
    await kernels.get(own)?.compileCrosses();
  const copies = placeCopies(program, kernels.get('float8_e4m3'));
  return new Map(
    operations.map(([place, operation]) => [
      place,
      prepareOne(kernels.get(precisionOf(operation)) as DenseKernels, operation, copies(place)),
    ]),
  );
}

type Copies = Pick<DeviceLinear, 'rounded' | 'inputRounded'>;

/** The copies in 8 bits that an operation writes and reads, by its place, in memory of the kernels that multiply them. */
function placeCopies(
  program: readonly Operation[],
  kernels: DenseKernels | undefined,
): (place: number) => Copies {
  if (kernels === undefined) return () => ({});
  const { bytes, written, read } = eightBitCopies(program, ({ layer }) => {
    const own = ownBy(CudaLinear, layer);
    return { writes: own.kernels === kernels.precision, inputScale: own.scales?.input };
  });
  if (bytes === 0) return () => ({});
  const start = kernels.reserveCopies(bytes);
  const copyAt = (place: CopyPlace | undefined): RoundedCopy | undefined => {
    if (place === undefined) return undefined;
    const { offset, stride, scale } = place;
    return { address: (start + BigInt(offset)) as DevicePtr, stride, scale };
  };
  return (place) => {
    const [rounded, inputRounded] = [copyAt(written.get(place)), copyAt(read.get(place))];
    return { ...(rounded && { rounded }), ...(inputRounded && { inputRounded }) };
  };
}

/** The precision whose kernels an operation needs; undefined: those of any. */
function precisionOf(operation: DenseOperation): DensePrecision | undefined {
  switch (operation.op) {
    case 'linear':
      return operation.layer.precision;
    case 'dotInteraction':
      return operation.precision;
    case 'rowFunction':
    case 'copy':
      return precisionWith([formatOf(operation.input), formatOf(operation.output)]);
    default:
      return operation satisfies never;
  }
}

/** The precision whose kernels take matrices of these formats beside float32. */
function precisionWith(formats: readonly ElementFormat[]): DensePrecision | undefined {
  return UNSCALED_PRECISIONS.find((precision) => {
    const own = activationFormat(precision);
    return own !== 'float32' && formats.includes(own);
  });
}

function prepareOne(kernels: DenseKernels, operation: DenseOperation, copies: Copies): EnqueueDense {
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
        ...copies,
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
  const { rows, cols, stride, padding } = matrix;
  const own = { address: startOf(matrix), format: formatOf(matrix), rows, cols, stride };
  return padding === undefined ? own : { ...own, padding };
}
