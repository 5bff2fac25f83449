/** Device memory that the dense operations need beside their operands. */
import { at } from '../../../at.ts';
import type { BlockPool } from '../../../cuda/block-pool.ts';
import { type CudaDevice, ignoringLostContext } from '../../../cuda/device.ts';
import { DeviceMemory, PinnedMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { ElementFormat } from '../../../device.ts';
import { DeviceError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { float8ToNumber } from '../../../float8.ts';
import { bfloat16ToNumber, float16ToNumber } from '../../../tensor.ts';
import { elementBytes } from '../../backend.ts';
import type { DeviceLinear, DeviceMatrix, RoundedCopy } from './dense-operation.ts';

/** Device memory that grows. What it was before stays until disposal, for graphs that have captured its address. */
export class Scratch implements Disposable {
  readonly #device: CudaDevice;
  readonly #blocks: DeviceMemory[] = [];

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  /** Whether its memory is another than before. @throws CudaError OUT_OF_MEMORY. */
  reserve(bytes: number): boolean {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.bytes >= bytes) return false;
    // Twice the last, so that all the blocks together are at most twice the largest.
    this.#blocks.push(new DeviceMemory(this.#device, Math.max(bytes, 2 * (last?.bytes ?? 0))));
    return true;
  }

  get address(): DevicePtr {
    return this.#last.address();
  }

  get bytes(): number {
    return this.#last.bytes;
  }

  get #last(): DeviceMemory {
    const last = this.#blocks.at(-1);
    if (last === undefined) throw new DeviceError('KERNEL_FAILED', 'memory was used before it was prepared');
    return last;
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks.splice(0)) block[Symbol.dispose]();
  }
}

/** 1 in a word, as often as there is room. */
const ONES: Readonly<Record<TrialFormat, number>> = {
  float32: 0x3f800000,
  float16: 0x3c003c00,
  bfloat16: 0x3f803f80,
  float8_e4m3: 0x38383838,
};
/** NaN in every format. */
const NANS = 0xffffffff;
const WORD_BYTES = 4;

type TrialFormat = ElementFormat | 'float8_e4m3';

/** What trials run in and on, one after the other. */
export class TrialMemory implements Disposable {
  readonly stream: CudaStream;
  readonly pool: BlockPool<DeviceMemory>;
  #word: PinnedMemory | undefined;

  constructor(stream: CudaStream, pool: BlockPool<DeviceMemory>) {
    this.stream = stream;
    this.pool = pool;
  }

  /** 4 bytes. For copies to memory that is not pinned the driver waits itself, and other threads may wait for the driver. */
  get word(): PinnedMemory {
    this.#word ??= new PinnedMemory(this.stream.device, WORD_BYTES);
    return this.#word;
  }

  [Symbol.dispose](): void {
    this.#word?.[Symbol.dispose]();
  }
}

/** What a matrix of a trial is. */
export interface TrialMatrix {
  readonly format: TrialFormat;
  /** Whether a layer multiplies it. */
  readonly isInput: boolean;
}

interface TrialBlock extends TrialMatrix {
  readonly memory: DeviceMemory;
  /** Of the matrix, in whole words: the memory may be larger. */
  readonly bytes: number;
}

/**
 * An operation like another, in formats, strides and alignment too, on memory that it borrows: a model that is loaded makes hundreds
 * of trials, and memory that is given back to the driver has all work on the device waited for.
 */
export class Trial implements Disposable {
  readonly operation: DeviceLinear;
  readonly #own: TrialMemory;
  readonly #blocks: TrialBlock[] = [];

  /** @throws CudaError OUT_OF_MEMORY. */
  constructor(operation: DeviceLinear, own: TrialMemory) {
    const { input, output, cross, rounded, inputRounded } = operation;
    this.#own = own;
    const borrow = (bytes: number, format: TrialFormat, isInput: boolean): DeviceMemory => {
      const memory = own.pool.borrow(bytes);
      this.#blocks.push({ memory, bytes, format, isInput });
      return memory;
    };
    const place = (matrix: DeviceMatrix, isInput = false): DeviceMatrix => {
      const memory = borrow(trialBytes(matrix), matrix.format, isInput);
      return { ...matrix, address: memory.address(Number(matrix.address % 16n)) };
    };
    const placeCopy = (copy: RoundedCopy, isInput: boolean): RoundedCopy => {
      const memory = borrow(copy.stride * input.rows, 'float8_e4m3', isInput);
      return { ...copy, address: memory.address() };
    };
    try {
      const [ownInput, ownOutput] = [place(input, true), place(output)];
      const beside = (matrix: DeviceMatrix) =>
        matrix.address === output.address ? { ...ownOutput, stride: matrix.stride } : place(matrix);
      this.operation = {
        ...operation,
        input: ownInput,
        output: ownOutput,
        ...(cross === undefined ? {} : { cross: { x0: beside(cross.x0), x: beside(cross.x) } }),
        ...(rounded === undefined ? {} : { rounded: placeCopy(rounded, false) }),
        ...(inputRounded === undefined ? {} : { inputRounded: placeCopy(inputRounded, true) }),
      };
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Fills the input, in 8 bits too, and all else with ones. */
  fillInput(value: 'ones' | 'NaNs'): void {
    this.fill(({ isInput, format }) => (isInput && value === 'NaNs' ? NANS : ONES[format]));
  }

  /** Fills every matrix with a word of its own. */
  fill(wordOf: (matrix: TrialMatrix) => number): void {
    for (const block of this.#blocks) {
      const { memory, bytes } = block;
      this.#own.stream.fillWords(memory.address(), wordOf(block), bytes / WORD_BYTES);
    }
  }

  /** Whether output [0, 0] is NaN, when the stream is done; where it is needed in 8 bits alone, whether it is there. */
  firstIsNaN(): boolean {
    return Number.isNaN(NUMBER_OF[this.#read.format](this.firstBits()));
  }

  /** The bits of output [0, 0], when the stream is done; where it is needed in 8 bits alone, of those. */
  firstBits(): number {
    const { address, format } = this.#read;
    const { stream, word } = this.#own;
    const bits = word.int32(0, 1);
    bits[0] = 0;
    stream.copyToHost(word.address(), address, format === 'float8_e4m3' ? 1 : elementBytes({ format }));
    stream.synchronize();
    return at(bits, 0) >>> 0;
  }

  /** What is read of the output. */
  get #read(): { readonly address: DevicePtr; readonly format: TrialFormat } {
    const { output, rounded } = this.operation;
    return rounded?.alone === true ? { address: rounded.address, format: 'float8_e4m3' } : output;
  }

  [Symbol.dispose](): void {
    // Others are lent the memory at once.
    const { stream, pool } = this.#own;
    ignoringLostContext(() => stream.synchronize());
    for (const { memory } of this.#blocks.splice(0)) pool.giveBack(memory);
  }
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** The number that some bits stand for. */
const NUMBER_OF: Readonly<Record<TrialFormat, (bits: number) => number>> = {
  float32: (bits) => {
    word[0] = bits;
    return at(wordAsFloat, 0);
  },
  float16: float16ToNumber,
  bfloat16: bfloat16ToNumber,
  float8_e4m3: float8ToNumber,
};

/** Bytes of a matrix that begins up to 16 bytes into its memory, in whole words. */
function trialBytes({ rows, stride, format }: DeviceMatrix): number {
  return Math.ceil((elementBytes({ format }) * rows * stride) / WORD_BYTES) * WORD_BYTES + 16;
}
