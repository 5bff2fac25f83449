/** The operators of the CPU kernels: encoded lists of them, packed weights, seeded rows, and what the CPU can do at most. */
import { DeviceError } from '../errors.ts';
import { NativeMemory } from './host-memory.ts';
import { checkRun, inBackground, library } from './native-library.ts';
import type { ThreadPool } from './thread-pool.ts';

/** Numbers of the C header's enums; of row formats, embedding/row-format.ts has them. */
export const POOLING = { sum: 0, mean: 1, max: 2 } as const;
/** CUDA's `hotrow::Activation` has the same numbers. */
export const ACTIVATION = { none: 0, relu: 1, sigmoid: 2 } as const;
export const PREFETCH_LEVEL = { L1: 1, L2: 2, L3: 3, NTA: 4 } as const;
export const OPERATOR = {
  checkBags: 1,
  embeddingBags: 2,
  linear: 3,
  dotInteraction: 4,
  copy: 5,
  spreadRows: 6,
  rowFunction: 7,
} as const;
/** 64-bit words of an operator, a table, a batch of bags and a span of columns. */
export const OPERATOR_WORDS = 24;
export const TABLE_WORDS = 10;
export const BAGS_WORDS = 9;
export const SPAN_WORDS = 3;
export const CHECK_REPORT_WORDS = 7;

/** Where `hr_run` stops: at bad bags, or where a file that rows lie in was changed. */
const RUN_STOPPED = 1;
const RUN_FILE_CHANGED = 3;
export type RunEnd = 'done' | 'bad bags' | 'file changed';

/**
 * Executes encoded operators; how that ended, where an embedding operator may have stopped the list.
 * `inline`: on this thread, for lists of some tens of microseconds; else on one of libuv's.
 * @throws RequestError ARRAYS_CHANGED; DeviceError KERNEL_FAILED, OUT_OF_MEMORY.
 */
export function runOperators(
  pool: ThreadPool,
  operators: BigInt64Array,
  seconds: Float64Array,
  inline: boolean,
): RunEnd | Promise<RunEnd> {
  const { run } = library();
  const count = operators.length / OPERATOR_WORDS;
  if (inline) return endOf(run(pool, operators, count, seconds));
  return inBackground<number>(run, [pool, operators, count, seconds]).then(endOf);
}

function endOf(given: unknown): RunEnd {
  const status = Number(given);
  if (status === RUN_STOPPED) return 'bad bags';
  if (status === RUN_FILE_CHANGED) return 'file changed';
  checkRun(status);
  return 'done';
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
  rowFormat: number,
  count: number,
  seed: number,
): Promise<void> {
  const status = await inBackground<number>(library().fillUniform, [
    pool,
    target.address,
    rowFormat,
    count,
    seed,
  ]);
  if (Number(status) !== 0) throw new DeviceError('KERNEL_FAILED', `fill failed with status ${status}`);
}

/** Fills quantised rows [rows, rowBytes] of `dim` elements with seeded values. */
export async function fillQuantized(
  pool: ThreadPool,
  target: NativeMemory,
  rowFormat: number,
  shape: { readonly rows: number; readonly dim: number; readonly rowBytes: number },
  seed: number,
): Promise<void> {
  const status = await inBackground<number>(library().fillQuantized, [
    pool,
    target.address,
    rowFormat,
    shape.rows,
    shape.dim,
    shape.rowBytes,
    seed,
  ]);
  if (Number(status) !== 0) throw new DeviceError('KERNEL_FAILED', `fill failed with status ${status}`);
}

/** Multiply-adds per second of a loop that only touches registers, on all threads of the pool. */
export function measureFmaRate(pool: ThreadPool, seconds: number): Promise<number> {
  return inBackground(library().measureFmaRate, [pool, seconds]);
}

/** Bytes per second that the pool's threads read in order from memory. */
export function measureReadRate(pool: ThreadPool, memory: NativeMemory): Promise<number> {
  return inBackground(library().measureReadRate, [pool, memory.address, memory.bytes]);
}
