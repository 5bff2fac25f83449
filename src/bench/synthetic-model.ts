/** Models that only exist to be timed: real shapes, random weights. */
import { at } from '../at.ts';
import { type Interaction, interactionWidth } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable, RowFormat } from '../embedding/bag.ts';
import { weightShape } from '../embedding/row-format.ts';
import type { CrossLayer, DlrmArchitecture } from '../model/architecture.ts';
import type { HostTensor } from '../tensor.ts';
import { createRandom } from '../workload/random.ts';

export interface CollectionShape {
  readonly tables: number;
  readonly rows: number;
  readonly dim: number;
  readonly rowFormat: RowFormat;
}

/** Tables of seeded random rows. */
export function syntheticTables({ tables, rows, dim, rowFormat }: CollectionShape): EmbeddingTable[] {
  return Array.from({ length: tables }, (_, t) => syntheticTable(t, rows, dim, rowFormat));
}

function syntheticTable(t: number, rows: number, dim: number, rowFormat: RowFormat): EmbeddingTable {
  const weight = { ...weightShape({ rows, dim, rowFormat }), seed: t + 1 };
  return { name: `table_${t}`, weight, rows, dim, rowFormat, mode: 'sum' };
}

/** Inner widths of the paper's MLPs: bottom 1024-512-128-D, top …-128-64-1. */
const PAPER = { denseFeatures: 1024, bottom: [512, 128], top: [128, 64] } as const;

/** Numbers of one layer's weights, at most: 4 GiB of them. */
const MOST_WEIGHTS = 2 ** 30;

/** A DLRM of the paper's MLPs around `tables`, which all have the same dim. @throws RangeError for more tables than a layer can take. */
export function syntheticModel(tables: readonly EmbeddingTable[]): DlrmArchitecture {
  const dims = tables.map((table) => table.dim);
  const dim = dims[0] ?? 1;
  const interaction: Interaction = { kind: 'dot', diagonal: false, order: 'lower' };
  const topInputs = interactionWidth(interaction, dim, dims);
  const weights = topInputs * PAPER.top[0];
  if (weights > MOST_WEIGHTS)
    throw new RangeError(
      `the products of ${tables.length} tables with each other are ${topInputs} inputs of the top MLP, whose first layer has ${weights} weights then, more than ${MOST_WEIGHTS}`,
    );
  return {
    naming: 'synthetic',
    denseFeatures: PAPER.denseFeatures,
    tables,
    bottom: mlp('bot_l', PAPER.denseFeatures, [...PAPER.bottom, dim], 'relu'),
    interaction,
    top: mlp('top_l', topInputs, [...PAPER.top, 1], 'sigmoid'),
  };
}

/**
 * MLPerf's DLRM-DCNv2: 26 tables of dim 128 over Criteo's multi-hot categories, bottom 13-512-256-128, three cross layers of
 * rank 512, top 1024-1024-512-256-1 (mlcommons/training, recommendation_v2).
 */
const MLPERF_ROWS: readonly number[] = [
  40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956, 405282, 10, 2209, 11938, 155, 4,
  976, 14, 40000000, 40000000, 40000000, 590152, 12973, 108, 36,
];
const MLPERF_LOOKUPS: readonly number[] = [
  3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1,
];
const MLPERF = {
  denseFeatures: 13,
  bottom: [512, 256],
  top: [1024, 1024, 512, 256],
  crossLayers: 3,
  crossRank: 512,
} as const;

export interface MlperfShape {
  /** Its first tables; default: all 26. */
  readonly tables?: number;
  /** The most rows of a table; default: as they are. */
  readonly rows?: number;
  readonly dim: number;
  readonly rowFormat: RowFormat;
}

/** Bag lengths of its first tables, as `--bag-lengths` takes them. */
export function mlperfBagLengths(tables = MLPERF_ROWS.length): string {
  return MLPERF_LOOKUPS.slice(0, tables).join('/');
}

/** @throws RangeError for more tables than it has. */
export function mlperfModel({ tables: count, rows: most, dim, rowFormat }: MlperfShape): DlrmArchitecture {
  if (count !== undefined && count > MLPERF_ROWS.length)
    throw new RangeError(`the model has ${MLPERF_ROWS.length} tables, not ${count}`);
  const tables = MLPERF_ROWS.slice(0, count).map((rows, t) =>
    syntheticTable(t, Math.min(rows, most ?? rows), dim, rowFormat),
  );
  const width = dim * (tables.length + 1);
  const layers = Array.from({ length: MLPERF.crossLayers }, (_, i) =>
    crossLayer(`cross.${i}`, width, MLPERF.crossRank, 2000 + 2 * i),
  );
  return {
    naming: 'synthetic',
    denseFeatures: MLPERF.denseFeatures,
    tables,
    bottom: mlp('bottom', MLPERF.denseFeatures, [...MLPERF.bottom, dim], 'relu'),
    interaction: { kind: 'cross', layers },
    top: mlp('top', width, [...MLPERF.top, 1], 'sigmoid'),
  };
}

