/** Weights of linear layers on a GPU. */
import { bytesOf } from '../../../checks/array.ts';
import { DeviceMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import {
  activationFormat,
  type DensePrecision,
  type DeviceDescription,
  type ElementFormat,
  type UnscaledPrecision,
} from '../../../device.ts';
import { DeviceError, PlanError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { addressOf } from '../../../ffi/host-memory.ts';
import { numberToBfloat16, numberToFloat16 } from '../../../tensor.ts';
import type { PlacedLinear } from '../../backend.ts';
import type { ScaledWeight } from '../../scaled-weight.ts';

/** Rows of weights begin at multiples of so many elements, so that every product may load 16 bytes at a time. */
const ROW_ELEMENTS = 8;
/** Of weights in 8 bits. */
const SCALED_ROW_ELEMENTS = 16;
const LARGEST_FLOAT16 = 65504;

/** Of a weight in 8 bits. */
interface WeightScales {
  /** float32 [outputs]. */
  readonly weight: DeviceMemory;
  /** Of all inputs; undefined: each row has its own. */
  readonly input: number | undefined;
  /** Whether inputs have one scale, and outputs have one. */
  readonly areOne: boolean;
}

/**
 * A weight [outputs, inputs] in the format that the precision multiplies, rows `weightStride` elements apart, zeros between them,
 * and a bias [outputs], both on the device.
 */
export class CudaLinear implements PlacedLinear {
  readonly inputs: number;
  readonly outputs: number;
  /** Of the kernels that it runs on: those of float16 multiply in 8 bits too. */
  readonly kernels: UnscaledPrecision;
  readonly scales: WeightScales | undefined;
  readonly weightStride: number;
  readonly weight: DeviceMemory;
  /** By the formats of outputs: the library adds a bias of the output's. */
  readonly #biases = new Map<ElementFormat, DeviceMemory>();

  /**
   * Blocks until the weight is on the device.
   * @throws DeviceError KERNEL_FAILED for sizes that do not fit together, OUT_OF_MEMORY; PlanError PLAN_ILLEGAL for
   * weights or biases that float16 cannot hold.
   */
  constructor(
    stream: CudaStream,
    precision: UnscaledPrecision,
    weight: Float32Array | ScaledWeight,
    bias: Float32Array | undefined,
    [outputs, inputs]: readonly [outputs: number, inputs: number],
  ) {
    const scaled = weight instanceof Float32Array ? undefined : weight;
    const elements = weight instanceof Float32Array ? weight : weight.elements;
    const sized = outputs >= 1 && inputs >= 1 && elements.length === outputs * inputs;
    if (!sized || (bias !== undefined && bias.length !== outputs)) {
      const sizes = `${elements.length} weights${bias === undefined ? '' : ` and ${bias.length} biases`}`;
      throw new DeviceError('KERNEL_FAILED', `${sizes} are no layer [${outputs}, ${inputs}]`);
    }
    this.inputs = inputs;
    this.outputs = outputs;
    this.kernels = precision;
    const unit = scaled === undefined ? ROW_ELEMENTS : SCALED_ROW_ELEMENTS;
    this.weightStride = Math.ceil(inputs / unit) * unit;
    const stored =
      weight instanceof Float32Array
        ? storedWeight(precision, weight, inputs, this.weightStride)
        : withGaps(weight.elements, inputs, this.weightStride);
    this.weight = place(stream, stored);
    try {
      this.scales = scaled && {
        weight: place(stream, scaled.scales),
        input: scaled.inputScale,
        areOne: scaled.inputScale !== undefined && scaled.scales.every((own) => own === scaled.scales[0]),
      };
      if (bias === undefined) return;
      this.#biases.set('float32', place(stream, bias));
      const own = activationFormat(precision);
      if (own !== 'float32') this.#biases.set(own, place(stream, Uint16Array.from(bias, NARROW[precision])));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get precision(): DensePrecision {
    return this.scales === undefined ? this.kernels : 'float8_e4m3';
  }

  get hasBias(): boolean {
    return this.#biases.size > 0;
  }

  /** [outputs], of float32 or the format of the precision's activations; 0: there is none. */
  biasAddress(format: ElementFormat = 'float32'): DevicePtr {
    return this.#biases.get(format)?.address() ?? (0n as DevicePtr);
  }

  get device(): DeviceDescription {
    return this.weight.device.description;
  }

  [Symbol.dispose](): void {
    this.weight[Symbol.dispose]();
    this.scales?.weight[Symbol.dispose]();
    for (const bias of this.#biases.values()) bias[Symbol.dispose]();
    this.#biases.clear();
  }
}

/** A copy on the device. */
function place(stream: CudaStream, array: Float32Array | Uint16Array | Uint8Array): DeviceMemory {
  const bytes = bytesOf(array);
  const memory = new DeviceMemory(stream.device, bytes);
  try {
    stream.copyToDevice(memory.address(), addressOf(array), bytes);
    stream.synchronize();
  } catch (error) {
    memory[Symbol.dispose]();
    throw error;
  }
  return memory;
}

/** Elements in 8 bits, rows `stride` apart, zeros between them. */
function withGaps(elements: Uint8Array, inputs: number, stride: number): Uint8Array {
  const rows = elements.length / inputs;
  const stored = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++)
    stored.set(elements.subarray(row * inputs, (row + 1) * inputs), row * stride);
  return stored;
}

/** A weight as its precision multiplies it, rows `stride` elements apart, zeros between them. */
function storedWeight(precision: UnscaledPrecision, weight: Float32Array, inputs: number, stride: number) {
  const rows = weight.length / inputs;
  const stored =
    activationFormat(precision) !== 'float32'
      ? new Uint16Array(rows * stride)
      : new Float32Array(rows * stride);
  const narrow = NARROW[precision];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < inputs; column++)
      stored[row * stride + column] = narrow(weight[row * inputs + column] as number);
  }
  return stored;
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** The nearest TF32 value, ties away from zero: tensor cores only drop the bits that are too many. */
function roundToTf32(value: number): number {
  if (!Number.isFinite(value)) return value;
  wordAsFloat[0] = value;
  word[0] = ((word[0] as number) + 0x1000) & 0xffffe000;
  return wordAsFloat[0] as number;
}

const NARROW: Readonly<Record<UnscaledPrecision, (value: number) => number>> = {
  float32: (value) => value,
  tf32: roundToTf32,
  bfloat16: numberToBfloat16,
  float16: (value) => {
    if (Math.abs(value) > LARGEST_FLOAT16 && Number.isFinite(value)) {
      throw new PlanError('PLAN_ILLEGAL', `the parameter ${value} is beyond float16, which ends at 65504`, {
        value,
        hint: 'use bfloat16 or tf32 for the dense part',
      });
    }
    return numberToFloat16(value);
  },
};
