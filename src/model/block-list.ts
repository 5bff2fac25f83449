/**
 * A model's head as it is described: an ordered list of blocks, each of which names what it takes. What there is to take are
 * the model's inputs, `dense` [B, F] and `pooled`, the tables' pooled rows side by side [B, Σ dim], and the blocks before.
 */
import type { BlockContent } from '../dense/blocks.ts';

/** Parts of a head, whose times are told apart. */
export const PARTS = ['bottom', 'interaction', 'top'] as const;
export type Part = (typeof PARTS)[number];

/** A block at its place. */
export type Block = BlockContent & {
  /** Told apart from all others; neither `dense` nor `pooled`. */
  readonly name: string;
  /** What it takes, side by side: `dense`, `pooled`, blocks before it. */
  readonly inputs: readonly string[];
  /**
   * What its time counts for. Default: `bottom` before any pooled row is met; `top` for the model's outputs; `interaction`.
   */
  readonly part?: Part;
};

/** Blocks in an order in which they can run, and those whose results are the model's. */
export interface BlockList {
  readonly blocks: readonly Block[];
  /** Names of blocks, or `pooled`. */
  readonly outputs: readonly string[];
}
