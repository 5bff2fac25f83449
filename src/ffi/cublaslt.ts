/**
 * Typed binding of cuBLASLt, the matrix products of CUDA. Statuses end here: a failing call throws a CudaError.
 *
 * The library is column-major. A row-major product Y [B, N] = X [B, K] · Wᵀ, W [N, K], is asked for as its transpose,
 * D [N, B] = Aᵀ · B, with A = W and B = X as they lie: both [K, …] column-major, leading dimensions their row strides.
 */
import koffi from 'koffi';
import { CudaError, type DeviceErrorCode } from '../errors.ts';
import {
  bindCublasLt,
  LT_ALGORITHM_WORDS,
  LT_COMPUTE,
  LT_EPILOGUE,
  LT_MATMUL_ATTRIBUTE,
  LT_PREFERENCE_ATTRIBUTE,
  LT_REDUCTION_IN_COMPUTE_TYPE,
  LT_RESULT_STATE_WORD,
  LT_RESULT_WORDS,
  LT_RESULT_WORKSPACE_WORD,
  LT_SCALE_OUTER_VECTORS,
  LT_STATUS,
  LT_TRANSPOSED,
  LT_TYPE,
  type LtCall,
  type LtFunctions,
  type LtHandle,
  type LtLayout,
  type LtMatmul,
  type LtPreference,
} from './cublaslt-symbols.ts';
import type { DevicePtr, StreamHandle } from './cuda-symbols.ts';
import { type LibraryLocation, type OpenLibraryOptions, openLibrary } from './find-libraries.ts';
import { addressOf } from './host-memory.ts';
import {
  functionAddress,
  type HandleCalls,
  type HandlePlace,
  OwnedHandle,
  ownWhile,
  placeIn,
} from './owned-handles.ts';

/** What is done to the sums before they are stored; a bias is of the output's type, of an output of float8_e4m3 float16. */
export type MatmulEpilogue = keyof typeof LT_EPILOGUE;

/**
 * Y [rows, outputs] = epilogue(X [rows, inputs] · Wᵀ), W [outputs, inputs]; X and W of one type, sums float32: of float8_e4m3 fast
 * ones, of which tensor cores before sm_100 keep 14 bits. `scales`: sums of float8_e4m3 by scales of X and of W, for each row of them
 * (vectors) or all of them (scalars). Y may be float8_e4m3 where X and W are: multiplied by a scale of its own at the end.
 */
export interface MatmulProblem {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Of X and W. */
  readonly type: keyof typeof LT_TYPE;
  /** Of Y: float32, or the factors'; of float8_e4m3 also float16. */
  readonly outputType: keyof typeof LT_TYPE;
  readonly scales?: 'vectors' | 'scalars' | undefined;
  /** tf32: float32 factors are rounded on the way into tensor cores. */
  readonly compute: keyof typeof LT_COMPUTE;
  readonly epilogue: MatmulEpilogue;
  /** Elements between rows. */
  readonly inputStride: number;
  readonly weightStride: number;
  readonly outputStride: number;
}

/** Device addresses of the scales of a problem with some: float32 [rows] of X, [outputs] of W; scalars: the first of each. */
export interface MatmulScales {
  readonly input: DevicePtr;
  readonly weight: DevicePtr;
  /** What Y in 8 bits is multiplied by. */
  readonly output?: DevicePtr;
}

/** Bytes that addresses are multiples of; powers of two. */
export interface MatmulAlignment {
  readonly input: number;
  readonly weight: number;
  readonly output: number;
}

/** One way to compute a problem; it is valid for this library and kind of device. */
export interface MatmulAlgorithm {
  /** An opaque cublasLtMatmulAlgo_t. */
  readonly words: BigUint64Array;
  readonly workspaceBytes: number;
}

/** The descriptors of a problem. Host memory of the library, until `release`. */
export interface MatmulDescriptors {
  readonly matmul: LtMatmul;
  readonly input: LtLayout;
  readonly weight: LtLayout;
  readonly output: LtLayout;
  /** What is multiplied by β, and so not read: the output, or of one in 8 bits, where that is not allowed, float16 [rows, outputs]. */
  readonly addend: LtLayout;
  readonly outputType: keyof typeof LT_TYPE;
}

