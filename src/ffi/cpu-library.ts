/**
 * Typed bindings of the CPU kernels' C ABI (kernels/cpu/hotrow_cpu.h). Status codes end here: wrappers return values
 * or throw.
 */
import { existsSync } from 'node:fs';
import { availableParallelism, platform } from 'node:os';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';
import { DeviceError, FormatError, fileError } from '../errors.ts';

/** An address in this process. */
export type HostPtr = bigint & { readonly __brand: 'HostPtr' };
/** A thread pool of the CPU library. */
export type ThreadPool = bigint & { readonly __brand: 'ThreadPool' };

export const NULL_PTR = 0n as HostPtr;

/** Numbers of the C header's enums. */
export const ISA = { portable: 0, avx2: 1, avx512: 2 } as const;
export type Isa = keyof typeof ISA;
export const ROW_FORMAT = { float32: 0, float16: 1, bfloat16: 2, int8: 3, int4: 4, float8_e4m3: 5 } as const;
export const POOLING = { sum: 0, mean: 1, max: 2 } as const;
export const ACTIVATION = { none: 0, relu: 1, sigmoid: 2 } as const;
export const PREFETCH_LEVEL = { L1: 1, L2: 2, L3: 3, NTA: 4 } as const;
export const OPERATOR = { checkBags: 1, embeddingBags: 2, linear: 3, dotInteraction: 4, copy: 5 } as const;
/** 64-bit words of an operator, a table and a batch of bags. */
export const OPERATOR_WORDS = 24;
export const TABLE_WORDS = 8;
export const BAGS_WORDS = 8;
export const CHECK_REPORT_WORDS = 7;

const ABI_VERSION = 5;
/** `hr_run` statuses. */
const RUN_DONE = 0;
const RUN_STOPPED = 1;
const RUN_NO_MEMORY = -2;

function libraryPath(): string {
  const name = platform() === 'darwin' ? 'libhotrow_cpu.dylib' : 'libhotrow_cpu.so';
  return fileURLToPath(new URL(`../../dist/native/${name}`, import.meta.url));
}

function load() {
  const path = libraryPath();
  if (!existsSync(path)) {
    throw new DeviceError('NATIVE_LIBRARY_MISSING', `the CPU kernels are not built: no ${path}`, {
      hint: 'run `npm run build`; it needs a C compiler (Debian, Ubuntu: apt-get install gcc libc6-dev)',
    });
  }
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(path);
  } catch (cause) {
    throw new DeviceError('NATIVE_LIBRARY_INCOMPATIBLE', `cannot load ${path}: ${(cause as Error).message}`, {
      cause,
      hint: 'run `npm run build` on this machine',
    });
  }
  const functions = {
    abiVersion: library.func('int64_t hr_abi_version(void)'),
    bestIsa: library.func('int64_t hr_best_isa(void)'),
    poolCreate: library.func('uintptr_t hr_pool_create(int64_t threads, int64_t isa)'),
    poolDestroy: library.func('void hr_pool_destroy(uintptr_t pool)'),
    run: library.func('int64_t hr_run(uintptr_t pool, void *operators, int64_t count, void *seconds)'),
    packedLinearBytes: library.func(
      'int64_t hr_packed_linear_bytes(uintptr_t pool, int64_t outputs, int64_t inputs)',
    ),
    packLinear: library.func(
      'int64_t hr_pack_linear(uintptr_t pool, void *weight, int64_t outputs, int64_t inputs, uintptr_t packed)',
    ),
    alloc: library.func('uintptr_t hr_alloc(int64_t bytes, int64_t huge)'),
    free: library.func('void hr_free(uintptr_t memory, int64_t bytes)'),
    hugeBytes: library.func('int64_t hr_huge_bytes(uintptr_t memory, int64_t bytes)'),
    mapFile: library.func('uintptr_t hr_map_file(const char *path, void *bytes, void *error)'),
    unmapFile: library.func('void hr_unmap_file(uintptr_t memory, int64_t bytes)'),
    readFile: library.func(
      'int64_t hr_read_file(const char *path, int64_t offset, int64_t bytes, uintptr_t target)',
    ),
    copyAll: library.func('int64_t hr_copy_all(uintptr_t pool, void *copies, int64_t count)'),
    fillUniform: library.func(
      'int64_t hr_fill_uniform(uintptr_t pool, uintptr_t target, int64_t row_format, int64_t count, int64_t seed)',
    ),
    fillQuantized: library.func(
      'int64_t hr_fill_quantized(uintptr_t pool, uintptr_t target, int64_t row_format, int64_t rows, int64_t dim, int64_t row_stride_bytes, int64_t seed)',
    ),
    waitInContext: library.func(
      'int64_t hr_wait_in_context(uintptr_t set_current, uintptr_t context, uintptr_t wait, uintptr_t handle)',
    ),
    measureFmaRate: library.func('double hr_measure_fma_rate(uintptr_t pool, double seconds)'),
    measureReadRate: library.func(
      'double hr_measure_read_rate(uintptr_t pool, uintptr_t memory, int64_t bytes)',
    ),
  };
  const version = Number(functions.abiVersion());
  if (version !== ABI_VERSION) {
    throw new DeviceError(
      'NATIVE_LIBRARY_INCOMPATIBLE',
      `${path} has ABI version ${version}, this Hotrow needs ${ABI_VERSION}`,
      {
        hint: 'run `npm run build`',
      },
    );
  }
  return functions;
}

