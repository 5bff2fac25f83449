/**
 * The contract that every device fulfils.
 *
 * A backend places weights and lookups on its device and runs a *program*: a list of operations, in order, over
 * matrices in device memory. A program is plain data, made anew for every batch, so that one device can hand it to
 * its thread pool in a single call and another can capture it once and replay it.
 */
import type { DeviceDescription } from '../device.ts';
import type { BagBatch, BagFindings, EmbeddingTable, IndexChecking } from '../embedding/bag.ts';
import type { Plan } from '../embedding/plan.ts';

export type Activation = 'none' | 'relu' | 'sigmoid';

/** A block of float32 in device memory. */
export interface DeviceBuffer extends Disposable {
  /** Elements. */
  readonly length: number;
}

/** A row-major float32 matrix in a device buffer. */
export interface Matrix {
  readonly buffer: DeviceBuffer;
  /** Element where row 0 starts. */
  readonly offset: number;
  readonly rows: number;
  readonly cols: number;
  /** Elements between the starts of consecutive rows. */
  readonly stride: number;
}

/** Embedding tables on the device, laid out as their plan says. */
export interface PlacedTables extends Disposable {
  readonly tables: readonly EmbeddingTable[];
  readonly plan: Plan;
  /** Device memory that the tables take beyond files mapped in place. */
  readonly allocatedBytes: number;
  /** What the plan brought about, for people: e.g. how much is backed by huge pages. */
  readonly notes: readonly string[];
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
}

/** A linear layer's weight [outputs, inputs] and bias [outputs] on the device, in its own layout. */
export interface PlacedLinear extends Disposable {
  readonly inputs: number;
  readonly outputs: number;
}

/** output = host rows. */
export interface UploadOperation {
  readonly op: 'upload';
  /** [output.rows, output.cols], row-major. */
  readonly source: Float32Array;
  readonly output: Matrix;
}

/** target = device rows. */
export interface DownloadOperation {
  readonly op: 'download';
  readonly input: Matrix;
  /** [input.rows, input.cols], row-major. */
  readonly target: Float32Array;
}

/** output[b, :] = the pooled rows of bag b of every table, side by side in table order. */
export interface EmbeddingBagsOperation {
  readonly op: 'embeddingBags';
  readonly tables: PlacedTables;
  readonly bags: PlacedBags;
  /** [B, Σ dim]. */
  readonly output: Matrix;
  readonly checking: IndexChecking;
}

/** output = activation(input · Wᵀ + bias), or with `cross`: x0 ⊙ (input · Wᵀ + bias) + x. */
export interface LinearOperation {
  readonly op: 'linear';
  readonly layer: PlacedLinear;
  /** [B, inputs]. */
  readonly input: Matrix;
  /** [B, outputs]; does not overlap `input`. */
  readonly output: Matrix;
  readonly activation: Activation;
  readonly cross?: { readonly x0: Matrix; readonly x: Matrix };
}

/** output[b] = one triangle of Z·Zᵀ, Z = input[b] as [features, dim]. */
export interface DotInteractionOperation {
  readonly op: 'dotInteraction';
  /** [B, features · dim]. */
  readonly input: Matrix;
  readonly features: number;
  readonly dim: number;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
  /** [B, pairs]. */
  readonly output: Matrix;
}

/** output = input. */
export interface CopyOperation {
  readonly op: 'copy';
  readonly input: Matrix;
  readonly output: Matrix;
}

export type Operation =
  | UploadOperation
  | DownloadOperation
  | EmbeddingBagsOperation
  | LinearOperation
  | DotInteractionOperation
  | CopyOperation;

/** What a run reports. */
export interface RunReport {
  /** Device time of each operation of the program. */
  readonly seconds: Float64Array;
  /** What index checking found, in `warn` mode. */
  readonly findings: BagFindings;
}

/** What the device reaches at best, measured. */
export interface Ceilings {
  /** Streaming reads from memory. */
  readonly readBytesPerSecond: number;
  /** float32 multiply-adds on registers alone, each counted once. */
  readonly multiplyAddsPerSecond: number;
}

export interface Backend extends Disposable {
  readonly device: DeviceDescription;

  /**
   * Places tables under a checked plan. Stored tensors are mapped in place or streamed, never read whole.
   * @throws DeviceError OUT_OF_MEMORY; UsageError, FormatError for a file that cannot be read.
   */
  placeTables(tables: readonly EmbeddingTable[], plan: Plan): Promise<PlacedTables>;

  /**
   * Makes a batch reachable for the device.
   * @throws RequestError when the batch does not fit the tables (index values are checked by the run).
   */
  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags;

  /** Places a weight [outputs, inputs] and a bias [outputs]. */
  placeLinear(
    weight: Float32Array,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
  ): PlacedLinear;

  /** Uninitialised float32 memory. @throws DeviceError OUT_OF_MEMORY. */
  allocate(length: number): DeviceBuffer;

  /**
   * Runs a program to its end. In `error` mode a bad index or offset stops it at that operation or before: no row is
   * read by a bad index, nothing that follows runs, and what device memory then holds is undefined. A program downloads
   * after its lookups, so that nothing of a refused batch reaches the caller.
   * Does not block the event loop for longer than some tens of microseconds.
   * @throws RequestError INDEX_OUT_OF_RANGE, OFFSETS_INVALID; DeviceError KERNEL_FAILED, OUT_OF_MEMORY.
   */
  run(program: readonly Operation[]): Promise<RunReport>;

  /** Measures the device's ceilings, in about a second. */
  measureCeilings(): Promise<Ceilings>;
}

/** A matrix over the whole of `buffer` from `offset` on. */
export function matrix(buffer: DeviceBuffer, rows: number, cols: number, offset = 0, stride = cols): Matrix {
  return { buffer, offset, rows, cols, stride };
}

/** Columns [start, start + cols) of `m`. */
export function columns(m: Matrix, start: number, cols: number): Matrix {
  return { ...m, offset: m.offset + start, cols };
}
