/**
 * What every kind of block is. A block is a part of a model's head: it takes vectors that stand side by side in one matrix,
 * [B, Σ widths], and gives one matrix, [B, width]. A kind is one file here, and one line in `blocks.ts`.
 */
import type { Backend, Matrix, Operation } from '../backend/backend.ts';
import type { Workspace } from '../backend/workspace.ts';
import type { Members } from '../checks/value.ts';

/** A block on a device. */
export interface PlacedBlock extends Disposable {
  /** Operations from `input` [B, Σ widths] to `output` [B, width], apart from it; what lies between lives in the workspace. */
  operations(input: Matrix, output: Matrix, workspace: Workspace): Operation[];
}

/** What is given to a block's reference. */
export interface ReferenceInput {
  readonly batch: number;
  /** Widths of the vectors. */
  readonly vectors: readonly number[];
  /** [batch, Σ vectors]. */
  readonly values: Float64Array;
}

/** A kind of block; `B` is what describes one of them. */
export interface BlockKind<B extends { readonly kind: string }> {
  /** How a block is checked that a caller describes. */
  readonly members: Members<B>;
  /** Columns of its output, for vectors of these widths. @throws ModelError CHECKPOINT_INCONSISTENT where it cannot take them. */
  width(block: B, vectors: readonly number[]): number;
  /** What it is, for people. */
  title(block: B, vectors: readonly number[]): string;
  /** Elements of its weights. */
  parameters(block: B): number;
  /** Reads its weights and places them. @throws DeviceError OUT_OF_MEMORY; UsageError, FormatError for files. */
  place(backend: Backend, block: B, vectors: readonly number[]): Promise<PlacedBlock>;
  /** [batch, width] as plainly as it can be written, in float64: what every device is compared with. */
  reference(block: B, input: ReferenceInput): Promise<Float64Array>;
}

/** What is placed without memory of its own. */
export function withoutWeights(operations: PlacedBlock['operations']): PlacedBlock {
  return { operations, [Symbol.dispose]() {} };
}

export const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);
