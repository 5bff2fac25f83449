import type { PoolingMode, RowFormat } from '../../../embedding/bag.ts';
import type { IntegerWidth, RowWeights } from '../kernels/source.ts';

/** What a kernel, of whichever family, must be compiled for to pool the bags of a table. */
export interface BagKind {
  readonly rowFormat: RowFormat;
  readonly dim: number;
  readonly index: IntegerWidth;
  readonly offset: IntegerWidth;
  readonly pooling: PoolingMode;
  /** Per-sample weights, learned weights per row, or none; with `sum` alone. */
  readonly weights: RowWeights;
  /** Whether the table has a row that lookups skip. */
  readonly padding: boolean;
  /** Whether index −1 stands for a pruned row. */
  readonly pruned: boolean;
  /** Needed from 2^31 rows on. */
  readonly wideRows: boolean;
  /** Whether there is a bag per user, and not one per sample. */
  readonly perUser: boolean;
}

/** The parts of an id that say how bags are given and pooled. */
export function lookupParts(
  kind: Pick<BagKind, 'index' | 'offset' | 'pooling' | 'weights' | 'padding' | 'pruned'>,
): string[] {
  return [
    kind.index.replace('int', 'i'),
    kind.offset.replace('int', 'o'),
    kind.pooling,
    ...(kind.weights === 'none' ? [] : [`w${kind.weights}`]),
    ...(kind.padding ? ['pad'] : []),
    ...(kind.pruned ? ['pruned'] : []),
  ];
}
