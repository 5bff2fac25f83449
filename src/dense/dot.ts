/** Dot products of vectors, each with each: facebookresearch/dlrm's interact_features, TorchRec's InteractionArch. */
import Type from 'typebox';
import { at } from '../at.ts';
import { flag, oneOf } from '../checks/value.ts';
import { type BlockKind, refuseLayers, withoutWeights } from './block.ts';
import { referenceDotInteraction } from './reference.ts';
import { inconsistent } from './weights.ts';

/**
 * One triangle of Z·Zᵀ, Z the vectors as [n, D]. facebookresearch/dlrm takes the strict lower triangle row by row (`lower`;
 * with `diagonal` when trained with --arch-interaction-itself), TorchRec the strict upper one (`upper`).
 */
export interface DotBlock {
  readonly kind: 'dot';
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
}

/** Pairs of `vectors` vectors. */
export function pairCount(vectors: number, diagonal: boolean): number {
  return (vectors * (vectors + (diagonal ? 1 : -1))) / 2;
}

/** As descriptions have it. */
interface Described {
  readonly triangle: DotBlock['order'];
  readonly diagonal?: boolean;
}

export const dotBlock: BlockKind<DotBlock> = {
  writesPadding: true,
  schema: {
    triangle: Type.Enum(['lower', 'upper'], {
      description: "the order of the pairs: facebookresearch/dlrm's or TorchRec's triangle of Z·Zᵀ",
    }),
    diagonal: Type.Optional(
      Type.Boolean({ description: 'products of vectors with themselves too; default: false' }),
    ),
  },
  stored(block) {
    refuseLayers(block, 'dot');
    const { triangle, diagonal = false } = block.described as unknown as Described;
    return { kind: 'dot', diagonal, order: triangle };
  },
  describe: ({ diagonal, order }) => ({ triangle: order, ...(diagonal ? { diagonal } : {}) }),
  members: { kind: oneOf(['dot']), diagonal: flag, order: oneOf(['lower', 'upper']) },
  width({ diagonal }, vectors) {
    if (vectors.some((width) => width !== vectors[0]))
      inconsistent(`dot products need vectors of one width, theirs are ${vectors.join(', ')}`);
    return pairCount(vectors.length, diagonal);
  },
  title: ({ diagonal, order }, vectors) =>
    `dot of ${vectors.length} vectors of ${vectors[0]}, ${diagonal ? `${order} triangle with the diagonal` : `strict ${order} triangle`}`,
  parameters: () => 0,
  layers: () => [],
  async place({ precision }, { diagonal, order }, vectors) {
    const shape = { features: vectors.length, dim: at(vectors, 0), diagonal, order, precision };
    return withoutWeights((input, output) => [{ op: 'dotInteraction', input, ...shape, output }]);
  },
  async reference({ diagonal, order }, { batch, vectors, values }) {
    const shape = { batch, features: vectors.length, dim: at(vectors, 0), diagonal, order };
    return referenceDotInteraction({ ...shape, input: values });
  },
};
