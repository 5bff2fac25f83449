/**
 * The dense operations on a GPU: linear layers by cuBLASLt or a kernel of their own, the dot interaction, copies. They
 * are put into a stream, at given addresses, without allocating or waiting, so that a graph can capture them; `prepare`
 * does before that what cannot be captured.
 */
import { fileURLToPath } from 'node:url';
import type { CudaDevice } from '../../cuda/device.ts';
import { CudaEvent } from '../../cuda/event.ts';
import { type MatmulPlan, MatrixProducts } from '../../cuda/matrix-products.ts';
import { type CudaKernel, CudaModule } from '../../cuda/module.ts';
import { CudaStream } from '../../cuda/stream.ts';
import { DeviceError } from '../../errors.ts';
import { type CublasLt, isRefusal } from '../../ffi/cublaslt.ts';
import type { LaunchShape } from '../../ffi/cuda-structs.ts';
import { ParameterBlock } from '../../ffi/parameter-block.ts';
import { type Compiler, compileKernel } from '../../jit/compile-kernel.ts';
import type { KernelCache } from '../../jit/kernel-cache.ts';
import type { DensePrecision } from '../backend.ts';
import { CudaLinear } from './cuda-linear.ts';
import { Scratch, Trial } from './dense-memory.ts';
import {
  checkLinear,
  checkMatrix,
  type DeviceCopy,
  type DeviceDotInteraction,
  type DeviceLinear,
  type DeviceMatrix,
  shapeKey,
  sumsStride,
  widthOf,
} from './dense-operation.ts';
import {
  ACTIVATION_NUMBER,
  encodeConvertRows,
  encodeDirectLinear,
  encodeDotInteraction,
  encodeFinishLinear,
} from './dense-params.ts';
import {
  canMakeSamples,
  convertRowsSource,
  DOT_TILES,
  denseModule,
  denseSources,
  directLaunch,
  directLinearSource,
  dotInteractionSource,
  dotLaunch,
  dotSamplesLaunch,
  dotSamplesSharedBytes,
  dotSamplesSource,
  dotSharedBytes,
  dotTile,
  finishLinearSource,
  isMadeOfSamples,
  packLaunch,
} from './dense-source.ts';
import type { KernelSource } from './kernel-source.ts';
import { addressAlignment, mayBeDirect, tailSplits } from './linear-choice.ts';

export interface DenseOptions {
  readonly precision: DensePrecision;
  readonly compiler: Compiler;
  readonly cache: KernelCache;
  readonly cublasLt: CublasLt;
  /** Algorithms of cuBLASLt that are measured for a shape; 1: its own first choice is taken. Default 8. */
  readonly candidates?: number;
}

/** How a shape of linear layer is computed. */
type LinearChoice =
  | { readonly kind: 'direct' }
  | {
      readonly kind: 'product';
      readonly plan: MatmulPlan;
      readonly fused: boolean;
      readonly finished: boolean;
    };

const KERNELS_FOLDER = fileURLToPath(new URL('../../../kernels/cuda', import.meta.url));
const OLDEST_MAJOR = 8;
const MOST_GRID_BLOCKS = 2 ** 31 - 1;

/** Of a measurement: the fastest of some rounds of a few runs each. */
const ROUNDS = 4;
const RUNS = 5;

/** The dense operations in one precision. Its workspace is its own, so one stream uses it at a time. */
export class DenseKernels implements Disposable {
  readonly device: CudaDevice;
  readonly precision: DensePrecision;
  readonly #candidates: number;
  readonly #owned: Disposable[] = [];
  readonly #module: CudaModule;
  readonly #kernels = new Map<string, CudaKernel>();
  readonly #products: MatrixProducts;
  /** For uploads and measurements. */
  readonly #stream: CudaStream;
  readonly #choices = new Map<string, LinearChoice>();
  /** The input of a product, converted. */
  readonly #converted: Scratch;
  /** The sums of a product that the output has no place for yet. */
  readonly #sums: Scratch;

