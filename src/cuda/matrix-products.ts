import type {
  CublasLt,
  MatmulAlgorithm,
  MatmulAlignment,
  MatmulDescriptors,
  MatmulProblem,
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
  readonly bias?: DevicePtr;
}

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
   * At most `count` ways to compute a problem, the one thought fastest first; none when the library knows none. `bias`,
   * where the epilogue adds one: any that is aligned like those to come.
   */
  plans(problem: MatmulProblem, alignment: MatmulAlignment, count: number, bias?: DevicePtr): MatmulPlan[] {
    this.device.enter();
    const { handle } = this;
    const descriptors = this.#describe(problem, bias);
    return this.#library
      .algorithms(handle, descriptors, alignment, this.#workspace.bytes, count)
      .map((algorithm) => ({ descriptors, algorithm }));
  }

  /** A way to compute a problem that `plans` of a process before found; `run` refuses one that is of no use here. */
  planOf(problem: MatmulProblem, algorithm: MatmulAlgorithm, bias?: DevicePtr): MatmulPlan {
    this.device.enter();
    return { descriptors: this.#describe(problem, bias), algorithm };
  }

  #describe(problem: MatmulProblem, bias: DevicePtr | undefined): MatmulDescriptors {
    const descriptors = this.#library.describe(problem);
    this.#described.push(descriptors);
    if (bias !== undefined) this.#library.setBias(descriptors, bias);
    return descriptors;
  }

  /**
   * Puts a product into the stream, without allocating or waiting.
   * @throws CudaError; `isRefusal` tells when this algorithm cannot compute the problem after all.
   */
  run(stream: CudaStream, plan: MatmulPlan, operands: MatmulOperands): void {
    this.device.enter();
    const { descriptors, algorithm } = plan;
    const { input, weight, output, bias } = operands;
    if (bias !== undefined) this.#library.setBias(descriptors, bias);
    this.#library.matmul(this.handle, {
      descriptors,
      input,
      weight,
      output,
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
