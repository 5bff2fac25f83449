/**
 * The contract that every device fulfils.
 *
 * A backend places weights and lookups on its device and runs a *program*: a list of operations, in order, over
 * matrices in device memory. A program is plain data and a template: what differs from batch to batch is the name of a
 * *slot* in it. It is prepared once; then each batch binds its own arrays and bags to the slots. So one device can hand a
 * run to its thread pool in a single call, and another can capture it once and replay it.
 */

import type { DensePrecision, DeviceDescription, ElementFormat } from '../device.ts';
import type { BagBatch, BagFindings, EmbeddingTable, IndexArray, IndexChecking } from '../embedding/bag.ts';
import type { RowValues } from '../embedding/row-values.ts';
import type { Placement } from '../plan/placement.ts';
import type { Plan } from '../plan/plan.ts';
import type { OnProgress } from '../progress.ts';
import type { Admission } from './admission.ts';
import type { RowFunction } from './row-functions.ts';
import type { ScaledWeight } from './scaled-weight.ts';

export type Activation = 'none' | 'relu' | 'sigmoid';

export const ACTIVATIONS: readonly Activation[] = Object.freeze(['none', 'relu', 'sigmoid'] as const);

/** A block of float32 in device memory. */
export interface DeviceBuffer extends Disposable {
  /** Where it is. */
  readonly device: DeviceDescription;
  /** Elements. */
  readonly length: number;
}

/** Where a row-major matrix lies in a device buffer. */
export interface Extent {
  readonly buffer: DeviceBuffer;
  /** Element where row 0 starts. */
  readonly offset: number;
  readonly rows: number;
  readonly cols: number;
  /** Elements between the starts of consecutive rows. */
  readonly stride: number;
}

/** A row-major matrix in a device buffer. */
export interface Matrix extends Extent {
  /** How its elements are stored. Default: float32. */
  readonly format?: ElementFormat;
  /**
   * Columns behind the last that hold zeros, so that products may take rows as whole vectors: what writes the last column writes
   * them. Default: 0.
   */
  readonly padding?: number;
  /**
   * What it holds matters only to operations of one program, behind that which wrote it: where none of them needs it as it is, it may
   * hold anything.
   */
  readonly transient?: true;
}

/** How a matrix's elements are stored. */
export function formatOf({ format = 'float32' }: Pick<Matrix, 'format'>): ElementFormat {
  return format;
}

/** Bytes of an element. */
export function elementBytes(matrix: Pick<Matrix, 'format'>): number {
  return ELEMENT_BYTES[formatOf(matrix)];
}

const ELEMENT_BYTES: Readonly<Record<ElementFormat, number>> = { float32: 4, float16: 2, bfloat16: 2 };

/** Bytes of a matrix whose rows lie without gaps. */
export function packedBytes(matrix: Pick<Matrix, 'rows' | 'cols' | 'format'>): number {
  return matrix.rows * matrix.cols * elementBytes(matrix);
}

/** How tables are placed beside their plan. */
export interface PlaceOptions {
  /** Default: all rows on the device. */
  readonly placement?: Placement;
  /** Told of every table. */
  readonly onProgress?: OnProgress;
  /** Looked at between tables; what was placed is given back. */
  readonly signal?: AbortSignal;
}