  private constructor(device: CudaDevice, cubin: Uint8Array, options: DenseOptions) {
    this.device = device;
    this.precision = options.precision;
    this.#candidates = options.candidates ?? 8;
    this.#converted = new Scratch(device);
    this.#sums = new Scratch(device);
    try {
      this.#module = this.#own(new CudaModule(device, cubin));
      this.#products = this.#own(new MatrixProducts(device, options.cublasLt));
      this.#stream = this.#own(new CudaStream(device));
      this.#loadKernels();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Compiles what a precision needs, or takes it from the cache.
   * @throws DeviceError DEVICE_UNAVAILABLE for a GPU before sm_80, KERNEL_COMPILE_FAILED, OUT_OF_MEMORY.
   */
  static async open(device: CudaDevice, options: DenseOptions): Promise<DenseKernels> {
    const { architecture, computeCapability, name } = device.properties;
    if (computeCapability[0] < OLDEST_MAJOR) {
      throw new DeviceError('DEVICE_UNAVAILABLE', `${device.id} (${name}) is ${architecture}`, {
        hint: 'the dense kernels need sm_80 (A100) or newer',
      });
    }
    const makesSamples = canMakeSamples(device.properties);
    const { id, source } = denseModule(options.precision, makesSamples);
    const [first] = denseSources(options.precision, makesSamples);
    const { cubin } = await compileKernel(
      {
        id,
        kernel: first?.kernel ?? id,
        source,
        options: [],
        includeFolder: KERNELS_FOLDER,
        architecture,
      },
      options,
    );
    return new DenseKernels(device, cubin, options);
  }

  /** Places a weight [outputs, inputs] and a bias [outputs] for these kernels; blocks until they are there. */
  placeLinear(
    weight: Float32Array,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
  ): CudaLinear {
    return new CudaLinear(this.#stream, this.precision, weight, bias, [outputs, inputs]);
  }

  /**
   * Makes `linear` ready for layers of this shape and alignment: picks the fastest way to compute them by measuring, and
   * has memory ready. Blocks, some milliseconds for a shape that was not seen before; free for one that was. Returns what
   * was chosen, for people. Not for use while a stream is being captured.
   * @throws DeviceError OUT_OF_MEMORY, KERNEL_FAILED.
   */
  prepare(operation: DeviceLinear): string {
    checkLinear(operation, this.precision);
    if (operation.input.rows === 0) return 'nothing to do';
    this.#reserve(operation);
    const key = shapeKey(operation);
    const choice = this.#choices.get(key) ?? this.#choose(operation);
    this.#choices.set(key, choice);
    return describe(choice);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit, or that were not prepared. */
  linear(stream: CudaStream, operation: DeviceLinear): void {
    checkLinear(operation, this.precision);
    if (operation.input.rows === 0) return;
    const key = shapeKey(operation);
    const choice = this.#choices.get(key);
    if (choice === undefined) {
      throw new DeviceError('KERNEL_FAILED', `the linear layer ${key} ran before it was prepared`);
    }
    this.#enqueue(stream, operation, choice);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit. */
  dotInteraction(stream: CudaStream, operation: DeviceDotInteraction): void {
    const { input, features, dim, diagonal, order, output } = operation;
    const pairs = (features * (features + (diagonal ? 1 : -1))) / 2;
    checkMatrix('the input', input, output.rows, features * dim);
    checkMatrix('the output', output, input.rows, pairs);
    if (input.rows === 0 || pairs === 0) return;
    const width = widthOf(dim, [input]);
    const ofSamples = this.#makesSamples && isMadeOfSamples(features, dim, width);
    const shape = ofSamples
      ? dotSamplesLaunch(input.rows, pairs, this.device.properties.multiprocessors)
      : dotLaunch(input.rows, features);
    if (Math.max(shape.grid[0], input.rows) > MOST_GRID_BLOCKS) {
      throw new DeviceError('KERNEL_FAILED', `${input.rows} samples of ${features} features are too many`);
    }
    const words = encodeDotInteraction({
      input: input.address,
      inputStride: input.stride,
      features,
      dim,
      diagonal: diagonal ? 1 : 0,
      upper: order === 'upper' ? 1 : 0,
      output: output.address,
      outputStride: output.stride,
      batch: input.rows,
    });
    const { id } = ofSamples
      ? dotSamplesSource(this.precision)
      : dotInteractionSource(this.precision, dotTile(features), width);
    this.#launch(stream, id, shape, words);
  }

  /** output = input. @throws DeviceError KERNEL_FAILED for matrices that do not fit. */
  copy(stream: CudaStream, { input, output }: DeviceCopy): void {
    checkMatrix('the input', input, output.rows, output.cols);
    checkMatrix('the output', output, input.rows, input.cols);
    this.#convert(stream, 'float32', input, output);
  }

  [Symbol.dispose](): void {
    for (const resource of this.#owned.splice(0).reverse()) resource[Symbol.dispose]();
    this.#converted[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
  }

  #own<R extends Disposable>(resource: R): R {
    this.#owned.push(resource);
    return resource;
  }

  /** Looks every kernel up now, since a capture must not load anything. */
  #loadKernels(): void {
    for (const { id, kernel } of denseSources(this.precision, this.#makesSamples)) {
      this.#kernels.set(id, this.#module.kernel(kernel));
    }
    const allowShared = ({ id }: KernelSource, sharedBytes: number) => {
      const kernel = this.#kernel(id);
      kernel.allowDynamicShared(sharedBytes);
      kernel.preferSharedCarveout(100);
    };
    for (const tile of DOT_TILES) {
      for (const width of [1, 4] as const)
        allowShared(dotInteractionSource(this.precision, tile, width), dotSharedBytes(tile));
    }
    if (this.#makesSamples) allowShared(dotSamplesSource(this.precision), dotSamplesSharedBytes());
  }

  /** Whether the GPU can make dot interactions whole samples at a time. */
  get #makesSamples(): boolean {
    return canMakeSamples(this.device.properties);
  }

  #kernel(id: string): CudaKernel {
    const kernel = this.#kernels.get(id);
    if (kernel === undefined) throw new TypeError(`no kernel ${id} was compiled`);
    return kernel;
  }

  #launch(stream: CudaStream, id: string, shape: LaunchShape, words: BigInt64Array): void {
    stream.launch(this.#kernel(id), shape, new ParameterBlock(words));
  }

  /** output = input, and zeros in the columns that only the output has. */
  #convert(stream: CudaStream, to: DensePrecision, input: DeviceMatrix, output: DeviceMatrix): void {
    const { rows, cols } = output;
    if (rows === 0 || cols === 0) return;
    const width = widthOf(cols, [input, output]);
    const words = encodeConvertRows({
      input: input.address,
      inputStride: input.stride,
      output: output.address,
      outputStride: output.stride,
      rows,
      columns: input.cols,
      outputColumns: cols,
    });
    this.#launch(stream, convertRowsSource(to, width).id, packLaunch(rows, cols, width), words);
  }

  /** Memory for a product's converted input and for sums that wait for a cross. */
  #reserve({ layer, input, output, cross }: DeviceLinear): void {
    if (this.#isConverted) this.#converted.reserve(input.rows * layer.weightStride * 2);
    if (cross !== undefined) this.#sums.reserve(input.rows * sumsStride(output) * 4);
  }

  get #isConverted(): boolean {
    return this.precision === 'float16' || this.precision === 'bfloat16';
  }

  #enqueue(stream: CudaStream, operation: DeviceLinear, choice: LinearChoice): void {
    if (choice.kind === 'direct') this.#direct(stream, operation);
    else this.#product(stream, operation, choice);
  }

  #direct(stream: CudaStream, operation: DeviceLinear): void {
    const { layer, input, output } = operation;
    const words = encodeDirectLinear({
      input: input.address,
      inputStride: input.stride,
      weight: layer.weight.address(),
      weightStride: layer.weightStride,
      inputs: layer.inputs,
      ...finishOf(operation),
    });
    const { id } = directLinearSource(this.precision, widthOf(layer.inputs, [input]));
    this.#launch(stream, id, directLaunch(output.rows, layer.outputs), words);
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
      this.#convert(stream, this.precision, input, converted);
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
    const words = encodeFinishLinear({
      sums: sums.address,
      sumsStride: sums.stride,
      ...finishOf(operation),
    });
    const matrices = [sums, output, ...(cross === undefined ? [] : [cross.x0, cross.x])];
    const width = widthOf(output.cols, matrices);
    this.#launch(stream, finishLinearSource(width).id, packLaunch(output.rows, output.cols, width), words);
  }