export interface MatmulCall {
  readonly descriptors: MatmulDescriptors;
  readonly input: DevicePtr;
  readonly weight: DevicePtr;
  readonly output: DevicePtr;
  readonly addend: DevicePtr;
  readonly algorithm: MatmulAlgorithm;
  readonly workspace: DevicePtr;
  readonly workspaceBytes: number;
  readonly stream: StreamHandle;
}

const STATUSES: Readonly<Record<number, { readonly code: DeviceErrorCode; readonly hint: string }>> = {
  [LT_STATUS.notInitialized]: {
    code: 'DEVICE_UNAVAILABLE',
    hint: 'cuBLASLt found no device that it knows: check nvidia-smi, or install a cuBLASLt for this GPU and driver',
  },
  [LT_STATUS.allocationFailed]: {
    code: 'OUT_OF_MEMORY',
    hint: 'use a smaller batch, or end other programs on this GPU (nvidia-smi lists them)',
  },
  [LT_STATUS.archMismatch]: {
    code: 'NATIVE_LIBRARY_INCOMPATIBLE',
    hint: 'this GPU cannot multiply so: use float32 for the dense part',
  },
  [LT_STATUS.executionFailed]: {
    code: 'KERNEL_FAILED',
    hint: 'the product could not be launched; when an earlier kernel lost the context, start the process again',
  },
};

/** Whether an algorithm was refused for a problem, which is no fault of the device. */
export function isRefusal(error: unknown): boolean {
  return error instanceof CudaError && REFUSALS.has(error.status);
}

const REFUSALS = new Set(['CUBLAS_STATUS_INVALID_VALUE', 'CUBLAS_STATUS_NOT_SUPPORTED']);

export class CublasLt {
  readonly location: LibraryLocation;
  /** `13.1.1`. */
  readonly version: string;
  /** How what `create` gives is given back when this thread ends. */
  readonly handleCalls: HandleCalls;
  readonly #functions: LtFunctions;
  readonly #layoutCalls: HandleCalls;
  readonly #matmulCalls: HandleCalls;
  /** Of descriptors that are not released. */
  readonly #owned = new Map<bigint, OwnedHandle>();
  readonly #out = new BigUint64Array(new ArrayBuffer(16));
  readonly #outInt = new Int32Array(this.#out.buffer);
  readonly #o = addressOf(this.#out);
  /** α = 1 and β = 0. */
  readonly #scalars = new Float32Array(new ArrayBuffer(8));
  readonly #alpha = addressOf(this.#scalars);

