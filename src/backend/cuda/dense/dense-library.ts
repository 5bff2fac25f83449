import type { CudaDevice } from '../../../cuda/device.ts';
import { type CudaKernel, CudaModule } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type UnscaledPrecision } from '../../../device.ts';
import { DeviceError } from '../../../errors.ts';
import type { LaunchShape } from '../../../ffi/cuda-structs.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { type Compiler, compileKernel } from '../../../jit/compile-kernel.ts';
import type { KernelCache } from '../../../jit/kernel-cache.ts';
import { putLaunch } from '../kernels/launcher.ts';
import { KERNELS_FOLDER, type KernelSource } from '../kernels/source.ts';
import { type DeviceMatrix, widthOf } from './dense-operation.ts';
import { ConvertRowsParams, RoundRowsParams } from './dense-params.ts';
import {
  canMakeSamples,
  convertRowsSource,
  DOT_TILES,
  denseModule,
  denseSources,
  directLaunch,
  dotInteractionSource,
  dotSamplesSharedBytes,
  dotSamplesSource,
  dotSharedBytes,
  packLaunch,
  roundRowsSource,
  widestPack,
} from './dense-source.ts';

const OLDEST_MAJOR = 8;

/** The bits of a float32. */
export function floatBits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
}

/** The dense kernels of one precision: compiled together, loaded until disposal, launched by their ids. */
export class DenseLibrary implements Disposable {
  readonly device: CudaDevice;
  readonly precision: UnscaledPrecision;
  readonly #module: CudaModule;
  readonly #kernels = new Map<string, CudaKernel>();

  private constructor(device: CudaDevice, cubin: Uint8Array, precision: UnscaledPrecision) {
    this.device = device;
    this.precision = precision;
    this.#module = new CudaModule(device, cubin);
    try {
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
  static async open(
    device: CudaDevice,
    precision: UnscaledPrecision,
    compilation: { readonly compiler: Compiler; readonly cache: KernelCache },
  ): Promise<DenseLibrary> {
    const { architecture, computeCapability, name } = device.properties;
    if (computeCapability[0] < OLDEST_MAJOR) {
      throw new DeviceError('DEVICE_UNAVAILABLE', `${device.id} (${name}) is ${architecture}`, {
        hint: 'the dense kernels need sm_80 (A100) or newer',
      });
    }
    const makesSamples = canMakeSamples(device.properties);
    const { id, source } = denseModule(precision, makesSamples);
    const [first] = denseSources(precision, makesSamples);
    const { cubin } = await compileKernel(
      {
        id,
        kernel: first?.kernel ?? id,
        source,
        options: [],
        includeFolder: KERNELS_FOLDER,
        architecture,
      },
      compilation,
    );
    return new DenseLibrary(device, cubin, precision);
  }

  /** Whether the GPU can make dot interactions whole samples at a time. */
  get makesSamples(): boolean {
    return canMakeSamples(this.device.properties);
  }

  launch(stream: CudaStream, id: string, shape: LaunchShape, words: BigInt64Array): void {
    putLaunch(stream, { kernel: this.#kernel(id), shape, words });
  }

  /** output = input, and zeros in the columns that only the output has. */
  convert(stream: CudaStream, input: DeviceMatrix, output: DeviceMatrix): void {
    const { rows, cols } = output;
    if (rows === 0 || cols === 0) return;
    const width = widthOf(cols, [input, output]);
    const words = ConvertRowsParams.encode({
      input: input.address,
      inputStride: input.stride,
      output: output.address,
      outputStride: output.stride,
      rows,
      columns: input.cols,
      outputColumns: cols,
    });
    const { id } = convertRowsSource(input.format, output.format, width);
    this.launch(stream, id, packLaunch(rows, cols, width), words);
  }

  /**
   * Factors in 8 bits of a matrix, `output.stride` bytes a row, zeros behind its columns; by a scale for all, or by one for each row,
   * which is written to float32 [rows] at the address `scales`.
   */
  roundRows(
    stream: CudaStream,
    input: DeviceMatrix,
    output: Pick<DeviceMatrix, 'address' | 'cols' | 'stride'>,
    scales: number | DevicePtr,
  ): void {
    const width = widthOf(output.cols, [input]);
    const words = RoundRowsParams.encode({
      input: input.address,
      inputStride: input.stride,
      output: output.address,
      outputStride: output.stride,
      ...(typeof scales === 'number'
        ? { scales: 0n, inputScale: floatBits(scales) }
        : { scales, inputScale: 0 }),
      rows: input.rows,
      columns: input.cols,
      outputColumns: output.cols,
    });
    this.launch(stream, roundRowsSource(input.format, width).id, directLaunch(input.rows), words);
  }

  [Symbol.dispose](): void {
    this.#module[Symbol.dispose]();
  }

  /** Looks every kernel up now, since a capture must not load anything. */
  #loadKernels(): void {
    for (const { id, kernel } of denseSources(this.precision, this.makesSamples)) {
      this.#kernels.set(id, this.#module.kernel(kernel));
    }
    const allowShared = ({ id }: KernelSource, sharedBytes: number) => {
      const kernel = this.#kernel(id);
      kernel.allowDynamicShared(sharedBytes);
      kernel.preferSharedCarveout(100);
    };
    for (const tile of DOT_TILES) {
      for (const width of [1, widestPack(activationFormat(this.precision))] as const)
        allowShared(dotInteractionSource(this.precision, tile, width), dotSharedBytes(tile));
    }
    if (this.makesSamples) allowShared(dotSamplesSource(this.precision), dotSamplesSharedBytes());
  }

  #kernel(id: string): CudaKernel {
    const kernel = this.#kernels.get(id);
    if (kernel === undefined) throw new TypeError(`no kernel ${id} was compiled`);
    return kernel;
  }
}
