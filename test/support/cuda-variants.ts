/** The variants of the standard CUDA kernel that tests compile and run. */
import {
  PREFETCH_BUFFERS,
  type PrefetchBuffer,
  type StandardBagVariant,
} from '../../src/backend/cuda/kernel-source.ts';
import { ROW_FORMATS } from '../../src/embedding/bag.ts';

/** float32 rows, int64 indices and offsets, sum; no technique. */
export const PLAIN: StandardBagVariant = {
  family: 'standard_bag',
  rowFormat: 'float32',
  index: 'int64',
  offset: 'int64',
  pooling: 'sum',
  weights: 'none',
  padding: false,
  repair: false,
  wideRows: false,
  threads: 256,
};

export const DISTANCES = [1, 2, 3, 4, 5, 8, 10, 16];

export const prefetching = (into: PrefetchBuffer, distance: number): StandardBagVariant => ({
  ...PLAIN,
  prefetch: { into, distance },
});

/** Every buffer at many distances, otherwise plain. */
export const PREFETCH_VARIANTS: readonly StandardBagVariant[] = PREFETCH_BUFFERS.flatMap((into) =>
  DISTANCES.map((distance) => prefetching(into, distance)),
);

/** What tables and requests ask for, without techniques. */
export const SEMANTIC_VARIANTS: readonly StandardBagVariant[] = [
  PLAIN,
  ...ROW_FORMATS.flatMap((rowFormat) =>
    (['sum', 'mean', 'max'] as const).flatMap((pooling) =>
      [false, true].map((padding) => ({ ...PLAIN, rowFormat, pooling, padding })),
    ),
  ).filter(({ rowFormat, pooling, padding }) => rowFormat !== 'float32' || pooling !== 'sum' || padding),
  ...(['sample', 'row'] as const).flatMap((weights) => [
    { ...PLAIN, weights },
    { ...PLAIN, weights, padding: true },
  ]),
  { ...PLAIN, index: 'int32' },
  { ...PLAIN, offset: 'int32' },
  { ...PLAIN, index: 'int32', offset: 'int32' },
  { ...PLAIN, wideRows: true },
  { ...PLAIN, wideRows: true, index: 'int32' },
  { ...PLAIN, repair: true },
  { ...PLAIN, repair: true, index: 'int32', offset: 'int32' },
  { ...PLAIN, repair: true, padding: true, pooling: 'mean' },
  { ...PLAIN, repair: true, wideRows: true },
];

/** The same with one prefetch of every kind. */
export const COMBINED_VARIANTS: readonly StandardBagVariant[] = PREFETCH_BUFFERS.flatMap((into, i) => {
  const prefetch = { into, distance: [4, 3, 5, 4, 3][i] as number };
  return SEMANTIC_VARIANTS.filter((variant) => variant !== PLAIN).map((variant) => ({
    ...variant,
    prefetch,
  }));
});

export const ALL_VARIANTS: readonly StandardBagVariant[] = [
  ...SEMANTIC_VARIANTS,
  ...PREFETCH_VARIANTS,
  ...COMBINED_VARIANTS,
];
