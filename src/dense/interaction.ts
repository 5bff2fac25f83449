/** How a DLRM's bottom output meets the pooled embeddings. */

import { sum } from './block.ts';
import type { CrossBlock } from './cross.ts';
import { type DotBlock, pairCount } from './dot.ts';

/**
 * How bottom output and pooled embeddings meet; Z stacks them as [T + 1, D], bottom first.
 * - `dot`: concat(bottom, one triangle of Z·Zᵀ).
 * - `cat`: concat of all.
 * - `cross`: DCNv2 cross layers over the concat of all.
 */
export type Interaction = DotBlock | { readonly kind: 'cat' } | CrossBlock;

/** Width of the interaction's output, the top MLP's input. */
export function interactionWidth(
  interaction: Interaction,
  bottomWidth: number,
  dims: readonly number[],
): number {
  return interaction.kind === 'dot'
    ? bottomWidth + pairCount(dims.length + 1, interaction.diagonal)
    : bottomWidth + sum(dims);
}