/** Embedding tables on the device, laid out as their plan says. */
export interface PlacedTables extends Disposable {
  /** Where they are pooled. */
  readonly device: DeviceDescription;
  readonly tables: readonly EmbeddingTable[];
  readonly plan: Plan;
  /** Where their rows live. */
  readonly placement: Placement;
  /** Device memory that the tables take beyond files mapped in place. */
  readonly allocatedBytes: number;
  /** What the plan brought about, for people: e.g. how much is backed by huge pages. */
  readonly notes: readonly string[];
  /**
   * Replaces rows of a table, and of those that share its memory, between runs: a run sees all of it or nothing. Updates of one
   * collection's tables take effect in the order of their calls; of equal row numbers the last counts. A file that rows are mapped from, and a caller's arrays, stay as they are.
   * `rows`: [n]. `values`: float32 [n, dim], rounded or quantised to the table's format, or rows as the table stores them:
   * the bits of 16-bit floats [n, dim], quantised rows [n, rowBytes].
   * @throws RequestError INDEX_OUT_OF_RANGE, TENSOR_DTYPE, TENSOR_SHAPE; ModelError VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE for
   *   values that cannot be quantised; DeviceError OUT_OF_MEMORY; FormatError FILE_CHANGED. No row has changed then.
   */
  updateRows(table: number, rows: IndexArray, values: RowValues): Promise<void>;
  /** Rows of a table as it stores them: see `updateRows`. @throws RequestError INDEX_OUT_OF_RANGE, TENSOR_DTYPE. */
  readRows(table: number, rows: IndexArray): Promise<RowValues>;
  /**
   * The same memory under another legal plan that places tables alike. It stays this object's to give back.
   * @throws PlanError PLAN_ILLEGAL when the plan needs another placement.
   */
  withPlan(plan: Plan): PlacedTables;
}

/** A batch of bags that the device can reach. The caller's arrays stay untouched, and must not change meanwhile. */
export interface PlacedBags extends Disposable {
  readonly batchSize: number;
  readonly lookups: number;
  /** An executable that goes from bags of one kind to those of another may be made ready anew. Kinds are compared by identity. */
  readonly kind: unknown;
}

/** A linear layer's weight [outputs, inputs] and bias [outputs] on the device, in its own layout. */
export interface PlacedLinear extends Disposable {
  /** Where it is. */
  readonly device: DeviceDescription;
  readonly inputs: number;
  readonly outputs: number;
  /** How the layer multiplies. */
  readonly precision: DensePrecision;
}

/** The name of a slot: each run binds something to it. */
export type Slot = string;

interface Staged {
  /** What the operation is a part of, for the times of a run: any name. */
  readonly stage?: string;
}

/** The first rows of output = host rows. `S`: what gives them: an array, or the slot of one. */
export interface UploadOperation<S extends Float32Array | Slot = Float32Array | Slot> extends Staged {
  readonly op: 'upload';
  /** [at most output.rows, output.cols], row-major. */
  readonly source: S;
  readonly output: Matrix;
}

/** target = the first device rows. */
export interface DownloadOperation<
  T extends Float32Array | Uint16Array | Slot = Float32Array | Uint16Array | Slot,
> extends Staged {
  readonly op: 'download';
  readonly input: Matrix;
  /** [at most input.rows, input.cols], row-major; the bits of elements that are not float32. */
  readonly target: T;
}

/** output[b, :] = the pooled rows of bag b of every table, side by side in table order. */
export interface EmbeddingBagsOperation<B extends PlacedBags | Slot = PlacedBags | Slot> extends Staged {
  readonly op: 'embeddingBags';
  readonly tables: PlacedTables;
  readonly bags: B;
  /** [at least B, Σ dim]; rows from B on keep what they hold. Sums are float32, rounded once to the output's format. */
  readonly output: Matrix;
  readonly checking: IndexChecking;
}

/**
 * output = activation(input · Wᵀ + bias), or with `cross`: x0 ⊙ (input · Wᵀ + bias) + x. Matrices are float32 or of the
 * `activationFormat` of the layer's precision. The result is rounded once to the output's format; with a cross of 16 bits the sums
 * too, and with an output of 16 bits the bias may be.
 */
export interface LinearOperation extends Staged {
  readonly op: 'linear';
  readonly layer: PlacedLinear;
  /** [B, inputs]; one of float32 that is multiplied in 16 bits is rounded on the way. */
  readonly input: Matrix;
  /** [B, outputs]; does not overlap `input`. */
  readonly output: Matrix;
  readonly activation: Activation;
  /** Each [B, outputs], of the output's format; either may be the output. */
  readonly cross?: { readonly x0: Matrix; readonly x: Matrix };
}

