/** Cross layers whole, product and end in one kernel, on GPUs that have its instructions. */
import type { CudaDevice } from '../../../cuda/device.ts';
import { type CudaKernel, CudaModule } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type UnscaledPrecision } from '../../../device.ts';
import type { MatmulScales } from '../../../ffi/cublaslt.ts';
import { type Compiler, compileKernel } from '../../../jit/compile-kernel.ts';
import type { KernelCache } from '../../../jit/kernel-cache.ts';
import { putLaunch } from '../kernels/launcher.ts';
import { KERNELS_FOLDER } from '../kernels/source.ts';
import {
  CROSS_ARCHITECTURE,
  CROSS_COLUMNS,
  type CrossColumns,
  type CrossFactors,
  canMakeCrossProducts,
  crossColumns,
  crossFactors,
  crossLaunch,
  crossModule,
  crossProductSource,
  crossProductWords,
  crossTile,
  type HalfFormat,
} from './cross-product.ts';
import type { CudaLinear } from './cuda-linear.ts';
import { floatBits } from './dense-library.ts';
import type { DeviceLinear, DeviceMatrix } from './dense-operation.ts';
import type { Factor } from './linear-inputs.ts';

/** Bytes that rows are multiples of, and of an element. */
const ALIGNMENT = 16;
const ELEMENT_BYTES = 2;

/** The kernels of one format of matrices: compiled together, loaded until disposal. */
export class CrossProducts implements Disposable {
  readonly #device: CudaDevice;
  readonly #format: HalfFormat;
  readonly #module: CudaModule;
  /** By their ids. */
  readonly #kernels = new Map<string, CudaKernel>();

  private constructor(device: CudaDevice, format: HalfFormat, cubin: Uint8Array) {
    this.#device = device;
    this.#format = format;
    this.#module = new CudaModule(device, cubin);
    try {
      for (const factors of crossFactors(format)) {
        for (const columns of CROSS_COLUMNS) {
          const { id, kernel: name } = crossProductSource(factors, columns);
          const kernel = this.#module.kernel(name);
          kernel.allowDynamicShared(device.properties.sharedBytesPerBlockOptIn);
          this.#kernels.set(id, kernel);
        }
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
  columnsFor({ layer, input, output, cross, rounded }: DeviceLinear): readonly CrossColumns[] {
    if (cross === undefined) return [];
    // The kernel writes whole units, and no zeros behind them.
    if (rounded !== undefined && rounded.cols >= layer.outputs + ALIGNMENT) return [];
    if ((layer.outputs * ELEMENT_BYTES) % ALIGNMENT !== 0) return [];
    // An input in 8 bits is made of one that may lie anyhow.
    const read = layer.scales === undefined ? [input] : [];
    if (![...read, output, cross.x0, cross.x].every((matrix) => this.#isTaken(matrix))) return [];
    const shape = { batch: input.rows, inputs: layer.inputs, outputs: layer.outputs };
    return crossColumns(this.#factorsOf(layer), shape, this.#device.properties);
  }

  #factorsOf({ scales }: CudaLinear): CrossFactors {
    return scales === undefined ? this.#format : 'float8_e4m3';
  }

  #isTaken({ format, address, stride }: DeviceMatrix): boolean {
    const rowsAreAligned = (stride * ELEMENT_BYTES) % ALIGNMENT === 0;
    return format === this.#format && address % BigInt(ALIGNMENT) === 0n && rowsAreAligned;
  }

  /**
   * Puts a layer into the stream, in one of the ways that `columnsFor` gave; its output in 8 bits too, if the operation says so. `factor`:
   * the input as it is multiplied, with the scales of both factors in 8 bits.
   */
  run(
    stream: CudaStream,
    { layer, output, cross, rounded }: DeviceLinear,
    columns: CrossColumns,
    factor: Factor,
    scales: MatmulScales | undefined,
  ): void {
    if (cross === undefined) throw new TypeError('a cross product is of a cross layer');
    const { inputs, outputs, weightStride } = layer;
    const { rows } = output;
    const factors = this.#factorsOf(layer);
    const { x0, x } = cross;
    const maps = {
      input: this.#map(factors, { ...factor, rows, cols: inputs }),
      x0: this.#map(this.#format, x0),
      x: this.#map(this.#format, x),
      output: this.#map(this.#format, output),
    };
    const words = crossProductWords(maps, {
      weight: layer.weight.address(),
      weightStride,
      bias: layer.biasAddress(),
      batch: rows,
      outputs,
      // The weight's rows end in zeros, and so do the copied ones of the input.
      inputs: weightStride,
      rowScales: scales?.input ?? 0n,
      weightScales: scales?.weight ?? 0n,
      xIsX0: x.address === x0.address ? 1 : 0,
      x0: x0.address,
      x0Stride: x0.stride,
      rounded: rounded?.address ?? 0n,
      roundedStride: rounded?.stride ?? 0,
      roundedScale: floatBits(rounded?.scale ?? 1),
      roundedAlone: rounded?.alone === true ? 1 : 0,
    });
    const { multiprocessors } = this.#device.properties;
    const shape = crossLaunch(factors, columns, { batch: rows, inputs, outputs }, multiprocessors);
    const kernel = this.#kernels.get(crossProductSource(factors, columns).id) as CudaKernel;
    putLaunch(stream, { kernel, shape, words });
  }

  #map(format: CrossFactors, { address, rows, cols, stride }: Tiled): BigUint64Array {
    const rowBytes = stride * (format === 'float8_e4m3' ? 1 : ELEMENT_BYTES);
    const matrix = { format, address, rows, columns: cols, rowBytes, ...crossTile(format) };
    return this.#device.enter().describeTiles(matrix);
  }

  [Symbol.dispose](): void {
    this.#module[Symbol.dispose]();
  }
}

/** A matrix that is copied in tiles. */
type Tiled = Pick<DeviceMatrix, 'address' | 'rows' | 'cols' | 'stride'>;
