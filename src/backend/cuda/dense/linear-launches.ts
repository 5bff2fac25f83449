/** Linear layers put into a stream, each in the way that was chosen for it, and the ways that the library knows. */
import { type MatmulEnds, type MatmulPlan, MatrixProducts } from '../../../cuda/matrix-products.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type ElementFormat } from '../../../device.ts';
import { ACTIVATION } from '../../../ffi/cpu-operators.ts';
import type { CublasLt, MatmulAlgorithm, MatmulScales } from '../../../ffi/cublaslt.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { elementBytes } from '../../backend.ts';
import type { CrossColumns } from './cross-product.ts';
import type { CrossProducts } from './cross-products.ts';
import type { DenseLibrary } from './dense-library.ts';
import { Scratch } from './dense-memory.ts';
import {
  type DeviceLinear,
  type DeviceMatrix,
  isInPlace,
  multipliedColumns,
  widthOf,
} from './dense-operation.ts';
import { DirectLinearParams, FinishLinearParams } from './dense-params.ts';
import {
  directLaunch,
  directLinearSource,
  directScaledSource,
  finishLinearSource,
  packLaunch,
  SCALED_WIDTH,
} from './dense-source.ts';
import { addressAlignment, type LinearChoice, type ProductChoice, type TailSplit } from './linear-choice.ts';
import { bytesOf, LinearInputs } from './linear-inputs.ts';
import type { RoundingOperands } from './rounding-trial.ts';

/** Its workspace is its own, so one stream uses it at a time. */
export class LinearLaunches implements Disposable {
  readonly #library: DenseLibrary;
  readonly #products: MatrixProducts;
  /** Rivals of products with a cross; undefined: none were given. */
  #crosses: CrossProducts | undefined;
  readonly #inputs: LinearInputs;
  /** The sums of a product that the output has no place for yet. */
  readonly #sums: Scratch;

  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(library: DenseLibrary, cublasLt: CublasLt) {
    this.#library = library;
    this.#products = new MatrixProducts(library.device, cublasLt);
    this.#inputs = new LinearInputs(library);
    this.#sums = new Scratch(library.device);
  }

  /** From now on cross layers may be computed by these, too; they live longer. */
  useCrosses(crosses: CrossProducts): void {
    this.#crosses = crosses;
  }

  /** Has memory ready for what the layer reads, beside its operands. @throws CudaError OUT_OF_MEMORY. */
  reserve(stream: CudaStream, operation: DeviceLinear): void {
    this.#inputs.reserve(stream, operation);
  }

  /** Outputs that a block of a cross product may make, for a layer that can be one. */
  crossColumns(operation: DeviceLinear): readonly CrossColumns[] {
    return this.#crosses?.columnsFor(operation) ?? [];
  }