/**
 * output[b] = one triangle of Z·Zᵀ, Z = input[b] as [features, dim]. Both matrices are of the `activationFormat` of the precision;
 * the output, where that has 16 bits, may have up to 7 columns of padding.
 */
export interface DotInteractionOperation extends Staged {
  readonly op: 'dotInteraction';
  /** [B, features · dim]. */
  readonly input: Matrix;
  readonly features: number;
  readonly dim: number;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
  /** How it multiplies: one of the device's precisions; for float8_e4m3 the wide one. */
  readonly precision: DensePrecision;
  /** [B, pairs]. */
  readonly output: Matrix;
}

/** output[b] = a function of input[b] alone. Sums are float32, in an order that does not depend on B; both matrices are of one format. */
export interface RowFunctionOperation extends Staged {
  readonly op: 'rowFunction';
  readonly function: RowFunction;
  /** [B, columns]. */
  readonly input: Matrix;
  /** [B, what the function makes of so many columns]; does not overlap `input`. */
  readonly output: Matrix;
}

/** output = input, rounded where the formats differ: one of them is float32 then. */
export interface CopyOperation extends Staged {
  readonly op: 'copy';
  readonly input: Matrix;
  readonly output: Matrix;
}

/**
 * output = input, bit for bit; either may lie on another device, and strides may differ.
 * A program runs on one backend, which waits for no other. So what it reads of another device is what runs that were awaited
 * have left there, and what it writes there is complete when its own run resolves; no event is waited for. A GPU reads host memory
 * when a run starts, and writes it at the end of one that succeeds: no other transfer of a program may use what one writes there.
 * Which kinds of devices a backend exchanges matrices with: `capabilities.exchangesWith`.
 */
export interface TransferOperation extends Staged {
  readonly op: 'transfer';
  readonly input: Matrix;
  /** As `input`: rows, cols and format. At least one of the two is the backend's own. */
  readonly output: Matrix;
}

/** An operation of a program, with slots or without. */
export type Operation =
  | UploadOperation
  | DownloadOperation
  | EmbeddingBagsOperation
  | LinearOperation
  | DotInteractionOperation
  | RowFunctionOperation
  | CopyOperation
  | TransferOperation;

/** An operation of one run: every slot is bound. */
export type BoundOperation =
  | UploadOperation<Float32Array>
  | DownloadOperation<Float32Array | Uint16Array>
  | EmbeddingBagsOperation<PlacedBags>
  | LinearOperation
  | DotInteractionOperation
  | RowFunctionOperation
  | CopyOperation
  | TransferOperation;

/** What a run binds to the slots of its program, each by its name: sources, targets and bags. */
export type Bindings = Readonly<Record<Slot, Float32Array | Uint16Array | PlacedBags>>;

/**
 * What of a run is timed on the device: nothing, each operation, or also each launch of the lookups, where tables are
 * launched one by one. Timing takes a little time itself.
 */
export type RunTiming = 'none' | 'operations' | 'launches';

export const RUN_TIMINGS: readonly RunTiming[] = Object.freeze(['none', 'operations', 'launches'] as const);

export interface RunOptions {
  /** Default: `operations`. */
  readonly timing?: RunTiming;
  /**
   * A profiler, if one listens, records the launches that pool bags of these tables, each by itself, and those for all tables
   * at once; nothing else. Launches are not timed then.
   */
  readonly recorded?: ReadonlySet<number>;
}

