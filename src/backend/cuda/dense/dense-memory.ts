/** Device memory that the dense operations need beside their operands. */
import { at } from '../../../at.ts';
import type { CudaDevice } from '../../../cuda/device.ts';
import { DeviceMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { DeviceError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { addressOf } from '../../../ffi/host-memory.ts';
import type { DeviceLinear, DeviceMatrix } from './dense-operation.ts';

/** Device memory that grows. What it was before stays until disposal, for graphs that have captured its address. */
export class Scratch implements Disposable {
  readonly #device: CudaDevice;
  readonly #blocks: DeviceMemory[] = [];

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  /** @throws CudaError OUT_OF_MEMORY. */
  reserve(bytes: number): void {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.bytes >= bytes) return;
    // Twice the last, so that all the blocks together are at most twice the largest.
    this.#blocks.push(new DeviceMemory(this.#device, Math.max(bytes, 2 * (last?.bytes ?? 0))));
  }

  get address(): DevicePtr {
    const last = this.#blocks.at(-1);
    if (last === undefined) throw new DeviceError('KERNEL_FAILED', 'memory was used before it was prepared');
    return last.address();
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks.splice(0)) block[Symbol.dispose]();
  }
}

const FLOAT32_ONE = 0x3f800000;

/** An operation like another, in strides and alignment too, on memory of its own. */
export class Trial implements Disposable {
  readonly operation: DeviceLinear;
  readonly #input: DeviceMemory;
  readonly #output: DeviceMemory;

  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(operation: DeviceLinear) {
    const { input, output, cross, layer } = operation;
    this.#input = new DeviceMemory(layer.weight.device, trialBytes(input));
    try {
      this.#output = new DeviceMemory(layer.weight.device, trialBytes(output));
    } catch (error) {
      this.#input[Symbol.dispose]();
      throw error;
    }
    const place = (matrix: DeviceMatrix, memory: DeviceMemory): DeviceMatrix => ({
      ...matrix,
      address: memory.address(Number(matrix.address % 16n)),
    });
    const out = place(output, this.#output);
    this.operation = {
      ...operation,
      input: place(input, this.#input),
      output: out,
      ...(cross === undefined ? {} : { cross: { x0: out, x: out } }),
    };
  }

  fillInput(stream: CudaStream, value: 'ones' | 'NaNs'): void {
    const word = value === 'ones' ? FLOAT32_ONE : 0xffffffff;
    stream.fillWords(this.#input.address(), word, this.#input.bytes / 4);
    stream.fillWords(this.#output.address(), FLOAT32_ONE, this.#output.bytes / 4);
  }

  /** Output [0, 0], when the stream is done. */
  firstOutput(stream: CudaStream): number {
    const host = new Float32Array(new ArrayBuffer(4));
    stream.copyToHost(addressOf(host), this.operation.output.address, 4);
    stream.synchronize();
    return at(host, 0);
  }

  [Symbol.dispose](): void {
    this.#input[Symbol.dispose]();
    this.#output[Symbol.dispose]();
  }
}

/** Bytes of a matrix that begins up to 16 bytes into its memory. */
function trialBytes({ rows, stride }: DeviceMatrix): number {
  return 4 * rows * stride + 16;
}
