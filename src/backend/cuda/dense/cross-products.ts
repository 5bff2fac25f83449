/** Cross layers whole, product and end in one kernel, on GPUs that have its instructions. */
import type { CudaDevice } from '../../../cuda/device.ts';
import { type CudaKernel, CudaModule } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type UnscaledPrecision } from '../../../device.ts';
import { ParameterBlock } from '../../../ffi/parameter-block.ts';
import { type Compiler, compileKernel } from '../../../jit/compile-kernel.ts';
import type { KernelCache } from '../../../jit/kernel-cache.ts';
import { KERNELS_FOLDER } from '../kernels/source.ts';
import {
  CROSS_ARCHITECTURE,
  CROSS_COLUMNS,
  type CrossColumns,
  canMakeCrossProducts,
  crossColumns,
  crossLaunch,
  crossModule,
  crossProductSource,
  crossProductWords,
  type HalfFormat,
  INPUT_TILE,
} from './cross-product.ts';
import type { DeviceLinear, DeviceMatrix } from './dense-operation.ts';

/** Bytes that rows are multiples of, and of an element. */
const ALIGNMENT = 16;
const ELEMENT_BYTES = 2;

/** The kernels of one format: compiled together, loaded until disposal. */
export class CrossProducts implements Disposable {
  readonly #device: CudaDevice;
  readonly #format: HalfFormat;
  readonly #module: CudaModule;
  readonly #kernels = new Map<CrossColumns, CudaKernel>();

  private constructor(device: CudaDevice, format: HalfFormat, cubin: Uint8Array) {
    this.#device = device;
    this.#format = format;
    this.#module = new CudaModule(device, cubin);
    try {
      for (const columns of CROSS_COLUMNS) {
        const kernel = this.#module.kernel(crossProductSource(format, columns).kernel);
        kernel.allowDynamicShared(device.properties.sharedBytesPerBlockOptIn);
        this.#kernels.set(columns, kernel);
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Compiles the kernels for a precision, or takes them from the cache; undefined: this GPU has not their instructions, or the
   * precision multiplies no 16-bit elements.
   * @throws DeviceError KERNEL_COMPILE_FAILED, OUT_OF_MEMORY.
   */
  static async open(
    device: CudaDevice,
    precision: UnscaledPrecision,
    compilation: { readonly compiler: Compiler; readonly cache: KernelCache },
  ): Promise<CrossProducts | undefined> {
    const format = activationFormat(precision);
    if (format === 'float32' || !canMakeCrossProducts(device.properties)) return undefined;
    const request = {
      ...crossModule(format),
      includeFolder: KERNELS_FOLDER,
      architecture: CROSS_ARCHITECTURE,
    };
    const { cubin } = await compileKernel(request, compilation);
    return new CrossProducts(device, format, cubin);
  }

  /** The ways to compute a layer, the one thought fastest first; none where it is no cross, or its rows are aligned otherwise. */
  columnsFor({ layer, input, output, cross }: DeviceLinear): readonly CrossColumns[] {
    // Its weights are 16-bit.
    if (cross === undefined || layer.scales !== undefined) return [];
    if ((layer.outputs * ELEMENT_BYTES) % ALIGNMENT !== 0) return [];
    if (![input, output, cross.x0, cross.x].every((matrix) => this.#isTaken(matrix))) return [];
    const shape = { batch: input.rows, inputs: layer.inputs, outputs: layer.outputs };
    return crossColumns(shape, this.#device.properties);
  }

  #isTaken({ format, address, stride }: DeviceMatrix): boolean {
    const rowsAreAligned = (stride * ELEMENT_BYTES) % ALIGNMENT === 0;
    return format === this.#format && address % BigInt(ALIGNMENT) === 0n && rowsAreAligned;
  }

  /** Puts a layer into the stream, in one of the ways that `columnsFor` gave. */
  run(stream: CudaStream, { layer, input, output, cross }: DeviceLinear, columns: CrossColumns): void {
    if (cross === undefined) throw new TypeError('a cross product is of a cross layer');
    const { inputs, outputs, weightStride } = layer;
    const { rows } = output;
    const map = this.#device.enter().describeTiles({
      format: this.#format,
      address: input.address,
      rows,
      columns: inputs,
      rowBytes: input.stride * ELEMENT_BYTES,
      ...INPUT_TILE,
    });
    const words = crossProductWords(map, {
      weight: layer.weight.address(),
      weightStride,
      bias: layer.biasAddress(),
      x0: cross.x0.address,
      x0Stride: cross.x0.stride,
      x: cross.x.address,
      xStride: cross.x.stride,
      output: output.address,
      outputStride: output.stride,
      batch: rows,
      outputs,
      // The weight's rows end in zeros, and so do the copied ones of the input.
      inputs: weightStride,
    });
    const { multiprocessors } = this.#device.properties;
    const shape = crossLaunch(columns, { batch: rows, inputs, outputs }, multiprocessors);
    stream.launch(this.#kernels.get(columns) as CudaKernel, shape, new ParameterBlock(words));
  }

  [Symbol.dispose](): void {
    this.#module[Symbol.dispose]();
  }
}
