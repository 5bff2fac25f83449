import type {
  CublasLt,
  MatmulAlgorithm,
  MatmulAlignment,
  MatmulDescriptors,
  MatmulProblem,
  MatmulScales,
} from '../ffi/cublaslt.ts';
import type { LtHandle } from '../ffi/cublaslt-symbols.ts';
import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { DevicePtr } from '../ffi/cuda-symbols.ts';
import type { HandlePlace } from '../ffi/owned-handles.ts';
import type { CudaDevice } from './device.ts';
import { DeviceMemory } from './memory.ts';
import { Resource } from './resource.ts';
import type { CudaStream } from './stream.ts';

const MIB = 2 ** 20;

/** What NVIDIA recommends: products on Hopper and later use more of it. */
function recommendedWorkspaceBytes({ properties }: CudaDevice): number {
  return properties.computeCapability[0] >= 9 ? 64 * MIB : 32 * MIB;
}

/** A product with the algorithm that computes it; lives as long as the MatrixProducts that found it. */
export interface MatmulPlan {
  readonly descriptors: MatmulDescriptors;
  readonly algorithm: MatmulAlgorithm;
}

/** Device addresses of a product; `bias` where its epilogue adds one. */
export interface MatmulOperands {
  readonly input: DevicePtr;
  readonly weight: DevicePtr;
  readonly output: DevicePtr;
  /** Of an output in 8 bits: float16 [rows, outputs] that stays as it is. */
  readonly addend?: DevicePtr;
  readonly bias?: DevicePtr;
  /** Of a problem with scales. */
  readonly scales?: MatmulScales;
}

/** What a search for algorithms is told of a product beside its shape: addresses aligned like those to come. */
export type MatmulEnds = Pick<MatmulOperands, 'bias' | 'scales'>;

/**
 * cuBLASLt on a device, with a workspace of its own: its products must not run beside each other, so one stream uses it
 * at a time.
 */
export class MatrixProducts extends Resource<LtHandle> {
  readonly #library: CublasLt;
  readonly #workspace: DeviceMemory;
  readonly #described: MatmulDescriptors[] = [];

  /** @throws CudaError DEVICE_UNAVAILABLE, OUT_OF_MEMORY. */
  constructor(device: CudaDevice, library: CublasLt, workspaceBytes = recommendedWorkspaceBytes(device)) {
    const workspace = new DeviceMemory(device, workspaceBytes);
    const create = (_driver: CudaDriver, place: HandlePlace) => {
      try {
        return library.create(place);
      } catch (error) {
        workspace[Symbol.dispose]();
        throw error;
      }
    };
    super(device, 'matrix products', create, 0, library.handleCalls);
    this.#library = library;
    this.#workspace = workspace;
  }

  /**
   * At most `count` ways to compute a problem, the one thought fastest first; none when the library knows none. `ends`: the bias that
   * its epilogue adds, and its scales.
   */
  plans(
    problem: MatmulProblem,
    alignment: MatmulAlignment,
    count: number,
    ends: MatmulEnds = {},
  ): MatmulPlan[] {
    this.device.enter();
    const { handle } = this;
    const descriptors = this.#describe(problem, ends);
    return this.#library
      .algorithms(handle, descriptors, alignment, this.#workspace.bytes, count)
      .map((algorithm) => ({ descriptors, algorithm }));
  }

  /** A way to compute a problem that `plans` of a process before found; `run` refuses one that is of no use here. */
  planOf(problem: MatmulProblem, algorithm: MatmulAlgorithm, ends: MatmulEnds = {}): MatmulPlan {
    this.device.enter();
    return { descriptors: this.#describe(problem, ends), algorithm };
  }

  #describe(problem: MatmulProblem, ends: MatmulEnds): MatmulDescriptors {
    const descriptors = this.#library.describe(problem);
    this.#described.push(descriptors);
    this.#setEnds(descriptors, ends);
    return descriptors;
  }

  #setEnds(descriptors: MatmulDescriptors, { bias, scales }: MatmulEnds): void {
    if (bias !== undefined) this.#library.setBias(descriptors, bias);
    if (scales !== undefined) this.#library.setScales(descriptors, scales);
  }

  /**
   * Puts a product into the stream, without allocating or waiting.
   * @throws CudaError; `isRefusal` tells when this algorithm cannot compute the problem after all.
   */
  run(stream: CudaStream, plan: MatmulPlan, operands: MatmulOperands): void {
    this.device.enter();
    const { descriptors, algorithm } = plan;
    const { input, weight, output } = operands;
    this.#setEnds(descriptors, operands);
    this.#library.matmul(this.handle, {
      descriptors,
      input,
      weight,
      output,
      addend: operands.addend ?? output,
      algorithm,
      workspace: this.#workspace.address(),
      workspaceBytes: this.#workspace.bytes,
      stream: stream.handle,
    });
  }

  protected free(_driver: CudaDriver, handle: LtHandle): void {
    for (const descriptors of this.#described.splice(0)) this.#library.release(descriptors);
    this.#library.destroy(handle);
    this.#workspace[Symbol.dispose]();
  }
}