/** A launch of an `embeddingBags` operation, timed by itself. */
export interface LaunchTime {
  /** The operation's place in the program. */
  readonly operation: number;
  /** A check of all bags, a table's pinned rows brought in, a table's bags pooled, users' pooled rows copied to candidates. */
  readonly kind: 'check' | 'pin' | 'bags' | 'spread';
  /** The table, by its number; undefined: all of them. */
  readonly table?: number;
  /** The function, of launches that pool bags. */
  readonly kernel?: string;
  readonly seconds: number;
}

/** A compiled kernel that pooled bags, and what it takes of a multiprocessor. */
export interface KernelUse {
  readonly id: string;
  /** Per thread. */
  readonly registers: number;
  /** Per thread: stack and spilled registers. */
  readonly localBytes: number;
  /** Per block. */
  readonly sharedBytes: number;
  /** Warps that live on a multiprocessor at once. */
  readonly warps: number;
  /** Share of the warps that a multiprocessor has room for. */
  readonly occupancy: number;
}

/** What a run reports. */
export interface RunReport {
  /**
   * Device time of each operation of the program, pinning counted in; operations may run side by side. Empty unless asked
   * for, on devices where it takes time.
   */
  readonly seconds: Float64Array;
  /** The same, summed by the operations' stages; those without a name are left out. */
  readonly stages: Readonly<Record<string, number>>;
  /** What index checking found, in `warn` mode. */
  readonly findings: BagFindings;
  /** In the order of their launches; empty unless asked for, and where the device does not launch table by table. */
  readonly launches: readonly LaunchTime[];
  /** The kernels that pooled bags, each once, on devices that compile them for the tables. */
  readonly kernels: readonly KernelUse[];
}

/** What the device reaches at best, measured. */
export interface Ceilings {
  /** Streaming reads from memory. */
  readonly readBytesPerSecond: number;
  /** Reads that the last-level cache answers, on devices where that is measured. */
  readonly cacheReadBytesPerSecond?: number;
  /** Copies from pinned host memory, on devices with memory of their own. */
  readonly hostCopyBytesPerSecond?: number;
  /** float32 multiply-adds on registers alone, each counted once. */
  readonly multiplyAddsPerSecond: number;
}

/** A prepared program. What the device makes of it, a captured graph for one, stays between its runs. */
export interface Executable extends Disposable {
  /**
   * Runs the program on a batch's arrays and bags; after one run the next, not beside it. From run to run they may be of other
   * sizes. As Backend.run otherwise.
   * @throws UsageError USAGE when a run is under way, OPTION_INVALID for bindings that are missing, unknown, or do not fit;
   *   DeviceError DISPOSED; as Backend.run.
   */
  run(bindings?: Bindings, options?: RunOptions): Promise<RunReport>;
}

/**
 * Pinned host memory for the arrays of batches: they are not copied on the host first, which on a GPU is slower than the
 * connection. Arrays allocated in the order indices, offsets, weights, table by table, are copied to the device in one piece.
 * They may be written again once the run that reads them has resolved.
 */
export interface HostMemory extends Disposable {
  readonly bytes: number;
  /** Uninitialised elements behind those of the array before. @throws RangeError when they do not fit; DeviceError DISPOSED. */
  int32(length: number): Int32Array;
  int64(length: number): BigInt64Array;
  float32(length: number): Float32Array;
}

/** Memory of a device, as all processes that use it have it now. */
export interface MemoryUse {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface Backend extends Disposable, AsyncDisposable {
  readonly device: DeviceDescription;

  /** How much of models, collections and callers is under way at once: they ask here before they run. */
  readonly admission: Admission;

  /**
   * Places tables under a checked plan. Stored tensors are mapped in place or streamed, never read whole.
   * @throws DeviceError OUT_OF_MEMORY; UsageError, FormatError for a file that cannot be read.
   */
  placeTables(tables: readonly EmbeddingTable[], plan: Plan, options?: PlaceOptions): Promise<PlacedTables>;

  /**
   * Makes a batch reachable for the device.
   * @throws RequestError when the batch does not fit the tables (index values are checked by the run).
   */
  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags;

