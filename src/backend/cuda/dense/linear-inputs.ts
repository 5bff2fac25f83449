/** What products read on a GPU: inputs that are converted first, those in 8 bits with a scale for each row. */
import type { CudaDevice } from '../../../cuda/device.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { activationFormat, type ElementFormat } from '../../../device.ts';
import type { MatmulScales } from '../../../ffi/cublaslt.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { elementBytes } from '../../backend.ts';
import { type DenseLibrary, floatBits } from './dense-library.ts';
import { Scratch } from './dense-memory.ts';
import {
  type DeviceLinear,
  type DeviceMatrix,
  isMultipliedAsItIs,
  multipliedColumns,
  type RoundedCopy,
} from './dense-operation.ts';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** A matrix of factors as products take it. */
export type Factor = Pick<DeviceMatrix, 'address' | 'cols' | 'stride'> & {
  readonly format: ElementFormat | 'float8_e4m3';
};

/** Makes factors of the inputs of layers, in memory of its own: one stream uses it at a time. */
export class LinearInputs implements Disposable {
  readonly #library: DenseLibrary;
  readonly #converted: Scratch;
  /** Scales of rows that have their own. */
  readonly #rowScales: Scratch;
  /** Where all rows have one scale, as products take it, by the scale. */
  readonly #sameScales = new Map<number, SameScales>();

  constructor(library: DenseLibrary) {
    this.#library = library;
    this.#converted = new Scratch(library.device);
    this.#rowScales = new Scratch(library.device);
  }

  /** Has memory ready for a layer's factor and its scales, and that of its output in 8 bits; what is to be in it before any run is put there by `stream`, and waited for. */
  reserve(stream: CudaStream, operation: DeviceLinear): void {
    const { layer, input, inputRounded, rounded } = operation;
    if (layer.scales === undefined) {
      if (!isMultipliedAsItIs(operation)) this.#converted.reserve(bytesOf(convertedOf(operation, 0n)));
      return;
    }
    if (inputRounded === undefined) this.#converted.reserve(input.rows * layer.weightStride);
    const scale = layer.scales.input;
    if (scale === undefined) this.#rowScales.reserve(input.rows * FLOAT_BYTES);
    else this.#sameScalesOf(scale).reserve(stream, input.rows);
    if (rounded !== undefined) this.#sameScalesOf(inverseOf(rounded)).reserve(stream, 1);
  }

  /** What a product reads, once `convert` has run. */
  factor(operation: DeviceLinear): Factor {
    const { layer, input, inputRounded } = operation;
    const { weightStride } = layer;
    if (layer.scales !== undefined) {
      const { address, stride } = inputRounded ?? { address: this.#converted.address, stride: weightStride };
      return { format: 'float8_e4m3', address, cols: weightStride, stride };
    }
    if (!isMultipliedAsItIs(operation)) return convertedOf(operation, this.#converted.address);
    return { ...input, cols: multipliedColumns(operation) };
  }

  /** Where the scales of 8-bit factors are: of the input's rows, and of the weight. */
  scales({ layer: { scales } }: DeviceLinear): MatmulScales | undefined {
    if (scales === undefined) return undefined;
    const input =
      scales.input === undefined ? this.#rowScales.address : this.#sameScalesOf(scales.input).address;
    return { input, weight: scales.weight.address() };
  }

  /** Where that is what a copy's values are multiplied by. */
  inverseScale(copy: RoundedCopy): DevicePtr {
    return this.#sameScalesOf(inverseOf(copy)).address;
  }

  /** Makes the factor of an input that is not multiplied as it lies. */
  convert(stream: CudaStream, operation: DeviceLinear): void {
    const { layer, input, inputRounded } = operation;
    const factor = this.factor(operation);
    if (layer.scales !== undefined) {
      if (inputRounded !== undefined) return;
      this.#library.roundRows(stream, input, factor, layer.scales.input ?? this.#rowScales.address);
    } else if (!isMultipliedAsItIs(operation))
      this.#library.convert(stream, input, convertedOf(operation, factor.address));
  }

  [Symbol.dispose](): void {
    this.#converted[Symbol.dispose]();
    this.#rowScales[Symbol.dispose]();
    for (const scales of this.#sameScales.values()) scales[Symbol.dispose]();
    this.#sameScales.clear();
  }

  #sameScalesOf(scale: number): SameScales {
    const known = this.#sameScales.get(scale);
    if (known !== undefined) return known;
    const scales = new SameScales(this.#library.device, scale);
    this.#sameScales.set(scale, scales);
    return scales;
  }
}

/** What a copy's values are multiplied by. */
function inverseOf({ scale }: RoundedCopy): number {
  return Math.fround(1 / Math.fround(scale));
}

/** float32 [rows] of one value. */
class SameScales implements Disposable {
  readonly #scale: number;
  readonly #memory: Scratch;

  constructor(device: CudaDevice, scale: number) {
    this.#scale = scale;
    this.#memory = new Scratch(device);
  }

  /** Blocks where it grows. */
  reserve(stream: CudaStream, rows: number): void {
    if (!this.#memory.reserve(rows * FLOAT_BYTES)) return;
    const { address, bytes } = this.#memory;
    stream.fillWords(address, floatBits(this.#scale), bytes / FLOAT_BYTES);
    stream.synchronize();
  }

  get address(): DevicePtr {
    return this.#memory.address;
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** A 16-bit copy of a layer's input, zeros up to the weight's rows: sums of whole vectors are faster. */
function convertedOf({ layer, input }: DeviceLinear, address: bigint): DeviceMatrix {
  const { weightStride, kernels } = layer;
  return {
    address: address as DevicePtr,
    format: activationFormat(kernels),
    rows: input.rows,
    cols: weightStride,
    stride: weightStride,
  };
}

/** Bytes of a matrix in memory of its own. */
export function bytesOf({ rows, stride, format }: DeviceMatrix): number {
  return rows * stride * elementBytes({ format });
}