/**
 * A collection as serving models have it, where no two features are alike: dims of 16 to 256, 10 to 1,000,000 rows, bags of 1 to
 * 150 lookups, each dim with each number of rows, each number of rows with every kind of bags.
 */
const MIXED_DIMS: readonly number[] = [16, 32, 64, 128, 256];
const MIXED_ROWS: readonly number[] = [1_000_000, 100_000, 1000, 10];
const MIXED_LENGTHS: readonly string[] = ['1', 'uniform:1:10', 'poisson:30', '150'];
const MIXED_TABLES = MIXED_DIMS.length * MIXED_ROWS.length;
const MIXED = { denseFeatures: 13, bottom: [512, 256], bottomWidth: 64, top: [1024, 512, 256] } as const;

/** Bag lengths of its first tables, as `--bag-lengths` takes them. */
export function mixedBagLengths(tables = MIXED_TABLES): string {
  const lengths = Array.from({ length: tables }, (_, t) => {
    const [dim, rows] = [t % MIXED_DIMS.length, Math.floor(t / MIXED_DIMS.length)];
    return at(MIXED_LENGTHS, (dim + rows + 3) % MIXED_LENGTHS.length);
  });
  return lengths.join('/');
}

export interface MixedShape {
  /** Its first tables; default: all 20. */
  readonly tables?: number;
  /** The most rows of a table; default: as they are. */
  readonly rows?: number;
  readonly rowFormat: RowFormat;
}

/** @throws RangeError for more tables than it has. */
export function mixedModel({
  tables: count = MIXED_TABLES,
  rows: most,
  rowFormat,
}: MixedShape): DlrmArchitecture {
  if (count > MIXED_TABLES) throw new RangeError(`the model has ${MIXED_TABLES} tables, not ${count}`);
  const tables = Array.from({ length: count }, (_, t) => {
    const dim = at(MIXED_DIMS, t % MIXED_DIMS.length);
    const rows = at(MIXED_ROWS, Math.floor(t / MIXED_DIMS.length));
    return syntheticTable(t, Math.min(rows, most ?? rows), dim, rowFormat);
  });
  const width = tables.reduce<number>((sum, { dim }) => sum + dim, MIXED.bottomWidth);
  return {
    naming: 'synthetic',
    denseFeatures: MIXED.denseFeatures,
    tables,
    bottom: mlp('bottom', MIXED.denseFeatures, [...MIXED.bottom, MIXED.bottomWidth], 'relu'),
    interaction: { kind: 'cat' },
    top: mlp('top', width, [...MIXED.top, 1], 'sigmoid'),
  };
}

function crossLayer(name: string, width: number, rank: number, seed: number): CrossLayer {
  return {
    name,
    v: randomMatrix(rank, width, seed),
    w: randomMatrix(width, rank, seed + 1),
    bias: { dtype: 'float32', shape: [width], data: new Float32Array(width) },
    width,
    rank,
  };
}

/** Layers of He-scaled random weights: activations neither vanish nor overflow. */
function mlp(
  name: string,
  inputs: number,
  widths: readonly number[],
  last: LinearLayer['activation'],
): LinearLayer[] {
  return widths.map((outputs, i) => {
    const fanIn = widths[i - 1] ?? inputs;
    return {
      name: `${name}.${2 * i}`,
      weight: randomMatrix(outputs, fanIn, 1000 + i),
      bias: { dtype: 'float32', shape: [outputs], data: new Float32Array(outputs) },
      inputs: fanIn,
      outputs,
      activation: i === widths.length - 1 ? last : 'relu',
    };
  });
}

/** [outputs, inputs], uniform within ±√(6 / inputs). */
function randomMatrix(outputs: number, inputs: number, seed: number): HostTensor {
  const random = createRandom(seed);
  const scale = Math.sqrt(6 / inputs);
  const data = Float32Array.from({ length: outputs * inputs }, () => (2 * random.float() - 1) * scale);
  return { dtype: 'float32', shape: [outputs, inputs], data };
}
