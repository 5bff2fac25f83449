/**
 * The dense operations on a GPU: linear layers, the dot interaction, functions of a row, copies. They are put into a stream, at given
 * addresses, without allocating or waiting, so that a graph can capture them; `prepare` does before that what cannot be
 * captured.
 */
import type { CudaDevice } from '../../../cuda/device.ts';
import { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type ElementFormat, type UnscaledPrecision } from '../../../device.ts';
import { DeviceError } from '../../../errors.ts';
import type { CublasLt } from '../../../ffi/cublaslt.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { Compiler } from '../../../jit/compile-kernel.ts';
import type { KernelCache } from '../../../jit/kernel-cache.ts';
import { ROW_FUNCTIONS } from '../../row-functions.ts';
import type { ScaledWeight } from '../../scaled-weight.ts';
import { CrossProducts } from './cross-products.ts';
import { CudaLinear } from './cuda-linear.ts';
import { DenseLibrary } from './dense-library.ts';
import { Scratch } from './dense-memory.ts';
import {
  checkMatrix,
  type DeviceCopy,
  type DeviceDotInteraction,
  type DeviceLinear,
  type DeviceRowFunction,
  widthOf,
} from './dense-operation.ts';
import { DotInteractionParams, RowFunctionParams } from './dense-params.ts';
import {
  directLaunch,
  dotInteractionSource,
  dotLaunch,
  dotSamplesLaunch,
  dotSamplesSource,
  dotTile,
  isMadeOfSamples,
  rowFunctionSource,
} from './dense-source.ts';
import type { KeptChoices } from './kept-choices.ts';
import { DEFAULT_LINEAR_SEARCH, type LinearSearch, type LinearTools } from './linear-chooser.ts';
import { LinearLayers } from './linear-layers.ts';

export interface DenseOptions extends LinearTools {
  readonly precision: UnscaledPrecision;
  readonly compiler: Compiler;
  readonly cache: KernelCache;
  readonly cublasLt: CublasLt;
  readonly linearSearch?: LinearSearch | undefined;
  /** Where choices of matrix products are kept; default: nowhere. */
  readonly choices?: KeptChoices | undefined;
}

const MOST_GRID_BLOCKS = 2 ** 31 - 1;

/** The dense operations in one precision. Its workspace is its own, so one stream uses it at a time. */
export class DenseKernels implements Disposable {
  readonly device: CudaDevice;
  readonly precision: UnscaledPrecision;
  readonly #owned: Disposable[] = [];
  readonly #library: DenseLibrary;
  /** For uploads and measurements. */
  readonly #stream: CudaStream;
  readonly #layers: LinearLayers;
  readonly #copies: Scratch;
  readonly #compilation: Pick<DenseOptions, 'compiler' | 'cache'>;
  #crosses: Promise<void> | undefined;
  #disposed = false;

