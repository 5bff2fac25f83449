/** Linear layers on a GPU: by cuBLASLt or a kernel of their own, whichever is fastest for a shape. */
import type { BlockPool } from '../../../cuda/block-pool.ts';
import { CudaEvent } from '../../../cuda/event.ts';
import { type MatmulEnds, MatrixProducts } from '../../../cuda/matrix-products.ts';
import type { DeviceMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type ElementFormat } from '../../../device.ts';
import { DeviceError } from '../../../errors.ts';
import { ACTIVATION } from '../../../ffi/cpu-operators.ts';
import { type CublasLt, isRefusal, type MatmulScales } from '../../../ffi/cublaslt.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { elementBytes } from '../../backend.ts';
import type { CrossColumns } from './cross-product.ts';
import type { CrossProducts } from './cross-products.ts';
import type { DenseLibrary } from './dense-library.ts';
import { Scratch, Trial, TrialMemory } from './dense-memory.ts';
import {
  checkLinear,
  type DeviceLinear,
  type DeviceMatrix,
  isInPlace,
  multipliedColumns,
  shapeKey,
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
import type { KeptChoices } from './kept-choices.ts';
import {
  addressAlignment,
  describeChoice,
  keptChoice,
  type LinearChoice,
  type LinearTail,
  mayBeDirect,
  type ProductChoice,
  roundingSplits,
  type TailSplit,
  tailSplits,
} from './linear-choice.ts';
import { bytesOf, LinearInputs } from './linear-inputs.ts';
import { RoundingTrial } from './rounding-trial.ts';

/** How the fastest way to compute a shape is looked for. */
export interface LinearSearch {
  /** Algorithms of cuBLASLt that are tried for a shape. */
  readonly candidates: number;
  /**
   * Of a measurement: the fastest of `rounds`, each of `runs` in a graph. 0 rounds: nothing is measured, and the choice is always the
   * same: the direct kernel for few samples or outputs, else cuBLASLt's first that works, else the first cross product.
   */
  readonly rounds: number;
  readonly runs: number;
}

export const DEFAULT_LINEAR_SEARCH: LinearSearch = { candidates: 8, rounds: 4, runs: 5 };

/** What measurements need of the device that they are made on. */
export interface LinearTools {
  /**
   * Blocks until the streams that these kernels were put into are idle. Not by waiting for the context: that is refused while another
   * thread of the process captures.
   */
  readonly settle: () => void;
  /** Where memory for measurements is borrowed. */
  readonly pool: BlockPool<DeviceMemory>;
}

/** Its workspace is its own, so one stream uses it at a time. */
export class LinearLayers implements Disposable {
  readonly #library: DenseLibrary;
  readonly #products: MatrixProducts;
  /** For measurements. */
  readonly #stream: CudaStream;
  readonly #search: LinearSearch;
  /** Waits for work that uses the workspace, which measurements use too. */
  readonly #settle: () => void;
  readonly #trials: TrialMemory;
  readonly #choices = new Map<string, LinearChoice>();
  /** Of operations that were prepared and checked: finding one by its shape takes the host microseconds. */
  readonly #prepared = new WeakMap<DeviceLinear, LinearChoice>();
  /** What earlier processes measured; undefined: nothing is kept. */
  readonly #kept: KeptChoices | undefined;
  /** Rivals of products with a cross; undefined: none were given. */
  #crosses: CrossProducts | undefined;
  readonly #inputs: LinearInputs;
  /** The sums of a product that the output has no place for yet. */
  readonly #sums: Scratch;

  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(
    library: DenseLibrary,
    stream: CudaStream,
    cublasLt: CublasLt,
    search: LinearSearch,
    { settle, pool }: LinearTools,
    kept?: KeptChoices,
  ) {
    this.#kept = kept;
    this.#settle = settle;
    this.#trials = new TrialMemory(stream, pool);
    this.#library = library;
    this.#stream = stream;
    this.#search = search;
    this.#products = new MatrixProducts(library.device, cublasLt);
    this.#inputs = new LinearInputs(library);
    this.#sums = new Scratch(library.device);
  }

  /** From now on cross layers may be computed by these, too; they live longer. */
  useCrosses(crosses: CrossProducts): void {
    this.#crosses = crosses;
  }

  /**
   * Chooses how layers of this shape and alignment are computed, unless it did, and reserves memory; blocks. Returns the
   * choice in words. @throws DeviceError OUT_OF_MEMORY, KERNEL_FAILED.
   */
  prepare(operation: DeviceLinear): string {
    checkLinear(operation, this.#library.precision);
    if (operation.input.rows === 0) return 'nothing to do';
    this.#inputs.reserve(this.#stream, operation);
    const key = shapeKey(operation);
    const choice = this.#choices.get(key) ?? this.#recall(operation, key) ?? this.#measured(operation, key);
    this.#choices.set(key, choice);
    this.#prepared.set(operation, choice);
    return describeChoice(choice);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit, or that were not prepared. */
  run(stream: CudaStream, operation: DeviceLinear): void {
    if (operation.input.rows === 0) return;
    this.#enqueue(stream, operation, this.#prepared.get(operation) ?? this.#choiceOf(operation));
  }

  [Symbol.dispose](): void {
    this.#products[Symbol.dispose]();
    this.#inputs[Symbol.dispose]();
    this.#trials[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
  }

  /** What was chosen for another operation of this shape. */
  #choiceOf(operation: DeviceLinear): LinearChoice {
    checkLinear(operation, this.#library.precision);
    const key = shapeKey(operation);
    const choice = this.#choices.get(key);
    if (choice === undefined)
      throw new DeviceError('KERNEL_FAILED', `the linear layer ${key} ran before it was prepared`);
    return choice;
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

  #enqueue(stream: CudaStream, operation: DeviceLinear, choice: LinearChoice): void {
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

  /** The choice that was kept for a shape, if it can still be run. */
  #recall(operation: DeviceLinear, key: string): LinearChoice | undefined {
    const kept = this.#kept?.get(key);
    if (kept === undefined || kept.kind === 'direct') return kept;
    if (kept.kind === 'cross') {
      if (this.#crosses?.columnsFor(operation).includes(kept.columns) === true) return kept;
      this.#kept?.reject(key);
      return undefined;
    }
    this.#settle();
    using trial = new Trial(operation, this.#trials);
    const { fused, finished, scaled, rounds } = kept;
    const splits = rounds ? roundingSplitsOf(operation) : tailSplits(tailOf(operation));
    const split = splits.find(
      (own) => (own.epilogue !== 'none') === fused && own.finished === finished && own.scaled === scaled,
    );
    if (split !== undefined) {
      const { problem, ends } = this.#problem(trial.operation, split);
      const words = BigUint64Array.from(kept.algorithm, (word) => BigInt(`0x${word}`));
      const algorithm = { words, workspaceBytes: kept.workspaceBytes };
      const plan = this.#products.planOf(problem, algorithm, ends);
      const choice: LinearChoice = { kind: 'product', plan, fused, finished, scaled, rounds };
      trial.fillInput('NaNs');
      if (this.#keepsNaN(trial, choice)) return choice;
    }
    this.#kept?.reject(key);
    return undefined;
  }

  #measured(operation: DeviceLinear, key: string): LinearChoice {
    const choice = this.#choose(operation);
    this.#kept?.keep(key, keptChoice(choice));
    return choice;
  }

  /** The fastest way to compute a shape that gives what it must, measured on memory of its own. */
  #choose(operation: DeviceLinear): LinearChoice {
    const { layer, input } = operation;
    this.#settle();
    using trial = new Trial(operation, this.#trials);
    const products = this.#productChoices(trial);
    const rivals = [...products, ...this.#roundingChoices(trial), ...this.#crossChoices(trial)];
    const isDirect = mayBeDirect(input.rows, layer.outputs) || rivals.length === 0;
    const candidates: LinearChoice[] = isDirect ? [{ kind: 'direct' }, ...rivals] : rivals;
    const [first] = candidates;
    if (first !== undefined && (candidates.length === 1 || this.#search.rounds === 0)) return first;
    trial.fillInput('ones');
    let fastest: { readonly choice: LinearChoice; readonly ms: number } | undefined;
    for (const choice of candidates) {
      const ms = this.#measure(trial, choice);
      if (fastest === undefined || ms < fastest.ms) fastest = { choice, ms };
    }
    return fastest?.choice ?? { kind: 'direct' };
  }

  /** Products that give what they must. The library's epilogues come first; without one of use, the kernel's. */
  #productChoices(trial: Trial): readonly LinearChoice[] {
    for (const split of tailSplits(tailOf(trial.operation))) {
      const choices = this.#choicesOf(trial, split);
      if (choices.length > 0) return choices;
    }
    return [];
  }

  /** Products that leave an output in 8 bits alone; none where the library knows no such problem. */
  #roundingChoices(trial: Trial): LinearChoice[] {
    try {
      return roundingSplitsOf(trial.operation).flatMap((split) => this.#choicesOf(trial, split));
    } catch (error) {
      if (isRefusal(error)) return [];
      throw error;
    }
  }

  #choicesOf(trial: Trial, split: TailSplit): readonly LinearChoice[] {
    const { epilogue, finished, scaled, rounds } = split;
    const { problem, ends } = this.#problem(trial.operation, split);
    const output = addressAlignment(this.#sumsOf(trial.operation, split).address);
    const alignment = {
      input: addressAlignment(this.#inputs.factor(trial.operation).address),
      weight: 16,
      // Copies are aligned to 16 bytes, and what is beside them is not read.
      output: rounds ? 16 : output,
    };
    trial.fillInput('NaNs');
    const choices = this.#products
      .plans(problem, alignment, this.#search.candidates, ends)
      .map((plan): ProductChoice => {
        return { kind: 'product', plan, fused: epilogue !== 'none', finished, scaled, rounds };
      })
      .filter((choice) => this.#keepsNaN(trial, choice));
    return finished ? choices : this.#roundingOnce(trial, choices);
  }

  /** The products that round an output with a bias in it once. */
  #roundingOnce(trial: Trial, choices: readonly ProductChoice[]): readonly ProductChoice[] {
    using rounding = RoundingTrial.of(trial, this.#trials);
    if (rounding === undefined) return choices;
    const { operation } = trial;
    this.#inputs.convert(this.#stream, operation);
    const [input, output] = [this.#inputs.factor(operation).address, operation.output.address];
    return choices.filter(({ plan }) =>
      rounding.roundsOnce((own) => this.#products.run(this.#stream, plan, { input, output, ...own })),
    );
  }

  #crossChoices(trial: Trial): LinearChoice[] {
    const all = this.#crosses?.columnsFor(trial.operation) ?? [];
    trial.fillInput('NaNs');
    return all
      .map((columns): LinearChoice => ({ kind: 'cross', columns }))
      .filter((choice) => this.#keepsNaN(trial, choice));
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

  /** Whether a choice can be run, and a NaN in the input reaches the output: a library's ReLU may make it 0. */
  #keepsNaN(trial: Trial, choice: LinearChoice): boolean {
    try {
      this.#enqueue(this.#stream, trial.operation, choice);
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
    return trial.firstIsNaN();
  }

  /** Milliseconds of one run, of a graph: small products take the GPU less time than their launches take the host. */
  #measure(trial: Trial, choice: LinearChoice): number {
    const { rounds, runs } = this.#search;
    using graph = this.#stream.capture(() => {
      for (let run = 0; run < runs; run++) this.#enqueue(this.#stream, trial.operation, choice);
    });
    using start = new CudaEvent(this.#library.device, { timing: true });
    using end = new CudaEvent(this.#library.device, { timing: true });
    let fastest = Number.POSITIVE_INFINITY;
    for (let round = 0; round < rounds; round++) {
      start.record(this.#stream);
      graph.launch(this.#stream);
      end.record(this.#stream);
      this.#stream.synchronize();
      fastest = Math.min(fastest, end.msSince(start) / runs);
    }
    return fastest;
  }
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

function tailOf({ layer, activation, cross }: DeviceLinear): LinearTail {
  return {
    activation,
    biased: layer.hasBias,
    crossed: cross !== undefined,
    scaled: layer.scales !== undefined,
  };
}

/** The ways to compute a layer whose output is needed in 8 bits alone: products write it, but for zeros behind the last column. */
function roundingSplitsOf(operation: DeviceLinear): TailSplit[] {
  const { layer, rounded } = operation;
  const isPossible = rounded?.alone === true && rounded.cols === layer.outputs;
  return isPossible ? roundingSplits(tailOf(operation)) : [];
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
