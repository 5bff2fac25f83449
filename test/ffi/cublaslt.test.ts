/** The binding of cuBLASLt: numbers and prototypes against the vendor's header, loading, statuses as errors. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { CudaError } from '../../src/errors.ts';
import { CublasLt, isRefusal } from '../../src/ffi/cublaslt.ts';
import {
  LT_ALGORITHM_WORDS,
  LT_COMPUTE,
  LT_EPILOGUE,
  LT_MATMUL_ATTRIBUTE,
  LT_PREFERENCE_ATTRIBUTE,
  LT_RESULT_STATE_WORD,
  LT_RESULT_WORDS,
  LT_RESULT_WORKSPACE_WORD,
  LT_STATUS,
  LT_TRANSPOSED,
  LT_TYPE,
} from '../../src/ffi/cublaslt-symbols.ts';
import type { DevicePtr } from '../../src/ffi/cuda-symbols.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { buildFakeCublasLt, buildFakeDriver, emptyPlaces } from '../fake-driver/fake-driver.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-cublaslt-'));
after(() => rmSync(folder, { recursive: true }));
const fakeDriver = buildFakeDriver();
const fake = buildFakeCublasLt(fakeDriver);

/** The real library, where there is one; without a GPU it still describes products. */
function openReal(): CublasLt | string {
  try {
    return new CublasLt();
  } catch (error) {
    return (error as Error).message;
  }
}
const real = openReal();

/** Folders with the headers of cuBLASLt and what they include, or why there are none. */
function headerFolders(): readonly string[] | string {
  const beside = typeof real === 'string' ? [] : [join(dirname(dirname(real.location.path)), 'include')];
  const roots = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda'];
  const toolkits = roots.flatMap((root) => (root ? [join(root, 'include')] : []));
  const folders = [...beside, ...toolkits].filter((folder) => existsSync(folder));
  const has = (name: string) => folders.some((folder) => existsSync(join(folder, name)));
  if (!has('cublasLt.h')) return 'no cublasLt.h';
  return has('cuda_runtime_api.h') ? folders : 'no cuda_runtime_api.h, which cublasLt.h includes';
}
const folders = headerFolders();
const noHeader = typeof folders === 'string' ? folders : false;
const includes = typeof folders === 'string' ? [] : folders.flatMap((folder) => ['-isystem', folder]);