  /** Takes `library` over, also when it throws. */
  private constructor(
    library: DenseLibrary,
    { cublasLt, linearSearch = DEFAULT_LINEAR_SEARCH, settle, pool, choices, compiler, cache }: DenseOptions,
  ) {
    this.#compilation = { compiler, cache };
    this.device = library.device;
    this.precision = library.precision;
    this.#library = this.#own(library);
    try {
      this.#stream = this.#own(new CudaStream(this.device));
      this.#copies = this.#own(new Scratch(this.device));
      this.#layers = this.#own(
        new LinearLayers(library, this.#stream, cublasLt, linearSearch, { settle, pool }, choices),
      );
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
    return new DenseKernels(await DenseLibrary.open(device, options.precision, options), options);
  }

  /**
   * Compiles what computes cross layers whole, once, where the GPU and the precision have it: before they are prepared.
   * @throws DeviceError KERNEL_COMPILE_FAILED, OUT_OF_MEMORY.
   */
  async compileCrosses(): Promise<void> {
    this.#crosses ??= this.#openCrosses();
    try {
      await this.#crosses;
    } catch (error) {
      this.#crosses = undefined;
      throw error;
    }
  }

  async #openCrosses(): Promise<void> {
    const crosses = await CrossProducts.open(this.device, this.precision, this.#compilation);
    if (crosses === undefined) return;
    if (this.#disposed) {
      crosses[Symbol.dispose]();
      return;
    }
    this.#layers.useCrosses(this.#own(crosses));
  }

  /** Places a weight [outputs, inputs] and a bias [outputs] for these kernels; blocks until they are there. */
  placeLinear(
    weight: Float32Array | ScaledWeight,
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
    return this.#layers.prepare(operation);
  }

  /**
   * Memory for copies in 8 bits of a program, for as long as these kernels live. Programs share it: what one leaves there is no other's to
   * read. @throws CudaError OUT_OF_MEMORY.
   */
  reserveCopies(bytes: number): DevicePtr {
    this.#copies.reserve(bytes);
    return this.#copies.address;
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit, or that were not prepared. */
  linear(stream: CudaStream, operation: DeviceLinear): void {
    this.#layers.run(stream, operation);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit. */
  dotInteraction(stream: CudaStream, operation: DeviceDotInteraction): void {
    const { input, features, dim, diagonal, order, output } = operation;
    const pairs = (features * (features + (diagonal ? 1 : -1))) / 2;
    const { padding = 0 } = output;
    const format = activationFormat(this.precision);
    checkMatrix('the input', input, output.rows, features * dim, [format]);
    checkMatrix('the output', output, input.rows, pairs, [format]);
    if (input.rows === 0 || pairs + padding === 0) return;
    const width = widthOf(dim, [input]);
    const { multiprocessors } = this.device.properties;
    const shaped = { batch: input.rows, features, dim };
    const ofSamples = this.#library.makesSamples && isMadeOfSamples(shaped, width, multiprocessors);
    const shape = ofSamples
      ? dotSamplesLaunch(input.rows, pairs + padding, multiprocessors, format)
      : dotLaunch(input.rows, features);
    if (Math.max(shape.grid[0], input.rows) > MOST_GRID_BLOCKS) {
      throw new DeviceError('KERNEL_FAILED', `${input.rows} samples of ${features} features are too many`);
    }
    const words = DotInteractionParams.encode({
      input: input.address,
      inputStride: input.stride,
      features,
      dim,
      diagonal: diagonal ? 1 : 0,
      upper: order === 'upper' ? 1 : 0,
      output: output.address,
      outputStride: output.stride,
      batch: input.rows,
      padding,
    });
    const { id } = ofSamples
      ? dotSamplesSource(this.precision)
      : dotInteractionSource(this.precision, dotTile(features), width);
    this.#library.launch(stream, id, shape, words);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit. */
  rowFunction(stream: CudaStream, { function: name, input, output }: DeviceRowFunction): void {
    checkMatrix('the input', input, output.rows, input.cols, this.#formats);
    checkMatrix('the output', output, input.rows, ROW_FUNCTIONS[name].outputs(input.cols), [input.format]);
    if (input.rows === 0) return;
    const shape = directLaunch(input.rows);
    if (shape.grid[0] > MOST_GRID_BLOCKS)
      throw new DeviceError('KERNEL_FAILED', `${input.rows} samples are too many`);
    const words = RowFunctionParams.encode({
      input: input.address,
      inputStride: input.stride,
      columns: input.cols,
      output: output.address,
      outputStride: output.stride,
      batch: input.rows,
    });
    this.#library.launch(stream, rowFunctionSource(name, input.format).id, shape, words);
  }

  /** output = input, rounded to its format. @throws DeviceError KERNEL_FAILED for matrices that do not fit. */
  copy(stream: CudaStream, { input, output }: DeviceCopy): void {
    checkMatrix('the input', input, output.rows, output.cols, this.#formats);
    checkMatrix('the output', output, input.rows, input.cols, this.#formats);
    this.#library.convert(stream, input, output);
  }

  /** Formats of matrices that kernels of this precision know. */
  get #formats(): readonly ElementFormat[] {
    return ['float32', activationFormat(this.precision)];
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const resource of this.#owned.splice(0).reverse()) resource[Symbol.dispose]();
  }

  #own<R extends Disposable>(resource: R): R {
    this.#owned.push(resource);
    return resource;
  }
}

/** What the fastest way to multiply depends on besides the shape. */
