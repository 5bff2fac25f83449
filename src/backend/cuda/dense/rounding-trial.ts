/**
 * Whether products round once what they add a bias to. Kernels of cuBLASLt older than Hopper's that split a product along its
 * inputs round the sum to the output's 16 bits, and again when the bias is in it, whatever reductions they were allowed.
 */
import type { DeviceMemory } from '../../../cuda/memory.ts';
import type { ElementFormat } from '../../../device.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { bfloat16ToNumber, float16ToNumber } from '../../../tensor.ts';
import type { Trial, TrialMemory } from './dense-memory.ts';

/** Formats whose sums are longer than they are. */
type NarrowFormat = Exclude<ElementFormat, 'float32'>;

/** The number after 1 of a format: in its own bits, twice in a word, and in float32's. */
const AFTER_ONE = {
  float16: { word: 0x3c013c01, asFloat32: 0x3f802000 },
  bfloat16: { word: 0x3f813f81, asFloat32: 0x3f810000 },
} as const satisfies Record<NarrowFormat, unknown>;
const VALUE_OF = { float16: float16ToNumber, bfloat16: bfloat16ToNumber } as const;
const WORD_BYTES = 4;
const SIGN = 0x8000;

/** What a product reads in place of its layer's own. */
export interface RoundingOperands {
  readonly weight: DevicePtr;
  readonly bias: DevicePtr;
}

/** A trial with a weight and a bias of its own. */
export class RoundingTrial implements Disposable {
  readonly #trial: Trial;
  readonly #own: TrialMemory;
  readonly #format: NarrowFormat;
  readonly #weight: DeviceMemory;
  readonly #bias: DeviceMemory;
  readonly #biasWords: number;

  /** Undefined where there is one rounding at most. @throws CudaError OUT_OF_MEMORY. */
  static of(trial: Trial, own: TrialMemory): RoundingTrial | undefined {
    const { layer, output } = trial.operation;
    const { format } = output;
    const isRounded = layer.hasBias && layer.scales === undefined;
    return isRounded && format !== 'float32' ? new RoundingTrial(trial, own, format) : undefined;
  }

  private constructor(trial: Trial, own: TrialMemory, format: NarrowFormat) {
    const { layer } = trial.operation;
    this.#trial = trial;
    this.#own = own;
    this.#format = format;
    this.#weight = own.pool.borrow(wordsOf(layer.outputs * layer.weightStride) * WORD_BYTES);
    this.#biasWords = wordsOf(layer.outputs);
    try {
      this.#bias = own.pool.borrow(this.#biasWords * WORD_BYTES);
    } catch (error) {
      own.pool.giveBack(this.#weight);
      throw error;
    }
    const { word, asFloat32 } = AFTER_ONE[format];
    own.stream.fillWords(this.#weight.address(), word, wordsOf(layer.outputs * layer.weightStride));
    trial.fill((block) => (block.isInput && block.format === 'float32' ? asFloat32 : word));
  }

  /**
   * Inputs and weights are all 1 + ε, so that no sum is a number of the format. Its negative as a bias, but one step less of the
   * format, leaves that step and what rounding cut off; where the sum was rounded before, the step alone.
   */
  roundsOnce(run: (operands: RoundingOperands) => void): boolean {
    const sum = this.#firstWithBias(0, run);
    const less = sum - 1;
    const value = VALUE_OF[this.#format];
    const left = this.#firstWithBias(SIGN | less, run);
    return value(left) !== value(sum) - value(less);
  }

  /** The bits of the first output, with a bias that has the given bits. */
  #firstWithBias(bits: number, run: (operands: RoundingOperands) => void): number {
    const operands = { weight: this.#weight.address(), bias: this.#bias.address() };
    const word = (bits | (bits << 16)) >>> 0;
    this.#own.stream.fillWords(operands.bias, word, this.#biasWords);
    run(operands);
    return this.#trial.firstBits();
  }

  [Symbol.dispose](): void {
    this.#own.stream.synchronize();
    this.#own.pool.giveBack(this.#weight);
    this.#own.pool.giveBack(this.#bias);
  }
}

/** Words of so many 16-bit elements. */
function wordsOf(elements: number): number {
  return Math.ceil(elements / 2);
}
