/** The dense operations of a program, ready to be put into a stream. */
import type { BlockPool } from '../../../cuda/block-pool.ts';
import type { DeviceMemory } from '../../../cuda/memory.ts';
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
  type EmbeddingBagsOperation,
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

/** The dense operations of a program, by the operations' places. */
export interface PreparedDense {
  readonly enqueue: ReadonlyMap<number, EnqueueDense>;
  /** What lookups write in 8 bits too, from their output's first column on. */
  readonly pooledCopies: ReadonlyMap<number, RoundedCopy>;
  /** Where these copies are, borrowed for as long as the program is kept. */
  readonly memory: DeviceMemory | undefined;
}

/** What the dense operations of a program need beside them. */
export interface DenseTools {
  readonly kernelsIn: (precision?: DensePrecision) => Promise<DenseKernels>;
  readonly pool: BlockPool<DeviceMemory>;
  /** Whether the kernels of lookups can write copies in 8 bits. */
  readonly writesCopies: (lookups: EmbeddingBagsOperation) => boolean;
  /** Whether outputs that are needed in 8 bits alone may be left unwritten. */
  readonly copiesAlone: boolean;
}

/**
 * Makes the dense operations of a program ready, each with the kernels of its precision: `kernelsIn` gives them. Blocks for some
 * milliseconds when a linear layer has a shape that was not seen before, since the ways to compute it are measured.
 * @throws DeviceError KERNEL_FAILED for matrices that do not fit, OUT_OF_MEMORY; what `kernelsIn` throws.
 */
export async function prepareDense(program: readonly Operation[], tools: DenseTools): Promise<PreparedDense> {
  const { kernelsIn, pool } = tools;
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
  const { copiesOf, memory } = placeCopies(program, kernels.get('float8_e4m3'), tools);
  try {
    const enqueue = operations.map(([place, operation]): [number, EnqueueDense] => [
      place,
      prepareOne(kernels.get(precisionOf(operation)) as DenseKernels, operation, copiesOf(place)),
    ]);
    const pooledCopies = [...program.entries()].flatMap(([place, { op }]): [number, RoundedCopy][] => {
      const { rounded } = copiesOf(place);
      return op === 'embeddingBags' && rounded !== undefined ? [[place, rounded]] : [];
    });
    return { enqueue: new Map(enqueue), pooledCopies: new Map(pooledCopies), memory };
  } catch (error) {
    if (memory !== undefined) pool.giveBack(memory);
    throw error;
  }
}

type Copies = Pick<DeviceLinear, 'rounded' | 'inputRounded'>;

interface PlacedCopies {
  /** The copies in 8 bits that an operation writes and reads, by its place. */
  readonly copiesOf: (place: number) => Copies;
  readonly memory: DeviceMemory | undefined;
}

/** Copies of layers are in memory of the kernels that multiply them, those of lookups in memory that is borrowed. */
function placeCopies(
  program: readonly Operation[],
  kernels: DenseKernels | undefined,
  { pool, writesCopies, copiesAlone }: DenseTools,
): PlacedCopies {
  const none = { copiesOf: () => ({}), memory: undefined };
  if (kernels === undefined) return none;
  const { bytes, written, read } = eightBitCopies(program, {
    writes: (operation) =>
      operation.op === 'embeddingBags'
        ? writesCopies(operation)
        : ownBy(CudaLinear, operation.layer).kernels === kernels.precision,
    inputScale: ({ layer }) => ownBy(CudaLinear, layer).scales?.input,
  });
  if (bytes.shared + bytes.own === 0) return none;
  const shared = bytes.shared === 0 ? 0n : kernels.reserveCopies(bytes.shared);
  const memory = bytes.own === 0 ? undefined : pool.borrow(bytes.own);
  const starts = { shared, own: memory?.address() ?? 0n };
  const copyAt = (place: CopyPlace | undefined): RoundedCopy | undefined => {
    if (place === undefined) return undefined;
    const { memory, offset, alone, ...copy } = place;
    const address = (starts[memory] + BigInt(offset)) as DevicePtr;
    return { ...copy, address, alone: alone && copiesAlone };
  };
  const copiesOf = (place: number) => {
    const [rounded, inputRounded] = [copyAt(written.get(place)), copyAt(read.get(place))];
    return { ...(rounded && { rounded }), ...(inputRounded && { inputRounded }) };
  };
  return { copiesOf, memory };
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
