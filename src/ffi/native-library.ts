/**
 * The library of the CPU kernels (C ABI: kernels/cpu/hotrow_cpu.h), and calls into it: at once, or on libuv's threads.
 */
import { arraysChanged, DeviceError } from '../errors.ts';
import { openLibrary } from './native/open-library.ts';

const ABI_VERSION = 13;
/** `hr_run` statuses. */
const RUN_DONE = 0;
const RUN_ARRAYS_GONE = 2;
const RUN_NO_MEMORY = -2;

function load() {
  const { functions: library } = openLibrary(ABI_VERSION, (own) =>
    Number(own.func('int64_t hr_abi_version(void)')()),
  );
  return {
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
    free: library.func('void hr_free(uintptr_t memory)'),
    hugeBytes: library.func('int64_t hr_huge_bytes(uintptr_t memory, int64_t bytes)'),
    mapFile: library.func('uintptr_t hr_map_file(const char *path, void *memory, void *bytes, void *error)'),
    unmapFile: library.func('void hr_unmap_file(uintptr_t mapping)'),
    hasFileChanged: library.func('int64_t hr_has_file_changed(uintptr_t mapping)'),
    makeWritable: library.func('int64_t hr_make_writable(uintptr_t mapping, int64_t begin, int64_t bytes)'),
    updateRows: library.func('int64_t hr_update_rows(void *move)'),
    readRows: library.func('int64_t hr_read_rows(void *move)'),
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
    findLongBags: library.func(
      'void hr_find_long_bags(void *tables, int64_t count, int64_t batch, int64_t split, void *found)',
    ),
    drawLookups: library.func('int64_t hr_draw_lookups(uintptr_t pool, void *draws, int64_t count)'),
    checkRequest: library.func(
      'int64_t hr_check_request(uintptr_t model, uintptr_t slot, int64_t bytes, uintptr_t fault)',
    ),
    mergeRequests: library.func(
      'int64_t hr_merge_requests(uintptr_t pool, uintptr_t model, uintptr_t slots, int64_t count, uintptr_t block, int64_t block_bytes, uintptr_t merged, uintptr_t tables, uintptr_t starts)',
    ),
    waitInContext: library.func(
      'int64_t hr_wait_in_context(uintptr_t set_current, uintptr_t context, uintptr_t wait, uintptr_t handle)',
    ),
    ownHandle: library.func('uintptr_t hr_own_handle(void *calls)'),
    disownHandle: library.func('void hr_disown_handle(uintptr_t handle)'),
    duplicateDescriptor: library.func('int64_t hr_duplicate_descriptor(int64_t descriptor)'),
    getCounts: library.func('void hr_get_counts(void *counts)'),
    measureFmaRate: library.func('double hr_measure_fma_rate(uintptr_t pool, double seconds)'),
    measureReadRate: library.func(
      'double hr_measure_read_rate(uintptr_t pool, uintptr_t memory, int64_t bytes)',
    ),
  };
}

let loaded: ReturnType<typeof load> | undefined;
/** The library's functions. @throws DeviceError NATIVE_LIBRARY_*. */
export const library = () => {
  loaded ??= load();
  return loaded;
};

interface NativeFunction {
  async(...args: unknown[]): void;
}

/** Calls in the background at a time: koffi refuses more than 64 per JavaScript thread. */
const MOST_BACKGROUND_CALLS = 48;
let backgroundCalls = 0;
const waitingCalls: (() => void)[] = [];

/** What native calls under way read and write: an address keeps nothing from the collector. */
const underWay = new Set<object>();

/**
 * Runs a native call on one of libuv's threads. Its arguments are kept alive until it returns, and with them `reaches`:
 * what the call gets at by addresses.
 */
export async function inBackground<T>(
  native: NativeFunction,
  args: readonly unknown[],
  reaches?: object,
): Promise<T> {
  const held = [args, reaches];
  underWay.add(held);
  if (backgroundCalls >= MOST_BACKGROUND_CALLS) await new Promise<void>((turn) => waitingCalls.push(turn));
  else backgroundCalls += 1;
  try {
    return await new Promise((resolve, reject) => {
      native.async(...args, (error: unknown, result: T) => (error ? reject(error) : resolve(result)));
    });
  } finally {
    underWay.delete(held);
    const next = waitingCalls.shift();
    if (next === undefined) backgroundCalls -= 1;
    else next();
  }
}

/**
 * For a status of `hr_run` or `hr_copy_all` that is not 0.
 * @throws RequestError ARRAYS_CHANGED; DeviceError OUT_OF_MEMORY, KERNEL_FAILED.
 */
export function checkRun(status: number): void {
  if (status === RUN_DONE) return;
  if (status === RUN_ARRAYS_GONE) throw arraysChanged('was given away or freed');
  if (status === RUN_NO_MEMORY) throw new DeviceError('OUT_OF_MEMORY', 'the CPU kernels ran out of memory');
  throw new DeviceError('KERNEL_FAILED', `the CPU library refused an operator (status ${status})`);
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
  return Number(await inBackground<number>(library().waitInContext, [setCurrent, context, wait, handle]));
}
