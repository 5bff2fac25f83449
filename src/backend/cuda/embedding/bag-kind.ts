import type { PoolingMode, RowFormat } from '../../../embedding/bag.ts';
import type { IntegerWidth, RowWeights } from '../kernels/source.ts';

/** What a kernel, of whichever family, must be compiled for to pool the bags of a table. */
export interface BagKind {
  readonly rowFormat: RowFormat;
  readonly dim: number;
  readonly index: IntegerWidth;
  readonly offset: IntegerWidth;
  readonly pooling: PoolingMode;
  readonly weights: RowWeights;
  readonly padding: boolean;
  /** Whether index −1 stands for a pruned row. */
  readonly pruned: boolean;
  /** Needed from 2^31 rows on. */
  readonly wideRows: boolean;
  /** Whether there is a bag per user, and not one per sample. */
  readonly perUser: boolean;
}