  /**
   * Places a weight [outputs, inputs] and a bias [outputs] of a layer that multiplies in `precision`, one of the device's. Scaled
   * weights are those of float8_e4m3; in that precision others are rounded by `scaledWeight`.
   * @throws DeviceError DEVICE_UNAVAILABLE for another precision, OUT_OF_MEMORY; PlanError PLAN_ILLEGAL for weights that the
   *   precision cannot hold; ModelError VALUE_NOT_FINITE for weights that have no scale.
   */
  placeLinear(
    weight: Float32Array | ScaledWeight,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
    precision: DensePrecision,
  ): PlacedLinear;

  /** Host memory for batches; `hostBytes` says how much arrays take. @throws DeviceError OUT_OF_MEMORY. */
  allocateHost(bytes: number): HostMemory;

  /** Uninitialised float32 memory. @throws DeviceError OUT_OF_MEMORY. */
  allocate(length: number): DeviceBuffer;

  /**
   * Runs a program without slots once, to its end. In `error` mode a bad index or offset stops it at that operation or before: no row is
   * read by a bad index, nothing that follows runs, and what device memory then holds is undefined. A program downloads
   * after its lookups, so that nothing of a refused batch reaches the caller.
   * Does not block the event loop for longer than some tens of microseconds.
   * @throws UsageError OPTION_INVALID for an operation that mixes devices, or is not on this one, and for a transfer that this one
   *   cannot make; RequestError INDEX_OUT_OF_RANGE, OFFSETS_INVALID; DeviceError KERNEL_FAILED, OUT_OF_MEMORY.
   */
  run(program: readonly Operation[], options?: RunOptions): Promise<RunReport>;

  /**
   * A program to run again and again. What it needs is made ready in its first run.
   * @throws UsageError OPTION_INVALID for an operation that mixes devices, or is not on this one, and for a transfer that this one
   *   cannot make.
   */
  prepare(program: readonly Operation[]): Executable;

  /**
   * How many samples a program for batches of `batchSize` should have room for: at least that many, and on devices
   * where a program of another size costs more than some rows, one of few sizes.
   */
  capacityFor(batchSize: number): number;

  /**
   * Counts the lookups of some batches: what is hot in `tables`, for plans that pin the hottest rows. It replaces what
   * was counted before; without it, such plans count the lookups that they serve. Nothing on devices that pin nothing.
   */
  observe(tables: PlacedTables, batches: readonly PlacedBags[]): Promise<void>;

  /** Of memory that is the device's own; undefined: it uses the host's. @throws DeviceError DISPOSED; CudaError of a device that is lost. */
  memoryUse(): MemoryUse | undefined;

  /** Measures the device's ceilings, in about a second. */
  measureCeilings(): Promise<Ceilings>;

  /** Refuses new calls; resolves when those under way have ended and the device is given back, however often it is called. */
  close(): Promise<void>;
}

/** A matrix over the whole of `buffer` from `offset` on. */
export function matrix(buffer: DeviceBuffer, rows: number, cols: number, offset = 0, stride = cols): Matrix {
  return { buffer, offset, rows, cols, stride };
}

/** The class behind a contract type; a mix of backends is a programming error. */
export function ownBy<T>(type: new (...args: never[]) => T, value: unknown): T {
  if (value instanceof type) return value;
  throw new TypeError(`${type.name} expected: the value belongs to another backend`);
}

/** The first `rows` rows of `m`. */
export function firstRows<M extends Extent>(m: M, rows: number): M {
  return { ...m, rows };
}

/** How many rows of `m` an array of its width holds. */
export function rowsIn(array: { readonly length: number }, { cols }: Extent): number {
  return cols === 0 ? 0 : array.length / cols;
}

/** Columns [start, start + cols) of `m`. */
export function columns(m: Matrix, start: number, cols: number): Matrix {
  return { ...m, offset: m.offset + start, cols };
}
