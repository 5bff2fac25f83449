/** The kinds of blocks. A new one is a file beside this one, and a line in BLOCKS. */
import type { BlockKind } from './block.ts';
import { crossBlock } from './cross.ts';
import { dotBlock } from './dot.ts';
import { factorizationMachineBlock } from './factorization-machine.ts';
import { mlpBlock } from './linear.ts';

export const BLOCKS = {
  mlp: mlpBlock,
  dot: dotBlock,
  cross: crossBlock,
  'factorization-machine': factorizationMachineBlock,
} as const;

export type BlockName = keyof typeof BLOCKS;
export const BLOCK_NAMES = Object.freeze(Object.keys(BLOCKS) as BlockName[]) as readonly BlockName[];

/** What a block computes, of any kind. */
export type BlockContent = {
  [K in BlockName]: (typeof BLOCKS)[K] extends BlockKind<infer B> ? B : never;
}[BlockName];

/** The kind of a block. */
export function kindOf<B extends BlockContent>({ kind }: B): BlockKind<B> {
  return BLOCKS[kind] as unknown as BlockKind<B>;
}
