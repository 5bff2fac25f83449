/**
 * How the bottom MLP's output meets the pooled embeddings. Both stand side by side in one matrix,
 * Z [B, D + Σ dim] with the bottom's columns first, so that nothing is copied on the way in.
 */
import { type Backend, columns, type Matrix, type Operation } from '../backend/backend.ts';
import type { Workspace } from '../backend/workspace.ts';
import type { DensePrecision } from '../device.ts';
import { type CrossLayer, CrossNetwork } from './cross.ts';

/**
 * How bottom output and pooled embeddings meet; Z stacks them as [T + 1, D], bottom first.
 * - `dot`: concat(bottom, one triangle of Z·Zᵀ). facebookresearch/dlrm takes the strict lower triangle row by row
 *   (`lower`; with `diagonal` when trained with --arch-interaction-itself), TorchRec the strict upper one (`upper`).
 * - `cat`: concat of all.
 * - `cross`: DCNv2 cross layers over the concat of all.
 */
export type Interaction =
  | { readonly kind: 'dot'; readonly diagonal: boolean; readonly order: 'lower' | 'upper' }
  | { readonly kind: 'cat' }
  | { readonly kind: 'cross'; readonly layers: readonly CrossLayer[] };

/** Width of the interaction's output, the top MLP's input. */
export function interactionWidth(
  interaction: Interaction,
  bottomWidth: number,
  dims: readonly number[],
): number {
  const features = dims.length + 1;
  switch (interaction.kind) {
    case 'dot':
      return bottomWidth + (features * (features + (interaction.diagonal ? 1 : -1))) / 2;
    case 'cat':
    case 'cross':
      return dims.reduce((sum, dim) => sum + dim, bottomWidth);
    default:
      return interaction satisfies never;
  }
}

export interface PlacedInteraction extends Disposable {
  /** Operations over `z`, and the matrix where the top MLP's input stands afterwards. */
  operations(z: Matrix, workspace: Workspace): { operations: Operation[]; result: Matrix };
}

/** Places an interaction of a bottom output of `bottomWidth` with tables of `dims`, to multiply in `precision`. */
export async function placeInteraction(
  backend: Backend,
  interaction: Interaction,
  bottomWidth: number,
  dims: readonly number[],
  precision: DensePrecision,
): Promise<PlacedInteraction> {
  switch (interaction.kind) {
    case 'cat':
      return { operations: (z) => ({ operations: [], result: z }), [Symbol.dispose]() {} };
    case 'cross':
      return CrossNetwork.place(backend, interaction.layers, precision);
    case 'dot': {
      const { diagonal, order } = interaction;
      const width = interactionWidth(interaction, bottomWidth, dims);
      return {
        operations: (z, workspace) => {
          const result = workspace.matrix(z.rows, width);
          const pairs = columns(result, bottomWidth, width - bottomWidth);
          const operations: Operation[] = [
            { op: 'copy', input: columns(z, 0, bottomWidth), output: columns(result, 0, bottomWidth) },
            {
              op: 'dotInteraction',
              input: z,
              features: dims.length + 1,
              dim: bottomWidth,
              diagonal,
              order,
              precision,
              output: pairs,
            },
          ];
          return { operations, result };
        },
        [Symbol.dispose]() {},
      };
    }
    default:
      return interaction satisfies never;
  }
}
