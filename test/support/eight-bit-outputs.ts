/** A layer whose output is needed in 8 bits alone, computed in the way that was thought of last. */
import { mock } from 'node:test';
import { DenseKernels, type DenseOptions } from '../../src/backend/cuda/dense/dense-kernels.ts';
import type { DeviceLinear } from '../../src/backend/cuda/dense/dense-operation.ts';
import type { ScaledWeight } from '../../src/backend/scaled-weight.ts';
import { scaledWeight } from '../../src/backend/scaled-weight.ts';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import type { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import type { DevicePtr } from '../../src/ffi/cuda-symbols.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { numberToFloat8 } from '../../src/float8.ts';
import { numberToFloat16 } from '../../src/tensor.ts';
import { Random } from './random.ts';

export type EightBitTools = Pick<DenseOptions, 'compiler' | 'cache' | 'cublasLt' | 'choices'> & {
  readonly driver: CudaDriver;
};

export interface EightBitCase {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly activation: 'none' | 'relu';
  readonly biased: boolean;
  /** Whether all outputs have one scale. */
  readonly oneScale: boolean;
  /** Whether the output is needed in 8 bits alone. */
  readonly alone: boolean;
}

const INPUT_SCALE = Math.fround(0.03);
/** Under which some outputs saturate. */
const OUTPUT_SCALE = Math.fround(0.003);
/** What memory holds that nobody wrote: 16 bits of it. */
export const UNTOUCHED = 0x5555;

/** How it was computed, its output, and that in 8 bits. `measured`: by the clock; else whatever is tried last is fastest. */
export async function runEightBits(
  { driver, ...tools }: EightBitTools,
  { rows, inputs, outputs, activation, biased, oneScale, alone }: EightBitCase,
  { measured = false } = {},
) {
  using device = new CudaDevice(driver);
  using stream = new CudaStream(device);
  using pool = BlockPool.ofDevice(device, 1 << 26);
  using kernels = await DenseKernels.open(device, {
    ...{ ...tools, precision: 'float16', pool, settle: () => stream.synchronize() },
    linearSearch: { candidates: 8, rounds: 1, runs: 1 },
  });
  const random = new Random(61);
  const weight = random.reals(outputs * inputs).map((w) => w / Math.sqrt(inputs));
  const scaled = oneScale ? byOneScale(weight, outputs) : scaledWeight(weight, outputs);
  const bias = biased ? random.reals(outputs) : undefined;
  using layer = kernels.placeLinear({ ...scaled, inputScale: INPUT_SCALE }, bias, outputs, inputs);
  const given = Uint16Array.from(random.reals(rows * inputs), (x) => numberToFloat16(10 * x));
  given[3] = 0x7e00; // NaN
  using input = new DeviceMemory(device, given.byteLength);
  using output = new DeviceMemory(device, 2 * rows * outputs);
  using copy = new DeviceMemory(device, rows * outputs);
  stream.copyToDevice(input.address(), addressOf(given), given.byteLength);
  for (const memory of [output, copy]) stream.fillBytes(memory.address(), 0x55, memory.bytes);
  const place = (memory: DeviceMemory, cols: number) => ({
    ...({ format: 'float16', rows, cols, stride: cols } as const),
    address: memory.address() as DevicePtr,
  });
  const operation: DeviceLinear = {
    ...{ layer, activation, input: place(input, inputs), output: place(output, outputs) },
    rounded: { address: copy.address(), stride: outputs, cols: outputs, scale: OUTPUT_SCALE, alone },
  };
  let next = 1e6;
  const clock = measured ? undefined : mock.method(CudaEvent.prototype, 'msSince', () => next--);
  const choice = kernels.prepare(operation);
  clock?.mock.restore();
  kernels.linear(stream, operation);
  const made = { output: new Uint16Array(rows * outputs), copy: new Uint8Array(rows * outputs) };
  stream.copyToHost(addressOf(made.output), output.address(), output.bytes);
  stream.copyToHost(addressOf(made.copy), copy.address(), copy.bytes);
  stream.synchronize();
  return { choice, ...made };
}

/** A weight in 8 bits, all outputs by the same scale. */
function byOneScale(weight: Float32Array, outputs: number): ScaledWeight {
  const { scales } = scaledWeight(weight, outputs);
  const most = scales.reduce((largest, scale) => Math.max(largest, scale), 0);
  return {
    elements: Uint8Array.from(weight, (w) => numberToFloat8(w / most)),
    scales: new Float32Array(outputs).fill(most),
  };
}

/** The place of an 8-bit number in the order of all: neighbours are 1 apart; NaN for NaN. */
export function rankOf(bits: number): number {
  if ((bits & 0x7f) === 0x7f) return Number.NaN;
  return bits & 0x80 ? -(bits & 0x7f) : bits;
}