let loaded: ReturnType<typeof load> | undefined;
const library = () => {
  loaded ??= load();
  return loaded;
};

interface NativeFunction {
  async(...args: unknown[]): void;
}

/** Calls in the background at a time: koffi refuses more than 64 of a process. */
const MOST_BACKGROUND_CALLS = 48;
let backgroundCalls = 0;
const waitingCalls: (() => void)[] = [];

/** What native calls under way read and write: an address keeps nothing from the collector. */
const underWay = new Set<object>();

/** Runs a native call on one of libuv's threads, and keeps its arguments alive until it returns. */
async function inBackground<T>(native: NativeFunction, ...args: unknown[]): Promise<T> {
  underWay.add(args);
  if (backgroundCalls >= MOST_BACKGROUND_CALLS) await new Promise<void>((turn) => waitingCalls.push(turn));
  else backgroundCalls += 1;
  try {
    return await new Promise((resolve, reject) => {
      native.async(...args, (error: unknown, result: T) => (error ? reject(error) : resolve(result)));
    });
  } finally {
    underWay.delete(args);
    const next = waitingCalls.shift();
    if (next === undefined) backgroundCalls -= 1;
    else next();
  }
}

/** The address of a typed array's first element. The caller keeps the array alive while the address is in use. */
export function addressOf(array: ArrayBufferView): HostPtr {
  // Reading .buffer moves a small array off the JavaScript heap, where the collector could move it.
  if (array.buffer.byteLength === 0) return NULL_PTR;
  return koffi.address(array) as HostPtr;
}

/** `length` bytes of native memory, length ≤ 1 GiB. Not to be used after the memory is freed. */
export function viewMemory(address: HostPtr, length: number): ArrayBuffer {
  return koffi.view(address, length);
}

/** The best instruction set of this processor. */
export function bestIsa(): Isa {
  const code = Number(library().bestIsa());
  return code === ISA.avx512 ? 'avx512' : code === ISA.avx2 ? 'avx2' : 'portable';
}

/** @throws DeviceError OUT_OF_MEMORY when threads or memory are not to be had, DEVICE_UNAVAILABLE for an absent isa. */
export function createPool(threads: number, isa: Isa): ThreadPool {
  if (ISA[isa] > ISA[bestIsa()]) {
    throw new DeviceError('DEVICE_UNAVAILABLE', `this processor lacks ${isa}; its best is ${bestIsa()}`);
  }
  const pool = BigInt(library().poolCreate(threads, ISA[isa]));
  if (pool === 0n) throw new DeviceError('OUT_OF_MEMORY', `cannot start ${threads} threads`);
  return pool as ThreadPool;
}

export function destroyPool(pool: ThreadPool): void {
  library().poolDestroy(pool);
}

/**
 * Executes encoded operators; `false` when an embedding operator found bad bags and stopped the list.
 * `inline`: on this thread, for lists of some tens of microseconds; else on one of libuv's.
 * @throws DeviceError KERNEL_FAILED, OUT_OF_MEMORY.
 */
