/**
 * What every kind of block is. A block is a part of a model's head: it takes vectors that stand side by side in one matrix,
 * [B, Σ widths], and gives one matrix, [B, width]. A kind is one file here, and one line in `blocks.ts`.
 */

import type { TSchema } from 'typebox';
import type { Activation, Backend, Matrix, Operation } from '../backend/backend.ts';
import type { ScaledWeight } from '../backend/scaled-weight.ts';
import type { Workspace } from '../backend/workspace.ts';
import type { Members } from '../checks/value.ts';
import type { DensePrecision } from '../device.ts';
import type { StoredTensor, Tensor } from '../tensor.ts';
import type { WeightedLayer } from './layer-scales.ts';
import { inconsistent } from './weights.ts';

/** A block on a device. */
export interface PlacedBlock extends Disposable {
  /**
   * Operations from `input` [B, Σ widths] to `output` [B, width], apart from it; what lies between lives in the workspace. Both have
   * the format of the precision's activations, or float32 where the kind says so.
   */
  operations(input: Matrix, output: Matrix, workspace: Workspace): Operation[];
}

/** A parameter of a checkpoint. */
export interface StoredParameter {
  /** Its name in the checkpoint. */
  readonly name: string;
  readonly tensor: StoredTensor;
}

/** A layer's parameters by the last part of Hotrow's names: weight, weight_scale, weight_input_scale, bias, v, w. */
export type StoredLayer = Readonly<Record<string, StoredParameter | undefined>>;

/** A block of a checkpoint. */
export interface StoredBlock {
  /** What a model description says of it, checked against the kind's schema. */
  readonly described: Readonly<Record<string, unknown>>;
  /** In their order. */
  readonly layers: readonly StoredLayer[];
  /** The activation of its last layer, where nothing says another. */
  readonly last: Activation;
}

/** Where blocks are placed, and how their products are made. */
export interface PlacementTarget {
  readonly backend: Backend;
  readonly precision: DensePrecision;
  /** Whether scales of the model's layers say which of them are in 8 bits, where that is the precision. */
  readonly isCalibrated: boolean;
  /** Weights in 8 bits of layers whose stored ones are not, by the latter: those that are being chosen. */
  readonly scaled?: ReadonlyMap<Tensor, ScaledWeight>;
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
  /** Whether it takes a float32 input, as the host uploads it, in every precision; default: no. */
  readonly takesFloat32?: boolean;
  /** Whether it gives a float32 output, as the host reads it, in every precision; default: no. */
  readonly givesFloat32?: boolean;
  /** Whether it writes the output's padding; default: no. */
  readonly writesPadding?: boolean;
  /** How a block is checked that a caller describes. */
  readonly members: Members<B>;
  /** What a model description says of one. */
  readonly schema: Readonly<Record<string, TSchema>>;
  /** The block of a checkpoint. @throws ModelError CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT, DESCRIPTION_INVALID. */
  stored(block: StoredBlock): B;
  /** What a model description would say of it. */
  describe(block: B): Readonly<Record<string, unknown>>;
  /** Columns of its output, for vectors of these widths. @throws ModelError CHECKPOINT_INCONSISTENT where it cannot take them. */
  width(block: B, vectors: readonly number[]): number;
  /** What it is, for people. */
  title(block: B, vectors: readonly number[]): string;
  /** Elements of its weights. */
  parameters(block: B): number;
  /** Its weights, in the order of the linear operations that it makes. */
  layers(block: B): readonly WeightedLayer[];
  /** Reads its weights and places them. @throws DeviceError OUT_OF_MEMORY; UsageError, FormatError for files. */
  place(on: PlacementTarget, block: B, vectors: readonly number[]): Promise<PlacedBlock>;
  /** [batch, width] as plainly as it can be written, in float64: what every device is compared with. */
  reference(block: B, input: ReferenceInput): Promise<Float64Array>;
}

/** What is placed without memory of its own. */
export function withoutWeights(operations: PlacedBlock['operations']): PlacedBlock {
  return { operations, [Symbol.dispose]() {} };
}

/** Refuses parameters of a block whose kind has none. @throws ModelError CHECKPOINT_INCONSISTENT. */
export function refuseLayers({ layers }: StoredBlock, kind: string): void {
  const [parameter] = layers.flatMap((layer) => Object.values(layer));
  if (parameter !== undefined)
    inconsistent(
      `${parameter.name} belongs to a block of kind ${kind}, which has no parameters`,
      parameter.name,
    );
}

export const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);
