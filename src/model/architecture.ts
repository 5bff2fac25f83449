/**
 * What a DLRM is made of, without its device: tables, MLPs and the interaction between them.
 *
 *   bottom = MLP(dense)                                                    [B, D]
 *   pooled = embedding bags, one per table                                 [B, T, D]
 *   top    = MLP(interaction(bottom, pooled)), the last layer's sigmoid    [B, 1]
 */
import type { Interaction } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { defaultInputs, type ModelInputs } from './inputs.ts';

export type { Activation } from '../backend/backend.ts';
export type { CrossLayer } from '../dense/cross.ts';
export { type Interaction, interactionWidth } from '../dense/interaction.ts';
export type { LinearLayer } from '../dense/linear.ts';

/** What predictions give. */
export type ModelOutput = 'probability' | 'logit';

export interface DlrmArchitecture {
  /** Whose parameter names the checkpoint uses. */
  readonly naming: 'dlrm' | 'torchrec' | 'hotrow' | 'synthetic';
  /** Width of the dense features. */
  readonly denseFeatures: number;
  /** One for each feature, in the model's order; features on one table have the same `weight`. */
  readonly tables: readonly EmbeddingTable[];
  readonly bottom: readonly LinearLayer[];
  readonly interaction: Interaction;
  /** The last layer has one output; its sigmoid is left to the host where the model gives logits. */
  readonly top: readonly LinearLayer[];
  /** Default: probability. */
  readonly output?: ModelOutput;
  /** What raw inputs mean; default: features are named as their tables, ids are rows. */
  readonly inputs?: ModelInputs;
  /** The checkpoint's tables in the model's order, and where that order comes from, for people. */
  readonly tableOrder?: { readonly names: readonly string[]; readonly source: string };
  /** What loading decided, for people. */
  readonly notes?: readonly string[];
}

/** The model's inputs. */
export function inputsOf({
  inputs,
  tables,
  denseFeatures,
}: Pick<DlrmArchitecture, 'inputs' | 'tables' | 'denseFeatures'>): ModelInputs {
  return (
    inputs ??
    defaultInputs(
      tables.map(({ name }) => name),
      denseFeatures,
    )
  );
}

/** What loading decided, for people, beside notes on other things. */
export function modelNotes({ notes = [] }: Pick<DlrmArchitecture, 'notes'>): string[] {
  return notes.map((note) => `model: ${note}`);
}