  /** The fastest way to compute a shape that gives what it must, measured on memory of its own. */
  #choose(operation: DeviceLinear): LinearChoice {
    const { layer, input } = operation;
    // Measurements use the same workspace as work that may be under way.
    this.device.synchronize();
    using trial = new Trial(operation);
    const candidates: LinearChoice[] = this.#productChoices(trial);
    if (mayBeDirect(input.rows, layer.outputs) || candidates.length === 0)
      candidates.push({ kind: 'direct' });
    const [only] = candidates;
    if (only !== undefined && candidates.length === 1) return only;
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
    const { layer, input, output, activation, cross } = trial.operation;
    const tail = { activation, biased: layer.bias !== undefined, crossed: cross !== undefined };
    trial.fillInput(this.#stream, 'NaNs');
    for (const { epilogue, finished } of tailSplits(tail)) {
      const problem = {
        rows: input.rows,
        // Weights and converted inputs end in zeros: sums of whole vectors are faster.
        inputs: this.#isConverted ? layer.weightStride : layer.inputs,
        outputs: layer.outputs,
        type: this.#isConverted ? (this.precision as 'float16' | 'bfloat16') : 'float32',
        compute: this.precision === 'tf32' ? 'tf32' : 'float32',
        epilogue,
        inputStride: this.#isConverted ? layer.weightStride : input.stride,
        weightStride: layer.weightStride,
        outputStride: cross === undefined ? output.stride : sumsStride(output),
      } as const;
      const alignment = {
        input: this.#isConverted ? 16 : addressAlignment(input.address),
        weight: 16,
        output: cross === undefined ? addressAlignment(output.address) : 16,
      };
      // A bias that the epilogue does not add makes the library refuse the problem.
      const bias = epilogue === 'none' ? undefined : layer.bias?.address();
      const choices = this.#products
        .plans(problem, alignment, this.#candidates, bias)
        .map((plan): LinearChoice => ({ kind: 'product', plan, fused: epilogue !== 'none', finished }))
        .filter((choice) => this.#keepsNaN(trial, choice));
      if (choices.length > 0) return choices;
    }
    return [];
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

  /** Milliseconds of one run. */
  #measure(trial: Trial, choice: LinearChoice): number {
    using start = new CudaEvent(this.device, { timing: true });
    using end = new CudaEvent(this.device, { timing: true });
    let fastest = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round++) {
      start.record(this.#stream);
      for (let run = 0; run < RUNS; run++) this.#enqueue(this.#stream, trial.operation, choice);
      end.record(this.#stream);
      this.#stream.synchronize();
      fastest = Math.min(fastest, end.msSince(start) / RUNS);
    }
    return fastest;
  }
}

function describe(choice: LinearChoice): string {
  if (choice.kind === 'direct') return 'direct';
  return `cuBLASLt${choice.fused ? ', fused' : ''}${choice.finished ? ', finished by a kernel' : ''}`;
}

/** The fields of a layer's end, as the kernels take them. */
function finishOf({ layer, output, activation, cross }: DeviceLinear) {
  return {
    bias: layer.bias?.address() ?? 0n,
    activation: ACTIVATION_NUMBER[activation],
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
