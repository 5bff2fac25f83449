/** Linear layers on a GPU: by cuBLASLt or a kernel of their own, whichever is fastest for a shape. */
import type { CudaStream } from '../../../cuda/stream.ts';
import { DeviceError } from '../../../errors.ts';
import type { CublasLt } from '../../../ffi/cublaslt.ts';
import type { CrossProducts } from './cross-products.ts';
import type { DenseLibrary } from './dense-library.ts';
import { checkLinear, type DeviceLinear, shapeKey } from './dense-operation.ts';
import type { KeptChoices } from './kept-choices.ts';
import { describeChoice, type LinearChoice } from './linear-choice.ts';
import { LinearChooser, type LinearSearch, type LinearTools } from './linear-chooser.ts';
import { LinearLaunches } from './linear-launches.ts';

/** Its workspace is its own, so one stream uses it at a time. */
export class LinearLayers implements Disposable {
  readonly #library: DenseLibrary;
  readonly #stream: CudaStream;
  readonly #launches: LinearLaunches;
  readonly #chooser: LinearChooser;
  readonly #choices = new Map<string, LinearChoice>();
  /** Of operations that were prepared and checked: finding one by its shape takes the host microseconds. */
  readonly #prepared = new WeakMap<DeviceLinear, LinearChoice>();

  /** `stream`: for measurements. @throws CudaError OUT_OF_MEMORY. */
  constructor(
    library: DenseLibrary,
    stream: CudaStream,
    cublasLt: CublasLt,
    search: LinearSearch,
    tools: LinearTools,
    kept?: KeptChoices,
  ) {
    this.#library = library;
    this.#stream = stream;
    this.#launches = new LinearLaunches(library, cublasLt);
    this.#chooser = new LinearChooser(this.#launches, stream, search, tools, kept);
  }

  /** From now on cross layers may be computed by these, too; they live longer. */
  useCrosses(crosses: CrossProducts): void {
    this.#launches.useCrosses(crosses);
  }

  /**
   * Chooses how layers of this shape and alignment are computed, unless it did, and reserves memory; blocks. Returns the
   * choice in words. @throws DeviceError OUT_OF_MEMORY, KERNEL_FAILED.
   */
  prepare(operation: DeviceLinear): string {
    checkLinear(operation, this.#library.precision);
    if (operation.input.rows === 0) return 'nothing to do';
    this.#launches.reserve(this.#stream, operation);
    const key = shapeKey(operation);
    const choice = this.#choices.get(key) ?? this.#chooser.choose(operation, key);
    this.#choices.set(key, choice);
    this.#prepared.set(operation, choice);
    return describeChoice(choice);
  }

  /** @throws DeviceError KERNEL_FAILED for matrices that do not fit, or that were not prepared. */
  run(stream: CudaStream, operation: DeviceLinear): void {
    if (operation.input.rows === 0) return;
    this.#launches.enqueue(stream, operation, this.#prepared.get(operation) ?? this.#choiceOf(operation));
  }

  [Symbol.dispose](): void {
    this.#chooser[Symbol.dispose]();
    this.#launches[Symbol.dispose]();
  }

  /** What was chosen for another operation of this shape. */
  #choiceOf(operation: DeviceLinear): LinearChoice {
    checkLinear(operation, this.#library.precision);
    const key = shapeKey(operation);
    const choice = this.#choices.get(key);
    if (choice === undefined)
      throw new DeviceError('KERNEL_FAILED', `the linear layer ${key} ran before it was prepared`);
    return choice;
  }
}
