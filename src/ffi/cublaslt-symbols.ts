/** cuBLASLt's functions and numbers, as its header (cublasLt.h of CUDA 12 and 13) has them on 64-bit systems. */
import type { LibraryHandle } from 'koffi';
import { DeviceError } from '../errors.ts';

/** An instance of the library on the device whose context was current when it was made. */
export type LtHandle = bigint & { readonly __brand: 'LtHandle' };
/** What a matrix product computes beside the shapes. */
export type LtMatmul = bigint & { readonly __brand: 'LtMatmul' };
/** How a matrix lies in memory. */
export type LtLayout = bigint & { readonly __brand: 'LtLayout' };
/** What a search for algorithms may propose. */
export type LtPreference = bigint & { readonly __brand: 'LtPreference' };

/** cudaDataType. */
export const LT_TYPE = { float32: 0, float16: 2, bfloat16: 14, float8_e4m3: 28 } as const;
/** cublasComputeType_t. */
export const LT_COMPUTE = { float32: 68, tf32: 77 } as const;
/** cublasOperation_t. */
export const LT_TRANSPOSED = 1;
/** cublasLtEpilogue_t. */
export const LT_EPILOGUE = { none: 1, relu: 2, bias: 4, reluBias: 6 } as const;
/** cublasLtMatmulDescAttributes_t. */
export const LT_MATMUL_ATTRIBUTE = {
  transposeA: 3,
  epilogue: 7,
  biasPointer: 8,
  scalePointerA: 17,
  scalePointerB: 18,
  scalePointerD: 20,
  /** int8. Tensor cores' sums of 8-bit factors are added up where they are, with fewer bits than float32. */
  fastSums: 25,
  /** Of a bias; else it is the output's. */
  biasType: 26,
  scaleModeA: 31,
  scaleModeB: 32,
} as const;
/** cublasLtMatmulMatrixScale_t: a float32 for each row of A, and for each column of B; of sm_90 and cuBLASLt 12.9 on. */
export const LT_SCALE_OUTER_VECTORS = 3;
/** cublasLtMatmulPreferenceAttributes_t. */
export const LT_PREFERENCE_ATTRIBUTE = {
  maxWorkspaceBytes: 1,
  reductionSchemes: 3,
  minAlignmentA: 5,
  minAlignmentB: 6,
  minAlignmentC: 7,
  minAlignmentD: 8,
} as const;
/** cublasLtReductionScheme_t: parts of sums are added up in the compute type, in the workspace. */
export const LT_REDUCTION_IN_COMPUTE_TYPE = 2;
/** cublasStatus_t. */
export const LT_STATUS = {
  success: 0,
  notInitialized: 1,
  allocationFailed: 3,
  invalidValue: 7,
  archMismatch: 8,
  mappingError: 11,
  executionFailed: 13,
  internalError: 14,
  notSupported: 15,
  licenseError: 16,
} as const;

/** 64-bit words of cublasLtMatmulAlgo_t. */
export const LT_ALGORITHM_WORDS = 8;
/** cublasLtMatmulHeuristicResult_t: the algorithm, then size_t workspaceSize and cublasStatus_t state. */
export const LT_RESULT_WORDS = 12;
export const LT_RESULT_WORKSPACE_WORD = 8;
/** 32-bit. */
export const LT_RESULT_STATE_WORD = 18;

const PARAMETERS = {
  cublasLtCreate: 'uintptr_t out',
  cublasLtDestroy: 'uintptr_t handle',
  cublasLtMatmulDescCreate: 'uintptr_t out, int compute, int scale_type',
  cublasLtMatmulDescDestroy: 'uintptr_t matmul',
  cublasLtMatmulDescSetAttribute: 'uintptr_t matmul, int attribute, uintptr_t value, size_t bytes',
  cublasLtMatrixLayoutCreate:
    'uintptr_t out, int type, uint64_t rows, uint64_t columns, int64_t leading_dimension',
  cublasLtMatrixLayoutDestroy: 'uintptr_t layout',
  cublasLtMatmulPreferenceCreate: 'uintptr_t out',
  cublasLtMatmulPreferenceDestroy: 'uintptr_t preference',
  cublasLtMatmulPreferenceSetAttribute: 'uintptr_t preference, int attribute, uintptr_t value, size_t bytes',
  cublasLtMatmulAlgoGetHeuristic:
    'uintptr_t handle, uintptr_t matmul, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t preference, int count, void *results, uintptr_t found',
  cublasLtMatmul:
    'uintptr_t handle, uintptr_t matmul, uintptr_t alpha, uintptr_t a, uintptr_t a_layout, uintptr_t b, uintptr_t b_layout, uintptr_t beta, uintptr_t c, uintptr_t c_layout, uintptr_t d, uintptr_t d_layout, void *algorithm, uintptr_t workspace, size_t workspace_bytes, uintptr_t stream',
} as const;

export type LtCall = keyof typeof PARAMETERS;
/** A native function; its result is a cublasStatus_t. */
type NativeCall = (...args: readonly (number | bigint | ArrayBufferView)[]) => number;

export interface LtFunctions {
  readonly call: Readonly<Record<LtCall, NativeCall>>;
  /** The address of a status's name. */
  readonly statusName: (status: number) => bigint;
  readonly version: () => bigint;
}

/** @throws DeviceError NATIVE_LIBRARY_INCOMPATIBLE, which names what the library lacks. */
export function bindCublasLt(library: LibraryHandle, path: string): LtFunctions {
  const missing: string[] = [];
  const bind = <F>(name: string, prototype: string): F => {
    try {
      return library.func(prototype) as F;
    } catch {
      missing.push(name);
      return undefined as never;
    }
  };
  const calls = Object.entries(PARAMETERS).map(([name, parameters]) => [
    name,
    bind<NativeCall>(name, `int ${name}(${parameters})`),
  ]);
  const statusName = bind<(status: number) => bigint>(
    'cublasLtGetStatusName',
    'uintptr_t cublasLtGetStatusName(int status)',
  );
  const version = bind<() => bigint>('cublasLtGetVersion', 'size_t cublasLtGetVersion(void)');
  if (missing.length > 0) {
    throw new DeviceError('NATIVE_LIBRARY_INCOMPATIBLE', `${path} lacks ${missing.join(', ')}`, {
      hint: 'Hotrow needs cuBLASLt 12 or newer: pip install nvidia-cublas',
    });
  }
  return { call: Object.fromEntries(calls) as Record<LtCall, NativeCall>, statusName, version };
}