function compile(args: readonly string[]): void {
  const { status, stderr } = spawnSync('cc', [...includes, ...args], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** Our numbers, by the expression that gives the vendor's. */
const NUMBERS: Readonly<Record<string, number>> = {
  CUDA_R_32F: LT_TYPE.float32,
  CUDA_R_16F: LT_TYPE.float16,
  CUDA_R_16BF: LT_TYPE.bfloat16,
  CUBLAS_COMPUTE_32F: LT_COMPUTE.float32,
  CUBLAS_COMPUTE_32F_FAST_TF32: LT_COMPUTE.tf32,
  CUBLAS_OP_T: LT_TRANSPOSED,
  CUBLASLT_EPILOGUE_DEFAULT: LT_EPILOGUE.none,
  CUBLASLT_EPILOGUE_RELU: LT_EPILOGUE.relu,
  CUBLASLT_EPILOGUE_BIAS: LT_EPILOGUE.bias,
  CUBLASLT_EPILOGUE_RELU_BIAS: LT_EPILOGUE.reluBias,
  CUBLASLT_MATMUL_DESC_TRANSA: LT_MATMUL_ATTRIBUTE.transposeA,
  CUBLASLT_MATMUL_DESC_EPILOGUE: LT_MATMUL_ATTRIBUTE.epilogue,
  CUBLASLT_MATMUL_DESC_FAST_ACCUM: LT_MATMUL_ATTRIBUTE.fastSums,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER: LT_MATMUL_ATTRIBUTE.biasPointer,
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: LT_PREFERENCE_ATTRIBUTE.maxWorkspaceBytes,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: LT_PREFERENCE_ATTRIBUTE.minAlignmentA,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: LT_PREFERENCE_ATTRIBUTE.minAlignmentB,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: LT_PREFERENCE_ATTRIBUTE.minAlignmentC,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: LT_PREFERENCE_ATTRIBUTE.minAlignmentD,
  CUBLAS_STATUS_SUCCESS: LT_STATUS.success,
  CUBLAS_STATUS_NOT_INITIALIZED: LT_STATUS.notInitialized,
  CUBLAS_STATUS_ALLOC_FAILED: LT_STATUS.allocationFailed,
  CUBLAS_STATUS_INVALID_VALUE: LT_STATUS.invalidValue,
  CUBLAS_STATUS_ARCH_MISMATCH: LT_STATUS.archMismatch,
  CUBLAS_STATUS_EXECUTION_FAILED: LT_STATUS.executionFailed,
  CUBLAS_STATUS_NOT_SUPPORTED: LT_STATUS.notSupported,
  'sizeof(cublasLtMatmulAlgo_t)': 8 * LT_ALGORITHM_WORDS,
  'sizeof(cublasLtMatmulHeuristicResult_t)': 8 * LT_RESULT_WORDS,
  'offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)': 8 * LT_RESULT_WORKSPACE_WORD,
  'offsetof(cublasLtMatmulHeuristicResult_t, state)': 4 * LT_RESULT_STATE_WORD,
  'sizeof(cublasStatus_t)': 4,
  'sizeof(cublasLtEpilogue_t)': 4,
};

test("numbers and sizes are the vendor's", { skip: noHeader }, () => {
  const lines = Object.keys(NUMBERS).map((expression) => `  printf("%lld\\n", (long long)(${expression}));`);
  const source = join(folder, 'numbers.c');
  writeFileSync(
    source,
    `#include <cublasLt.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n${lines.join('\n')}\n}\n`,
  );
  const program = join(folder, 'numbers');
  compile([source, '-o', program]);
  const printed = spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n').map(Number);
  Object.entries(NUMBERS).forEach(([expression, number], i) => {
    assert.equal(number, printed[i], expression);
  });
});

test("the fake's prototypes are the vendor's", { skip: noHeader }, () => {
  const source = fileURLToPath(new URL('../fake-driver/fake_cublaslt.c', import.meta.url));
  // Statuses and attributes are plain integers in the fake, as in the binding.
  const flags = ['-std=gnu11', '-Wall', '-Werror', '-Wno-enum-conversion', '-Wno-enum-compare'];
  compile([...flags, '-include', 'cublasLt.h', '-fsyntax-only', source]);
});

const PROBLEM = {
  rows: 4,
  inputs: 8,
  outputs: 16,
  type: 'float16',
  outputType: 'float32',
  compute: 'float32',
  epilogue: 'reluBias',
  inputStride: 8,
  weightStride: 8,
  outputStride: 20,
} as const;

test('the real library describes products', { skip: typeof real === 'string' && real }, () => {
  const library = real as CublasLt;
  assert.match(library.version, /^1[2-9]\.\d+\.\d+$/);
  library.release(library.describe(PROBLEM));
  const tf32 = {
    ...PROBLEM,
    type: 'float32',
    outputType: 'float32',
    compute: 'tf32',
    epilogue: 'none',
  } as const;
  library.release(library.describe(tf32));
  library.release(library.describe({ ...PROBLEM, type: 'float8_e4m3', outputType: 'float16' }));
});

test('opens, and says which version', () => {
  const library = new CublasLt({ path: fake.path });
  assert.equal(library.version, '13.1.1');
  assert.equal(library.location.path, fake.path);
});

test('no library, or one that lacks functions', () => {
  assert.throws(() => new CublasLt({ places: emptyPlaces() }), {
    code: 'CUDA_LIBRARY_MISSING',
    hint: /pip install nvidia-cublas/,
  });
  const lacking = buildFakeCublasLt(fakeDriver, ['FAKE_WITHOUT_HEURISTIC']);
  assert.throws(() => new CublasLt({ path: lacking.path }), {
    code: 'NATIVE_LIBRARY_INCOMPATIBLE',
    message: /lacks cublasLtMatmulAlgoGetHeuristic$/,
  });
});

test('a failing call: its name, its status, what to do; nothing is left behind', () => {
  const library = new CublasLt({ path: fake.path });
  const failing = (call: string, status: number, work: () => unknown): CudaError => {
    fake.fail(call, 1, status);
    try {
      work();
    } catch (error) {
      return error as CudaError;
    }
    assert.fail(`${call} did not fail`);
  };
  const uninitialised = failing('cublasLtCreate', 1, () => library.create());
  assert.equal(uninitialised.message, 'cublasLtCreate failed: CUBLAS_STATUS_NOT_INITIALIZED (1)');
  assert.equal(uninitialised.code, 'DEVICE_UNAVAILABLE');
  assert.match(uninitialised.hint, /nvidia-smi/);
  for (const call of ['cublasLtMatmulDescSetAttribute', 'cublasLtMatrixLayoutCreate']) {
    for (const [status, refused] of [
      [3, false],
      [7, true],
      [14, false],
      [15, true],
      [77, false],
    ] as const) {
      const error = failing(call, status, () => library.describe(PROBLEM));
      assert.equal(error.call, call);
      assert.equal(isRefusal(error), refused, error.message);
      assert.equal(fake.live(), 0, call);
    }
  }
  assert.throws(() => library.describe({ ...PROBLEM, inputStride: 7 }), {
    status: 'CUBLAS_STATUS_INVALID_VALUE',
  });
  assert.equal(fake.live(), 0);
});

test('algorithms: as many as asked for, without those that the search gives up on', () => {
  const library = new CublasLt({ path: fake.path });
  const handle = library.create();
  const descriptors = library.describe(PROBLEM);
  const bias = new Float32Array(new ArrayBuffer(4 * PROBLEM.outputs));
  library.setBias(descriptors, addressOf(bias) as bigint as DevicePtr);
  const alignment = { input: 16, weight: 8, output: 4 };
  const search = (workspaceBytes: number, count: number) =>
    library.algorithms(handle, descriptors, alignment, workspaceBytes, count);
  fake.setAlgorithms(5);
  assert.equal(search(1 << 20, 3).length, 3);
  const all = search(1 << 20, 10);
  assert.deepEqual(
    all.map(({ words, workspaceBytes }) => [...words.slice(0, 5), workspaceBytes]),
    [1n, 2n, 3n, 4n].map((number) => [number, 8n, 16n, 4n, 4n, 4096]),
  );
  assert.deepEqual(search(100, 3), [], 'no algorithm does with so little workspace');
  fake.fail('cublasLtMatmulPreferenceSetAttribute', 2, 7);
  assert.throws(() => search(1 << 20, 3), { call: 'cublasLtMatmulPreferenceSetAttribute' });
  library.release(descriptors);
  library.destroy(handle);
  assert.equal(fake.live(), 0);
  assert.throws(() => library.destroy(handle), { call: 'cublasLtDestroy', code: 'CUDA_FAILED' });
});
