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

export type { Activation } from '../backend/backend.ts';
export type { CrossLayer } from '../dense/cross.ts';
export { type Interaction, interactionWidth } from '../dense/interaction.ts';
export type { LinearLayer } from '../dense/linear.ts';

export interface DlrmArchitecture {
  /** Whose parameter names the checkpoint uses. */
  readonly naming: 'dlrm' | 'torchrec' | 'synthetic';
  /** Width of the dense features. */
  readonly denseFeatures: number;
  readonly tables: readonly EmbeddingTable[];
  readonly bottom: readonly LinearLayer[];
  readonly interaction: Interaction;
  readonly top: readonly LinearLayer[];
}