  /**
   * `majorVersion`: the driver's.
   * @throws DeviceError CUDA_LIBRARY_MISSING, NATIVE_LIBRARY_INCOMPATIBLE.
   */
  constructor(options: OpenLibraryOptions = {}) {
    const { library, location } = openLibrary('cublasLt', options);
    this.location = location;
    this.#functions = bindCublasLt(library, location.path);
    const givenBackBy = (name: LtCall): HandleCalls => ({ giveBack: functionAddress(library, name) });
    this.handleCalls = givenBackBy('cublasLtDestroy');
    this.#layoutCalls = givenBackBy('cublasLtMatrixLayoutDestroy');
    this.#matmulCalls = givenBackBy('cublasLtMatmulDescDestroy');
    this.#scalars.set([1, 0]);
    this.version = versionOf(Number(this.#functions.version()));
  }

  /** For the device whose context is current. @throws CudaError DEVICE_UNAVAILABLE, OUT_OF_MEMORY. */
  create(place: HandlePlace = placeIn(this.#out, this.#o)): LtHandle {
    this.#call('cublasLtCreate', place.address);
    return place.handle as LtHandle;
  }

  destroy(handle: LtHandle): void {
    this.#call('cublasLtDestroy', handle);
  }

  /** `release` the result. */
  describe(problem: MatmulProblem): MatmulDescriptors {
    const { rows, inputs, outputs, type, outputType, compute, epilogue, scales } = problem;
    const matmul = this.#own(this.#matmulCalls, (place) =>
      this.#call('cublasLtMatmulDescCreate', place.address, LT_COMPUTE[compute], LT_TYPE.float32),
    ) as LtMatmul;
    const descriptors = { matmul, input: 0n, weight: 0n, output: 0n, addend: 0n, outputType };
    try {
      this.#setInt(descriptors.matmul, LT_MATMUL_ATTRIBUTE.transposeA, LT_TRANSPOSED);
      this.#setInt(descriptors.matmul, LT_MATMUL_ATTRIBUTE.epilogue, LT_EPILOGUE[epilogue]);
      if (type === 'float8_e4m3') this.#setByte(descriptors.matmul, LT_MATMUL_ATTRIBUTE.fastSums, 1);
      if (scales === 'vectors') {
        this.#setInt(descriptors.matmul, LT_MATMUL_ATTRIBUTE.scaleModeA, LT_SCALE_OUTER_VECTORS);
        this.#setInt(descriptors.matmul, LT_MATMUL_ATTRIBUTE.scaleModeB, LT_SCALE_OUTER_VECTORS);
      }
      if (outputType === 'float8_e4m3')
        this.#setInt(descriptors.matmul, LT_MATMUL_ATTRIBUTE.biasType, LT_TYPE.float16);
      descriptors.weight = this.#layout(LT_TYPE[type], inputs, outputs, problem.weightStride);
      descriptors.input = this.#layout(LT_TYPE[type], inputs, rows, problem.inputStride);
      descriptors.output = this.#layout(LT_TYPE[outputType], outputs, rows, problem.outputStride);
      descriptors.addend =
        outputType === 'float8_e4m3'
          ? this.#layout(LT_TYPE.float16, outputs, rows, outputs)
          : descriptors.output;
    } catch (error) {
      this.release(descriptors as MatmulDescriptors);
      throw error;
    }
    return descriptors as MatmulDescriptors;
  }

  release({ matmul, input, weight, output, addend }: MatmulDescriptors): void {
    for (const layout of new Set([input, weight, output, addend])) {
      if (layout === 0n) continue;
      this.#disown(layout);
      this.#call('cublasLtMatrixLayoutDestroy', layout);
    }
    this.#disown(matmul);
    this.#call('cublasLtMatmulDescDestroy', matmul);
  }

  /** A descriptor, which `make` writes to its place. */
  #own(calls: HandleCalls, make: (place: HandlePlace) => void): bigint {
    const owned = new OwnedHandle(calls);
    ownWhile(owned, make);
    const descriptor = owned.handle;
    this.#owned.set(descriptor, owned);
    return descriptor;
  }

  #disown(descriptor: bigint): void {
    this.#owned.get(descriptor)?.[Symbol.dispose]();
    this.#owned.delete(descriptor);
  }

  /** For the products that follow with these descriptors; [outputs], of the output's type. */
  setBias({ matmul }: MatmulDescriptors, bias: DevicePtr): void {
    this.#setPointer(matmul, LT_MATMUL_ATTRIBUTE.biasPointer, bias);
  }

  /** Of a problem with scales, for the products that follow. */
  setScales({ matmul }: MatmulDescriptors, { input, weight, output }: MatmulScales): void {
    this.#setPointer(matmul, LT_MATMUL_ATTRIBUTE.scalePointerA, weight);
    this.#setPointer(matmul, LT_MATMUL_ATTRIBUTE.scalePointerB, input);
    if (output !== undefined) this.#setPointer(matmul, LT_MATMUL_ATTRIBUTE.scalePointerD, output);
  }