  /** At most `count` products of the library, the one thought fastest first. Has memory for the sums ready. @throws CudaError. */
  products(operation: DeviceLinear, split: TailSplit, count: number): ProductChoice[] {
    const { problem, ends } = this.#problem(operation, split);
    const alignment = {
      input: addressAlignment(this.#inputs.factor(operation).address),
      weight: 16,
      // Copies are aligned to 16 bytes, and what is beside them is not read.
      output: split.rounds ? 16 : addressAlignment(this.#sumsOf(operation, split).address),
    };
    return this.#products.plans(problem, alignment, count, ends).map((plan) => productChoice(plan, split));
  }

  /** The product of an algorithm that `products` of a process before found; `enqueue` refuses one that is of no use here. */
  productOf(operation: DeviceLinear, split: TailSplit, algorithm: MatmulAlgorithm): ProductChoice {
    const { problem, ends } = this.#problem(operation, split);
    return productChoice(this.#products.planOf(problem, algorithm, ends), split);
  }

  /** @throws CudaError; `isRefusal` tells when the library cannot compute the layer so after all. */
  enqueue(stream: CudaStream, operation: DeviceLinear, choice: LinearChoice): void {
    if (choice.kind === 'direct') this.#direct(stream, operation);
    else if (choice.kind === 'cross') this.#cross(stream, operation, choice.columns);
    else this.#product(stream, operation, choice);
    const { output, rounded } = operation;
    // A cross product writes it itself, and so may a product.
    const isWritten = choice.kind === 'cross' || (choice.kind === 'product' && choice.rounds);
    if (rounded !== undefined && !isWritten) this.#library.roundRows(stream, output, rounded, rounded.scale);
  }

  #cross(stream: CudaStream, operation: DeviceLinear, columns: CrossColumns): void {
    this.#inputs.convert(stream, operation);
    const [factor, scales] = [this.#inputs.factor(operation), this.#inputs.scales(operation)];
    this.#crosses?.run(stream, operation, columns, factor, scales);
  }

  #direct(stream: CudaStream, operation: DeviceLinear): void {
    const { layer, input, output } = operation;
    const isScaled = layer.scales !== undefined;
    if (isScaled) this.#inputs.convert(stream, operation);
    // Float inputs are widened on the way.
    const { address, stride, cols } = isScaled
      ? this.#inputs.factor(operation)
      : { ...input, cols: multipliedColumns(operation) };
    const words = DirectLinearParams.encode({
      input: address,
      inputStride: stride,
      weight: layer.weight.address(),
      weightStride: layer.weightStride,
      inputs: cols,
      ...finishOf(operation, this.#inputs.scales(operation)),
    });
    const formats = { input: input.format, output: output.format };
    const { id } = isScaled
      ? directScaledSource(output.format, SCALED_WIDTH)
      : directLinearSource(this.#library.precision, formats, widthOf(cols, [input]));
    this.#library.launch(stream, id, directLaunch(output.rows, layer.outputs), words);
  }

  #product(stream: CudaStream, operation: DeviceLinear, choice: ProductChoice): void {
    const { plan, fused, finished } = choice;
    const { layer, output, rounded } = operation;
    const factor = this.#inputs.factor(operation);
    this.#inputs.convert(stream, operation);
    const sums = this.#sumsOf(operation, choice);
    const scales = this.#inputs.scales(operation);
    this.#products.run(stream, plan, {
      input: factor.address,
      weight: layer.weight.address(),
      ...(choice.rounds && rounded !== undefined
        ? { output: rounded.address, addend: output.address }
        : { output: sums.address }),
      ...this.#endsOf(operation, { isAdded: fused, scaled: choice.scaled, rounds: choice.rounds }),
    });
    if (finished) this.#finish(stream, operation, sums, choice.scaled ? undefined : scales);
  }

  /** `scales`: those that the product left to be multiplied by. */
  #finish(
    stream: CudaStream,
    operation: DeviceLinear,
    sums: DeviceMatrix,
    scales: MatmulScales | undefined,
  ): void {
    const { output, cross } = operation;
    const words = FinishLinearParams.encode({
      sums: sums.address,
      sumsStride: sums.stride,
      ...finishOf(operation, scales),
    });
    const matrices = [sums, output, ...(cross === undefined ? [] : [cross.x0, cross.x])];
    const width = widthOf(output.cols, matrices);
    this.#library.launch(
      stream,
      finishLinearSource(sums.format, output.format, width).id,
      packLaunch(output.rows, output.cols, width),
      words,
    );
  }

  /** A product that does all there is to do, with a weight and a bias of other layers in place of its own. */
  productWith(
    stream: CudaStream,
    operation: DeviceLinear,
    { plan }: ProductChoice,
    own: RoundingOperands,
  ): void {
    this.#inputs.convert(stream, operation);
    const input = this.#inputs.factor(operation).address;
    this.#products.run(stream, plan, { input, output: operation.output.address, ...own });
  }

  [Symbol.dispose](): void {
    this.#products[Symbol.dispose]();
    this.#inputs[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
  }

  /** Memory for sums apart from the output. */
  #reserveSums(operation: DeviceLinear, split: SumsSplit): void {
    if (!endsInOutput(operation, split)) this.#sums.reserve(bytesOf(sumsApart(operation, split, 0n)));
  }

  /** Where a product leaves its sums. */
  #sumsOf(operation: DeviceLinear, split: SumsSplit): DeviceMatrix {
    return endsInOutput(operation, split)
      ? operation.output
      : sumsApart(operation, split, this.#sums.address);
  }

  /** What the library is asked for once memory is ready, and the bias that its epilogue adds: one that it does not add makes it refuse the problem. */
  #problem(operation: DeviceLinear, split: TailSplit) {
    const { epilogue, scaled, rounds } = split;
    const { layer, input, rounded } = operation;
    this.#reserveSums(operation, split);
    const factor = this.#inputs.factor(operation);
    const sums = this.#sumsOf(operation, split);
    const problem = {
      rows: input.rows,
      inputs: factor.cols,
      outputs: layer.outputs,
      type: factor.format,
      ...(rounds && rounded !== undefined
        ? { outputType: 'float8_e4m3' as const, outputStride: rounded.stride }
        : { outputType: sums.format, outputStride: sums.stride }),
      scales: scaled ? (layer.scales?.areOne === true ? 'scalars' : 'vectors') : undefined,
      compute: this.#library.precision === 'tf32' ? 'tf32' : 'float32',
      epilogue,
      inputStride: factor.stride,
      weightStride: layer.weightStride,
    } as const;
    const ends = this.#endsOf(operation, { isAdded: epilogue !== 'none', scaled, rounds });
    return { problem, ends };
  }

  /** The bias that a product adds, and the scales that it multiplies by. */
  #endsOf(
    operation: DeviceLinear,
    { isAdded, scaled, rounds }: Pick<TailSplit, 'scaled' | 'rounds'> & { readonly isAdded: boolean },
  ): MatmulEnds {
    const { layer, output, rounded } = operation;
    const scales = scaled ? this.#inputs.scales(operation) : undefined;
    const ofOutput = rounds && rounded !== undefined ? { output: this.#inputs.inverseScale(rounded) } : {};
    const format = rounds ? activationFormat(layer.kernels) : output.format;
    return {
      ...(isAdded && layer.hasBias ? { bias: layer.biasAddress(format) } : {}),
      ...(scales === undefined ? {} : { scales: { ...scales, ...ofOutput } }),
    };
  }
}

