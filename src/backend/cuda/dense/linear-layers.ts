/** Linear layers on a GPU: by cuBLASLt or a kernel of their own, whichever is fastest for a shape. */
import { CudaEvent } from '../../../cuda/event.ts';
import { type MatmulPlan, MatrixProducts } from '../../../cuda/matrix-products.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { DeviceError } from '../../../errors.ts';
import { ACTIVATION } from '../../../ffi/cpu-operators.ts';
import { type CublasLt, isRefusal } from '../../../ffi/cublaslt.ts';
import type { DenseLibrary } from './dense-library.ts';
import { Scratch, Trial } from './dense-memory.ts';
import {
  checkLinear,
  type DeviceLinear,
  type DeviceMatrix,
  shapeKey,
  sumsStride,
  widthOf,
} from './dense-operation.ts';
import { DirectLinearParams, FinishLinearParams } from './dense-params.ts';
import { directLaunch, directLinearSource, finishLinearSource, packLaunch } from './dense-source.ts';
import type { KeptChoice, KeptChoices } from './kept-choices.ts';
import {
  addressAlignment,
  type LinearTail,
  mayBeDirect,
  type TailSplit,
  tailSplits,
} from './linear-choice.ts';

/** How a shape of linear layer is computed. */
type LinearChoice =
  | { readonly kind: 'direct' }
  | {
      readonly kind: 'product';
      readonly plan: MatmulPlan;
      readonly fused: boolean;
      readonly finished: boolean;
    };

/** How the fastest way to compute a shape is looked for. */
export interface LinearSearch {
  /** Algorithms of cuBLASLt that are tried for a shape. */
  readonly candidates: number;
  /**
   * Of a measurement: the fastest of `rounds`, each of `runs` in a graph. 0 rounds: nothing is measured, and the choice is always the
   * same: the direct kernel for few samples or outputs, else cuBLASLt's first that works.
   */
  readonly rounds: number;
  readonly runs: number;
}

export const DEFAULT_LINEAR_SEARCH: LinearSearch = { candidates: 8, rounds: 4, runs: 5 };

/** Its workspace is its own, so one stream uses it at a time. */
export class LinearLayers implements Disposable {
  readonly #library: DenseLibrary;
  readonly #products: MatrixProducts;
  /** For measurements. */
  readonly #stream: CudaStream;
  readonly #search: LinearSearch;
  /** Waits for work that uses the workspace, which measurements use too. */
  readonly #settle: () => void;
  readonly #choices = new Map<string, LinearChoice>();
  /** What earlier processes measured; undefined: nothing is kept. */
  readonly #kept: KeptChoices | undefined;
  /** The input of a product, converted. */
  readonly #converted: Scratch;
  /** The sums of a product that the output has no place for yet. */
  readonly #sums: Scratch;

  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(
    library: DenseLibrary,
    stream: CudaStream,
    cublasLt: CublasLt,
    search: LinearSearch,
    settle: () => void,
    kept?: KeptChoices,
  ) {
    this.#kept = kept;
    this.#settle = settle;
    this.#library = library;
    this.#stream = stream;
    this.#search = search;
    this.#products = new MatrixProducts(library.device, cublasLt);
    this.#converted = new Scratch(library.device);
    this.#sums = new Scratch(library.device);
  }