  #setPointer(matmul: LtMatmul, attribute: number, address: DevicePtr): void {
    this.#out[1] = address;
    this.#call('cublasLtMatmulDescSetAttribute', matmul, attribute, this.#o + 8n, 8);
  }

  /** At most `count` algorithms, the one thought fastest first; none when the library has none for the problem. */
  algorithms(
    handle: LtHandle,
    descriptors: MatmulDescriptors,
    alignment: MatmulAlignment,
    workspaceBytes: number,
    count: number,
  ): MatmulAlgorithm[] {
    // The library refuses to look for none.
    if (count === 0) return [];
    const preference = this.#preference(descriptors, alignment, workspaceBytes);
    const results = new BigUint64Array(new ArrayBuffer(8 * LT_RESULT_WORDS * count));
    const { matmul, weight, input, output, addend } = descriptors;
    try {
      this.#outInt[0] = 0;
      const status = this.#functions.call.cublasLtMatmulAlgoGetHeuristic(
        ...[handle, matmul, weight, input, addend, output, preference, count, results, this.#o],
      );
      if (status === LT_STATUS.notSupported) return [];
      this.#check('cublasLtMatmulAlgoGetHeuristic', status);
      return readAlgorithms(results, this.#outInt[0] as number);
    } finally {
      this.#call('cublasLtMatmulPreferenceDestroy', preference);
    }
  }

  /** Puts a product into the stream. @throws CudaError; `isRefusal` when the algorithm does not do the problem. */
  matmul(handle: LtHandle, call: MatmulCall): void {
    const { descriptors, input, weight, output, addend, algorithm, workspace, workspaceBytes, stream } = call;
    this.#call(
      'cublasLtMatmul',
      ...[handle, descriptors.matmul, this.#alpha],
      ...[weight, descriptors.weight, input, descriptors.input],
      ...[this.#alpha + 4n, addend, descriptors.addend, output, descriptors.output],
      ...[algorithm.words, workspace, workspaceBytes, stream],
    );
  }

  #setInt(matmul: LtMatmul, attribute: number, value: number): void {
    this.#outInt[2] = value;
    this.#call('cublasLtMatmulDescSetAttribute', matmul, attribute, this.#o + 8n, 4);
  }

  /** Of one byte, the first of a little-endian number. */
  #setByte(matmul: LtMatmul, attribute: number, value: number): void {
    this.#outInt[2] = value;
    this.#call('cublasLtMatmulDescSetAttribute', matmul, attribute, this.#o + 8n, 1);
  }

  #layout(type: number, rows: number, columns: number, leadingDimension: number): LtLayout {
    return this.#own(this.#layoutCalls, (place) =>
      this.#call('cublasLtMatrixLayoutCreate', place.address, type, rows, columns, leadingDimension),
    ) as LtLayout;
  }

  #preference(
    { outputType }: MatmulDescriptors,
    { input, weight, output }: MatmulAlignment,
    workspaceBytes: number,
  ): LtPreference {
    this.#call('cublasLtMatmulPreferenceCreate', this.#o);
    const preference = this.#out[0] as LtPreference;
    const set = (attribute: number, value: number, bytes: number) => {
      this.#out[1] = BigInt(value);
      this.#call('cublasLtMatmulPreferenceSetAttribute', preference, attribute, this.#o + 8n, bytes);
    };
    const {
      maxWorkspaceBytes,
      reductionSchemes,
      minAlignmentA,
      minAlignmentB,
      minAlignmentC,
      minAlignmentD,
    } = LT_PREFERENCE_ATTRIBUTE;
    try {
      set(maxWorkspaceBytes, workspaceBytes, 8);
      // Parts of sums would be rounded to 16 bits else, where products are split along their inputs.
      if (outputType !== 'float32') set(reductionSchemes, LT_REDUCTION_IN_COMPUTE_TYPE, 4);
      set(minAlignmentA, weight, 4);
      set(minAlignmentB, input, 4);
      set(minAlignmentC, output, 4);
      set(minAlignmentD, output, 4);
    } catch (error) {
      this.#call('cublasLtMatmulPreferenceDestroy', preference);
      throw error;
    }
    return preference;
  }

  #call(name: LtCall, ...args: readonly (number | bigint | ArrayBufferView)[]): void {
    this.#check(name, this.#functions.call[name](...args));
  }

  #check(call: LtCall, status: number): void {
    if (status === LT_STATUS.success) return;
    const name = koffi.decode.string(BigInt(this.#functions.statusName(status)));
    const { code, hint } = STATUSES[status] ?? { code: 'CUDA_FAILED' as const };
    throw new CudaError(
      code,
      `${call} failed: ${name} (${status})`,
      { call, status: name, contextLost: false },
      hint === undefined ? {} : { hint },
    );
  }
}

/** The algorithms of an array of cublasLtMatmulHeuristicResult_t. */
function readAlgorithms(results: BigUint64Array, found: number): MatmulAlgorithm[] {
  const states = new Int32Array(results.buffer);
  return Array.from({ length: found }, (_, i) => i * LT_RESULT_WORDS)
    .filter((start) => states[2 * start + LT_RESULT_STATE_WORD] === LT_STATUS.success)
    .map((start) => ({
      words: results.slice(start, start + LT_ALGORITHM_WORDS),
      workspaceBytes: Number(results[start + LT_RESULT_WORKSPACE_WORD]),
    }));
}

/** 130101 → `13.1.1`. */
function versionOf(number: number): string {
  return `${Math.floor(number / 10000)}.${Math.floor(number / 100) % 100}.${number % 100}`;
}