function productChoice(plan: MatmulPlan, { epilogue, finished, scaled, rounds }: TailSplit): ProductChoice {
  return { kind: 'product', plan, fused: epilogue !== 'none', finished, scaled, rounds };
}

/** Where sums are left, as far as the split of the tail says it. */
type SumsSplit = Pick<TailSplit, 'finished' | 'scaled'>;

/**
 * How sums wait for what finishes them: those of a cross as its matrices are, others, and those that are not multiplied by their scales
 * yet, as they were added up.
 */
function sumsFormat({ layer, output, cross }: DeviceLinear, { scaled }: SumsSplit): ElementFormat {
  const isWhole = layer.scales === undefined || scaled;
  return cross !== undefined && isWhole ? output.format : 'float32';
}

/** Whether a product leaves its sums in the output: not where what follows reads that too, or they would be rounded twice. */
function endsInOutput(operation: DeviceLinear, split: SumsSplit): boolean {
  if (!split.finished) return true;
  return sumsFormat(operation, split) === operation.output.format && !isInPlace(operation);
}

/** Sums apart from the output: packed, rows aligned to 16 bytes. */
function sumsApart(operation: DeviceLinear, split: SumsSplit, address: bigint): DeviceMatrix {
  const { rows, cols } = operation.output;
  const format = sumsFormat(operation, split);
  const unit = 16 / elementBytes({ format });
  const stride = Math.ceil(cols / unit) * unit;
  return { address: address as DevicePtr, format, rows, cols, stride };
}

/** The fields of a layer's end, as the kernels take them. */
function finishOf({ layer, output, activation, cross }: DeviceLinear, scales: MatmulScales | undefined) {
  return {
    bias: layer.biasAddress(),
    activation: ACTIVATION[activation],
    x0: cross?.x0.address ?? 0n,
    x0Stride: cross?.x0.stride ?? 0,
    x: cross?.x.address ?? 0n,
    xStride: cross?.x.stride ?? 0,
    output: output.address,
    outputStride: output.stride,
    batch: output.rows,
    outputs: output.cols,
    rowScales: scales?.input ?? 0n,
    weightScales: scales?.weight ?? 0n,
  };
}