export async function runOperators(
  pool: ThreadPool,
  operators: BigInt64Array,
  seconds: Float64Array,
  inline: boolean,
): Promise<boolean> {
  const { run } = library();
  const count = operators.length / OPERATOR_WORDS;
  const status = Number(
    inline
      ? run(pool, operators, count, seconds)
      : await inBackground<number>(run, pool, operators, count, seconds),
  );
  if (status === RUN_STOPPED) return false;
  checkRun(status);
  return true;
}

function checkRun(status: number): void {
  if (status === RUN_DONE) return;
  if (status === RUN_NO_MEMORY) throw new DeviceError('OUT_OF_MEMORY', 'the CPU kernels ran out of memory');
  throw new DeviceError('KERNEL_FAILED', `the CPU library refused an operator (status ${status})`);
}

/** Anonymous memory that is given back when disposed. */
export class NativeMemory implements Disposable {
  readonly #address: HostPtr;
  readonly bytes: number;
  #live = true;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(bytes: number, hugePages = false) {
    this.bytes = Math.max(bytes, 1);
    this.#address = BigInt(library().alloc(this.bytes, hugePages ? 1 : 0)) as HostPtr;
    if (this.#address === 0n) {
      throw new DeviceError('OUT_OF_MEMORY', `cannot allocate ${this.bytes} bytes`, {
        hint: 'close other programs, use a smaller batch, or switch hugePages off in the plan so that tables stay mapped',
      });
    }
  }

  get address(): HostPtr {
    if (!this.#live) throw new DeviceError('DISPOSED', 'memory was used after it was disposed');
    return this.#address;
  }

  /** Bytes [offset, offset + length), length ≤ 1 GiB. Not to be used after disposal. */
  view(offset: number, length: number): Uint8Array {
    return new Uint8Array(viewMemory((this.address + BigInt(offset)) as HostPtr, length));
  }

  /** Copies a host array to byte `offset`. */
  write(source: ArrayBufferView, offset = 0): void {
    const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    const window = 1 << 30;
    for (let done = 0; done < bytes.length; done += window) {
      const part = bytes.subarray(done, done + window);
      this.view(offset + done, part.length).set(part);
    }
  }

  /** Reads bytes of a file into byte `offset`. @throws FormatError FILE_TRUNCATED; UsageError FILE_*. */
  async readFile(file: string, fileOffset: number, length: number, offset = 0): Promise<void> {
    await readFileTo((this.address + BigInt(offset)) as HostPtr, file, fileOffset, length);
  }

  /** Bytes backed by huge pages now; undefined where the system does not say. */
  hugeBytes(): number | undefined {
    const bytes = Number(library().hugeBytes(this.address, this.bytes));
    return bytes < 0 ? undefined : bytes;
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    library().free(this.#address, this.bytes);
  }
}

/** Reads bytes of a file to `target`. @throws FormatError FILE_TRUNCATED; UsageError FILE_*. */
export async function readFileTo(
  target: HostPtr,
  file: string,
  fileOffset: number,
  length: number,
): Promise<void> {
  const status = Number(await inBackground<number>(library().readFile, file, fileOffset, length, target));
  if (status === 0) return;
  if (status < 0)
    throw new FormatError('FILE_TRUNCATED', `${file} ends before byte ${fileOffset + length}`, { file });
  throw fileError(file, errnoError(status));
}

/** A copy of host memory. Both places stay, the source unchanged, until it is done; arrays are kept alive until then. */
export interface HostCopy {
  readonly target: HostPtr | ArrayBufferView;
  readonly source: HostPtr | ArrayBufferView;
  readonly bytes: number;
}

/** Below this in all, copying at once is faster than handing over to other threads. */
const INLINE_COPY_BYTES = 1 << 18;
/** Threads that copy, at most: a few fill the host's memory bandwidth. */
const MOST_COPY_THREADS = 16;
const COPY_WORDS = 3;

let copiers: ThreadPool | undefined;
/**
 * Does copies of host memory: little at once, more on threads of their own, while the event loop goes on. Undefined: all
 * is done already.
 * @throws DeviceError OUT_OF_MEMORY.
 */
export function copyAll(copies: readonly HostCopy[]): Promise<void> | undefined {
  const bytes = copies.reduce((sum, copy) => sum + copy.bytes, 0);
  if (bytes === 0) return undefined;
  const words = new BigUint64Array(
    new ArrayBuffer(BigUint64Array.BYTES_PER_ELEMENT * COPY_WORDS * copies.length),
  );
  copies.forEach(({ target, source, bytes: length }, i) => {
    words.set([addressOfEither(target), addressOfEither(source), BigInt(length)], COPY_WORDS * i);
  });
  const { copyAll } = library();
  if (bytes <= INLINE_COPY_BYTES) {
    checkRun(Number(copyAll(NULL_PTR, words, copies.length)));
    return undefined;
  }
  underWay.add(copies);
  copiers ??= createPool(Math.min(MOST_COPY_THREADS, availableParallelism()), 'portable');
  return inBackground<number>(copyAll, copiers, words, copies.length)
    .then((status) => checkRun(Number(status)))
    .finally(() => underWay.delete(copies));
}

function addressOfEither(memory: HostPtr | ArrayBufferView): HostPtr {
  return typeof memory === 'bigint' ? memory : addressOf(memory);
}

/** A file mapped read-only. */
export class MappedFile implements Disposable {
  readonly address: HostPtr;
  readonly bytes: number;
  #live = true;

  /** @throws UsageError FILE_*. */
  constructor(readonly file: string) {
    const bytes = new BigInt64Array(1);
    const error = new BigInt64Array(1);
    this.address = BigInt(library().mapFile(file, bytes, error)) as HostPtr;
    this.bytes = Number(bytes[0]);
    if (this.address === 0n) {
      throw fileError(file, errnoError(Number(error[0])));
    }
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    library().unmapFile(this.address, this.bytes);
  }
}

/** The error that Node would have thrown for an errno. */
function errnoError(errno: number): NodeJS.ErrnoException {
  const [code, message] = getSystemErrorMap().get(-errno) ?? ['UNKNOWN', `error ${errno}`];
  return Object.assign(new Error(message), { code, errno });
}

/** Packs W [outputs, inputs] for the linear operator of this pool. */
export function packLinear(
  pool: ThreadPool,
  weight: Float32Array,
  outputs: number,
  inputs: number,
): NativeMemory {
  const bytes = Number(library().packedLinearBytes(pool, outputs, inputs));
  if (bytes < 0)
    throw new DeviceError('OUT_OF_MEMORY', `a weight of [${outputs}, ${inputs}] does not fit in memory`);
  const packed = new NativeMemory(bytes);
  library().packLinear(pool, weight, outputs, inputs, packed.address);
  return packed;
}

/** Fills memory with seeded values, uniform in [-1, 1). */
export async function fillUniform(
  pool: ThreadPool,
  target: NativeMemory,
  format: keyof typeof ROW_FORMAT,
  count: number,
  seed: number,
): Promise<void> {
  const status = await inBackground<number>(
    library().fillUniform,
    pool,
    target.address,
    ROW_FORMAT[format],
    count,
    seed,
  );
  if (Number(status) !== 0) throw new DeviceError('KERNEL_FAILED', `fill failed with status ${status}`);
}

/** Fills quantised rows [rows, rowBytes] of `dim` elements with seeded values. */
export async function fillQuantized(
  pool: ThreadPool,
  target: NativeMemory,
  format: keyof typeof ROW_FORMAT,
  shape: { readonly rows: number; readonly dim: number; readonly rowBytes: number },
  seed: number,
): Promise<void> {
  const status = await inBackground<number>(
    library().fillQuantized,
    pool,
    target.address,
    ROW_FORMAT[format],
    shape.rows,
    shape.dim,
    shape.rowBytes,
    seed,
  );
  if (Number(status) !== 0) throw new DeviceError('KERNEL_FAILED', `fill failed with status ${status}`);
}

/**
 * Calls setCurrent(context), then wait(handle), on one of libuv's threads; the first status that is not 0. For the
 * binding of the CUDA driver alone.
 */
export async function waitInContext(
  setCurrent: bigint,
  context: bigint,
  wait: bigint,
  handle: bigint,
): Promise<number> {
  return Number(await inBackground<number>(library().waitInContext, setCurrent, context, wait, handle));
}

/** Multiply-adds per second of a loop that only touches registers, on all threads of the pool. */
export function measureFmaRate(pool: ThreadPool, seconds: number): Promise<number> {
  return inBackground(library().measureFmaRate, pool, seconds);
}

/** Bytes per second that the pool's threads read in order from memory. */
export function measureReadRate(pool: ThreadPool, memory: NativeMemory): Promise<number> {
  return inBackground(library().measureReadRate, pool, memory.address, memory.bytes);
}
