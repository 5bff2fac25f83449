/** The variants of the standard CUDA kernel that tests compile and run. */

import type { FusedKind, FusedVariant } from '../../src/backend/cuda/embedding/fused-source.ts';
import { PLAIN_VARIANT, type StandardBagVariant } from '../../src/backend/cuda/embedding/standard-source.ts';
import { ROW_FORMATS } from '../../src/embedding/bag.ts';
import type { PrefetchBuffer } from '../../src/plan/kernel-families.ts';
import { PREFETCH_BUFFERS } from '../../src/plan/techniques/prefetch.ts';

export const DISTANCES = [1, 2, 3, 4, 5, 8, 10, 16];

export const prefetching = (into: PrefetchBuffer, distance: number): StandardBagVariant => ({
  ...PLAIN_VARIANT,
  prefetch: { into, distance },
});

/** Every buffer at many distances, otherwise plain. */
export const PREFETCH_VARIANTS: readonly StandardBagVariant[] = PREFETCH_BUFFERS.flatMap((into) =>
  DISTANCES.map((distance) => prefetching(into, distance)),
);

/** What tables and requests ask for, without techniques. */
export const SEMANTIC_VARIANTS: readonly StandardBagVariant[] = [
  PLAIN_VARIANT,
  ...ROW_FORMATS.flatMap((rowFormat) =>
    (['sum', 'mean', 'max'] as const).flatMap((pooling) =>
      [false, true].map((padding) => ({ ...PLAIN_VARIANT, rowFormat, pooling, padding })),
    ),
  ).filter(({ rowFormat, pooling, padding }) => rowFormat !== 'float32' || pooling !== 'sum' || padding),
  ...(['sample', 'row'] as const).flatMap((weights) => [
    { ...PLAIN_VARIANT, weights },
    { ...PLAIN_VARIANT, weights, padding: true },
  ]),
  { ...PLAIN_VARIANT, index: 'int32' },
  { ...PLAIN_VARIANT, offset: 'int32' },
  { ...PLAIN_VARIANT, index: 'int32', offset: 'int32' },
  { ...PLAIN_VARIANT, wideRows: true },
  { ...PLAIN_VARIANT, wideRows: true, index: 'int32' },
  { ...PLAIN_VARIANT, repair: true },
  { ...PLAIN_VARIANT, repair: true, index: 'int32', offset: 'int32' },
  { ...PLAIN_VARIANT, repair: true, padding: true, pooling: 'mean' },
  { ...PLAIN_VARIANT, repair: true, wideRows: true },
  { ...PLAIN_VARIANT, pruned: true },
  { ...PLAIN_VARIANT, pruned: true, padding: true, pooling: 'mean', index: 'int32' },
  { ...PLAIN_VARIANT, pruned: true, padding: true, pooling: 'max', rowFormat: 'float16' },
  { ...PLAIN_VARIANT, pruned: true, weights: 'row', rowFormat: 'int8' },
  { ...PLAIN_VARIANT, pruned: true, repair: true, wideRows: true, pooling: 'mean' },
];

/** The same with one prefetch of every kind. */
export const COMBINED_VARIANTS: readonly StandardBagVariant[] = PREFETCH_BUFFERS.flatMap((into, i) => {
  const prefetch = { into, distance: [4, 3, 5, 4, 3][i] as number };
  return SEMANTIC_VARIANTS.filter((variant) => variant !== PLAIN_VARIANT).map((variant) => ({
    ...variant,
    prefetch,
  }));
});

export const ALL_VARIANTS: readonly StandardBagVariant[] = [
  ...SEMANTIC_VARIANTS,
  ...PREFETCH_VARIANTS,
  ...COMBINED_VARIANTS,
];

/** Of the artifact's kernel: what tables and requests ask for, each prefetch that it has, and some of both. */
export const ARTIFACT_VARIANTS: readonly StandardBagVariant[] = [
  ...SEMANTIC_VARIANTS,
  ...PREFETCH_VARIANTS,
  ...COMBINED_VARIANTS.filter((_, i) => i % 5 === 0),
].filter(({ prefetch }) => prefetch?.into !== 'pipelined');

const FUSED_KIND: FusedKind = {
  rowFormat: 'float32',
  dim: 128,
  index: 'int64',
  offset: 'int64',
  pooling: 'sum',
  weights: 'none',
  padding: false,
  pruned: false,
  wideRows: false,
  perUser: false,
};

const fused = (change: Partial<FusedVariant>, ...kinds: readonly Partial<FusedKind>[]): FusedVariant => ({
  kinds: (kinds.length === 0 ? [{}] : kinds).map((kind) => ({ ...FUSED_KIND, ...kind })),
  checking: 'stop',
  splits: false,
  several: false,
  flight: { rows: 4, pipelined: false },
  threads: 128,
  ...change,
});

/** Fused kernels of the main shapes, and of every feature beside others. */
export const FUSED_VARIANTS: readonly FusedVariant[] = [
  ...ROW_FORMATS.flatMap((rowFormat) =>
    [
      { rows: 4, pipelined: false },
      { rows: 8, pipelined: false },
      { rows: 8, pipelined: true },
    ].flatMap((flight) => [
      fused({ flight }, { rowFormat }),
      fused({ flight, checking: 'none' }, { rowFormat }),
    ]),
  ),
  ...([8, 4] as const).map((laneBytes) =>
    fused({ flight: { rows: 16, pipelined: false } }, { laneBytes }, { rowFormat: 'int8', laneBytes }),
  ),
  fused({ splits: true }),
  fused({ several: true }, { dim: 16 }),
  fused({}, { perUser: true }),
  fused({ output: 'float16', rounds: true }, { rowFormat: 'float16' }, { perUser: true }),
  fused({ splits: true, several: true }, {}, { perUser: true }, { dim: 1000, perUser: true }),
  fused({ splits: true, several: true, checking: 'repair' }, { dim: 64, index: 'int32', offset: 'int32' }),
  fused({}, { pruned: true }, { pruned: true, pooling: 'mean', dim: 16 }),
  fused({}, { weights: 'sample', padding: true }, { weights: 'row' }, { pooling: 'mean', padding: true }),
  fused(
    { splits: true },
    { pooling: 'max', dim: 33 },
    { dim: 1000 },
    { dim: 1, rowFormat: 'float16' },
    { wideRows: true },
  ),
];
