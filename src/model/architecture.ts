/**
 * What a model is made of, without its device: tables, and a head of blocks over their pooled rows and the dense features.
 * A DLRM's head has three parts:
 *
 *   bottom = MLP(dense)                                                    [B, D]
 *   pooled = embedding bags, one per table                                 [B, T, D]
 *   top    = MLP(interaction(bottom, pooled)), the last layer's sigmoid    [B, 1]
 *
 * Any other head is a list of blocks (block-list.ts).
 */
import type { Interaction } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import type { BlockList } from './block-list.ts';
import { defaultInputs, type ModelInputs } from './inputs.ts';

export type { Activation } from '../backend/backend.ts';
export type { CrossLayer } from '../dense/cross.ts';
export { type Interaction, interactionWidth } from '../dense/interaction.ts';
export type { LinearLayer } from '../dense/linear.ts';

/** What predictions give. */
export type ModelOutput = 'probability' | 'logit';

/** What every model has. */
interface ModelParts {
  /** Whose parameter names the checkpoint uses. */
  readonly naming: 'dlrm' | 'torchrec' | 'hotrow' | 'synthetic';
  /** Width of the dense features; 0 where the model has none. */
  readonly denseFeatures: number;
  /** One for each feature, in the model's order; features on one table have the same `weight`. */
  readonly tables: readonly EmbeddingTable[];
  /** What the one output is, [B, 1]; default: probability. A logit's sigmoid is left to the host. */
  readonly output?: ModelOutput;
  /** What raw inputs mean; default: features are named as their tables, ids are rows. */
  readonly inputs?: ModelInputs;
  /** The checkpoint's tables in the model's order, and where that order comes from, for people. */
  readonly tableOrder?: { readonly names: readonly string[]; readonly source: string };
  /** What loading decided, for people. */
  readonly notes?: readonly string[];
}

/** A DLRM. */
export interface DlrmArchitecture extends ModelParts {
  readonly bottom: readonly LinearLayer[];
  readonly interaction: Interaction;
  /** The last layer has one output. */
  readonly top: readonly LinearLayer[];
}

/** A model whose head is any list of blocks. */
export interface BlocksArchitecture extends ModelParts, BlockList {}

export type ModelArchitecture = DlrmArchitecture | BlocksArchitecture;

/** The model's inputs. */
export function inputsOf({
  inputs,
  tables,
  denseFeatures,
}: Pick<ModelParts, 'inputs' | 'tables' | 'denseFeatures'>): ModelInputs {
  return (
    inputs ??
    defaultInputs(
      tables.map(({ name }) => name),
      denseFeatures,
    )
  );
}

/** What loading decided, for people, beside notes on other things. */
export function modelNotes({ notes = [] }: Pick<ModelParts, 'notes'>): string[] {
  return notes.map((note) => `model: ${note}`);
}

/** Width of a DLRM's bottom MLP's output. */
export function bottomWidth({
  bottom,
  denseFeatures,
}: Pick<DlrmArchitecture, 'bottom' | 'denseFeatures'>): number {
  return bottom.at(-1)?.outputs ?? denseFeatures;
}