  /**
   * Chooses how layers of this shape and alignment are computed, unless it did, and reserves memory; blocks. Returns the
   * choice in words. @throws DeviceError OUT_OF_MEMORY, KERNEL_FAILED.
   */
  prepare(operation: DeviceLinear): string {
    checkLinear(operation, this.#library.precision);
    if (operation.input.rows === 0) return 'nothing to do';
    this.#reserve(operation);
    const key = shapeKey(operation);
    const choice = this.#choices.get(key) ?? this.#recall(operation, key) ?? this.#measured(operation, key);
    this.#choices.set(key, choice);
    return describe(choice);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit, or that were not prepared. */
  run(stream: CudaStream, operation: DeviceLinear): void {
    checkLinear(operation, this.#library.precision);
    if (operation.input.rows === 0) return;
    const key = shapeKey(operation);
    const choice = this.#choices.get(key);
    if (choice === undefined) {
      throw new DeviceError('KERNEL_FAILED', `the linear layer ${key} ran before it was prepared`);
    }
    this.#enqueue(stream, operation, choice);
  }

  [Symbol.dispose](): void {
    this.#products[Symbol.dispose]();
    this.#converted[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
  }

  /** Memory for a product's converted input and for sums that wait for a cross. */
  #reserve({ layer, input, output, cross }: DeviceLinear): void {
    if (this.#isConverted) this.#converted.reserve(input.rows * layer.weightStride * 2);
    if (cross !== undefined) this.#sums.reserve(input.rows * sumsStride(output) * 4);
  }

  get #isConverted(): boolean {
    return this.#library.precision === 'float16' || this.#library.precision === 'bfloat16';
  }

  #enqueue(stream: CudaStream, operation: DeviceLinear, choice: LinearChoice): void {
    if (choice.kind === 'direct') this.#direct(stream, operation);
    else this.#product(stream, operation, choice);
  }

  #direct(stream: CudaStream, operation: DeviceLinear): void {
    const { layer, input, output } = operation;
    const words = DirectLinearParams.encode({
      input: input.address,
      inputStride: input.stride,
      weight: layer.weight.address(),
      weightStride: layer.weightStride,
      inputs: layer.inputs,
      ...finishOf(operation),
    });
    const { id } = directLinearSource(this.#library.precision, widthOf(layer.inputs, [input]));
    this.#library.launch(stream, id, directLaunch(output.rows, layer.outputs), words);
  }

  #product(
    stream: CudaStream,
    operation: DeviceLinear,
    { plan, fused, finished }: Extract<LinearChoice, { kind: 'product' }>,
  ): void {
    const { layer, input, output, cross } = operation;
    let factor = input.address;
    if (this.#isConverted) {
      const { weightStride } = layer;
      factor = this.#converted.address;
      const converted = { address: factor, rows: input.rows, cols: weightStride, stride: weightStride };
      this.#library.convert(stream, this.#library.precision, input, converted);
    }
    const sums: DeviceMatrix =
      cross === undefined ? output : { ...output, address: this.#sums.address, stride: sumsStride(output) };
    this.#products.run(stream, plan, {
      input: factor,
      weight: layer.weight.address(),
      output: sums.address,
      ...(fused && layer.bias !== undefined ? { bias: layer.bias.address() } : {}),
    });
    if (finished) this.#finish(stream, operation, sums);
  }

  #finish(stream: CudaStream, operation: DeviceLinear, sums: DeviceMatrix): void {
    const { output, cross } = operation;
    const words = FinishLinearParams.encode({
      sums: sums.address,
      sumsStride: sums.stride,
      ...finishOf(operation),
    });
    const matrices = [sums, output, ...(cross === undefined ? [] : [cross.x0, cross.x])];
    const width = widthOf(output.cols, matrices);
    this.#library.launch(
      stream,
      finishLinearSource(width).id,
      packLaunch(output.rows, output.cols, width),
      words,
    );
  }

  /** The choice that was kept for a shape, if it can still be run. */
  #recall(operation: DeviceLinear, key: string): LinearChoice | undefined {
    const kept = this.#kept?.get(key);
    if (kept === undefined || kept.kind === 'direct') return kept;
    this.#settle();
    using trial = new Trial(operation);
    const { fused, finished } = kept;
    const splits = tailSplits(tailOf(operation));
    const split = splits.find((own) => (own.epilogue !== 'none') === fused && own.finished === finished);
    if (split !== undefined) {
      const { problem, bias } = this.#problem(trial.operation, split);
      const words = BigUint64Array.from(kept.algorithm, (word) => BigInt(`0x${word}`));
      const algorithm = { words, workspaceBytes: kept.workspaceBytes };
      const plan = this.#products.planOf(problem, algorithm, bias);
      const choice: LinearChoice = { kind: 'product', plan, fused, finished };
      trial.fillInput(this.#stream, 'NaNs');
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
    using trial = new Trial(operation);
    const products = this.#productChoices(trial);
    const isDirect = mayBeDirect(input.rows, layer.outputs) || products.length === 0;
    const candidates: LinearChoice[] = isDirect ? [{ kind: 'direct' }, ...products] : products;
    const [first] = candidates;
    if (first !== undefined && (candidates.length === 1 || this.#search.rounds === 0)) return first;
    trial.fillInput(this.#stream, 'ones');
    let fastest: { readonly choice: LinearChoice; readonly ms: number } | undefined;
    for (const choice of candidates) {
      const ms = this.#measure(trial, choice);
      if (fastest === undefined || ms < fastest.ms) fastest = { choice, ms };
    }
    return fastest?.choice ?? { kind: 'direct' };
  }

  /** Products that can be run and that keep NaNs. The library's epilogues come first; without one of use, the kernel's. */
  #productChoices(trial: Trial): LinearChoice[] {
    const { input, output, cross } = trial.operation;
    trial.fillInput(this.#stream, 'NaNs');
    for (const split of tailSplits(tailOf(trial.operation))) {
      const { problem, bias } = this.#problem(trial.operation, split);
      const alignment = {
        input: this.#isConverted ? 16 : addressAlignment(input.address),
        weight: 16,
        output: cross === undefined ? addressAlignment(output.address) : 16,
      };
      const { epilogue, finished } = split;
      const choices = this.#products
        .plans(problem, alignment, this.#search.candidates, bias)
        .map((plan): LinearChoice => ({ kind: 'product', plan, fused: epilogue !== 'none', finished }))
        .filter((choice) => this.#keepsNaN(trial, choice));
      if (choices.length > 0) return choices;
    }
    return [];
  }

  /** What the library is asked for, and the bias that its epilogue adds: one that it does not add makes it refuse the problem. */
  #problem({ layer, input, output, cross }: DeviceLinear, { epilogue }: TailSplit) {
    const problem = {
      rows: input.rows,
      // Weights and converted inputs end in zeros: sums of whole vectors are faster.
      inputs: this.#isConverted ? layer.weightStride : layer.inputs,
      outputs: layer.outputs,
      type: this.#isConverted ? (this.#library.precision as 'float16' | 'bfloat16') : 'float32',
      compute: this.#library.precision === 'tf32' ? 'tf32' : 'float32',
      epilogue,
      inputStride: this.#isConverted ? layer.weightStride : input.stride,
      weightStride: layer.weightStride,
      outputStride: cross === undefined ? output.stride : sumsStride(output),
    } as const;
    return { problem, bias: epilogue === 'none' ? undefined : layer.bias?.address() };
  }

  /** Whether a choice can be run, and a NaN in the input reaches the output: a library's ReLU may make it 0. */
  #keepsNaN(trial: Trial, choice: LinearChoice): boolean {
    try {
      this.#enqueue(this.#stream, trial.operation, choice);
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
    return Number.isNaN(trial.firstOutput(this.#stream));
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

function tailOf({ layer, activation, cross }: DeviceLinear): LinearTail {
  return { activation, biased: layer.bias !== undefined, crossed: cross !== undefined };
}

function keptChoice(choice: LinearChoice): KeptChoice {
  if (choice.kind === 'direct') return choice;
  const { plan, fused, finished } = choice;
  const { words, workspaceBytes } = plan.algorithm;
  return {
    kind: 'product',
    algorithm: Array.from(words, (word) => word.toString(16)),
    workspaceBytes,
    fused,
    finished,
  };
}

function describe(choice: LinearChoice): string {
  if (choice.kind === 'direct') return 'direct';
  return `cuBLASLt${choice.fused ? ', fused' : ''}${choice.finished ? ', finished by a kernel' : ''}`;
}

/** The fields of a layer's end, as the kernels take them. */
function finishOf({ layer, output, activation, cross }: DeviceLinear) {
  return {
    bias: layer.bias?.address() ?? 0n,
    activation: ACTIVATION[activation],
    x0: cross?.x0.address ?? 0n,
    x0Stride: cross?.x0.stride ?? 0,
    x: cross?.x.address ?? 0n,
    xStride: cross?.x.stride ?? 0,
    output: output.address,
    outputStride: output.stride,
    batch: output.rows,
    outputs: output.cols,
  };
}
