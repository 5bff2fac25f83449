/** Small models with seeded weights, and requests for them. */

import type { EmbeddingTable } from '../../src/embedding/bag.ts';
import type {
  Activation,
  BlocksArchitecture,
  DlrmArchitecture,
  Interaction,
  LinearLayer,
  ModelArchitecture,
} from '../../src/model/architecture.ts';
import { interactionWidth } from '../../src/model/architecture.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { INTEGER_TYPES, type IntegerType, randomBags, randomTable } from './cases.ts';
import type { Random } from './random.ts';

function tensor(values: Float32Array, ...shape: number[]): HostTensor {
  return { dtype: 'float32', shape, data: values };
}

/** Values of about 1/√fan-in, so that activations neither vanish nor explode. */
function scaled(random: Random, count: number, fanIn: number): Float32Array {
  return random.reals(count).map((x) => x / Math.sqrt(fanIn));
}

function mlp(random: Random, name: string, widths: readonly number[], last: Activation): LinearLayer[] {
  return widths.slice(1).map((outputs, i): LinearLayer => {
    const inputs = widths[i] as number;
    return {
      name: `${name}.${i}`,
      weight: tensor(scaled(random, outputs * inputs, inputs), outputs, inputs),
      bias: tensor(scaled(random, outputs, inputs), outputs),
      inputs,
      outputs,
      activation: i === widths.length - 2 ? last : 'relu',
    };
  });
}

export type InteractionKind = 'dot-lower' | 'dot-diagonal' | 'dot-upper' | 'cat' | 'cross';
export const INTERACTIONS: readonly InteractionKind[] = [
  'dot-lower',
  'dot-diagonal',
  'dot-upper',
  'cat',
  'cross',
];

const DENSE_FEATURES = 5;

/** A DLRM of a few small tables with the interaction of that kind. */
export function smallModel(random: Random, kind: InteractionKind): DlrmArchitecture {
  const bottomWidth = 12;
  const dims = kind.startsWith('dot') ? [12, 12, 12] : [12, 3, 20];
  const tables = dims.map((dim, t) =>
    randomTable(random, {
      name: `t${t}`,
      rows: 30 + t,
      dim,
      rowFormat: (['float32', 'float16', 'bfloat16'] as const)[t] ?? 'float32',
      mode: (['sum', 'mean', 'max'] as const)[t] ?? 'sum',
      ...(t === 0 ? { paddingIdx: 7 } : {}),
    }),
  );
  const width = dims.reduce((sum, dim) => sum + dim, bottomWidth);
  const rank = 6;
  const interaction: Interaction =
    kind === 'cat'
      ? { kind }
      : kind === 'cross'
        ? {
            kind,
            layers: [0, 1].map((i) => ({
              name: `cross.${i}`,
              v: tensor(scaled(random, rank * width, width), rank, width),
              w: tensor(scaled(random, width * rank, rank), width, rank),
              bias: tensor(scaled(random, width, rank), width),
              width,
              rank,
            })),
          }
        : { kind: 'dot', diagonal: kind === 'dot-diagonal', order: kind === 'dot-upper' ? 'upper' : 'lower' };
  const topInputs = interactionWidth(interaction, bottomWidth, dims);
  return {
    naming: 'synthetic',
    denseFeatures: DENSE_FEATURES,
    tables,
    bottom: mlp(random, 'bottom', [DENSE_FEATURES, 17, bottomWidth], 'relu'),
    interaction,
    top: mlp(random, 'top', [topInputs, 19, 1], 'sigmoid'),
  };
}

/** Tables of one dim, so that their rows can be multiplied. */
function alikeTables(random: Random): EmbeddingTable[] {
  return [0, 1].map((t) =>
    randomTable(random, { name: `t${t}`, rows: 30 + t, dim: 12, rowFormat: 'float32', mode: 'sum' }),
  );
}

/** TorchRec's SimpleDeepFMNN. */
export function deepFmModel(random: Random): BlocksArchitecture {
  const vectors = ['bottom', 'pooled'];
  return {
    naming: 'synthetic',
    denseFeatures: DENSE_FEATURES,
    tables: alikeTables(random),
    blocks: [
      { name: 'bottom', kind: 'mlp', inputs: ['dense'], layers: mlp(random, 'bottom', [5, 17, 12], 'relu') },
      { name: 'deep', kind: 'mlp', inputs: vectors, layers: mlp(random, 'deep', [36, 7], 'relu') },
      { name: 'fm', kind: 'factorization-machine', inputs: vectors },
      {
        name: 'top',
        kind: 'mlp',
        inputs: ['bottom', 'deep', 'fm'],
        layers: mlp(random, 'top', [20, 1], 'sigmoid'),
      },
    ],
    outputs: ['top'],
  };
}

/** Blocks of every kind, values that several take, alone and beside others; outputs of several widths. */
export function branchingModel(random: Random): BlocksArchitecture {
  const width = 24;
  const cross = (i: number) => ({
    name: `cross.${i}`,
    w: tensor(scaled(random, width * width, width), width, width),
    bias: tensor(scaled(random, width, width), width),
    width,
    rank: width,
  });
  return {
    naming: 'synthetic',
    denseFeatures: DENSE_FEATURES,
    tables: alikeTables(random),
    blocks: [
      { name: 'bottom', kind: 'mlp', inputs: ['dense'], layers: mlp(random, 'bottom', [5, 12], 'relu') },
      {
        name: 'raw',
        kind: 'mlp',
        inputs: ['pooled', 'dense'],
        layers: mlp(random, 'raw', [29, 9, 6], 'relu'),
      },
      { name: 'pairs', kind: 'dot', inputs: ['pooled', 'bottom'], diagonal: true, order: 'upper' },
      { name: 'crossed', kind: 'cross', inputs: ['pooled'], layers: [cross(0), cross(1)] },
      { name: 'fm', kind: 'factorization-machine', inputs: ['raw'] },
      { name: 'ctr', kind: 'mlp', inputs: ['pairs', 'raw'], layers: mlp(random, 'ctr', [12, 1], 'sigmoid') },
      {
        name: 'cvr',
        kind: 'mlp',
        inputs: ['crossed', 'ctr', 'fm', 'bottom'],
        layers: mlp(random, 'cvr', [38, 8, 3], 'none'),
        part: 'top',
      },
    ],
    outputs: ['cvr', 'ctr', 'pooled', 'pairs'],
  };
}

/** Tables and nothing else. */
export function tablesModel(random: Random): BlocksArchitecture {
  return {
    naming: 'synthetic',
    denseFeatures: 0,
    tables: alikeTables(random),
    blocks: [],
    outputs: ['pooled'],
  };
}

/** A request for `model`. */
export function smallRequest(random: Random, model: ModelArchitecture, batchSize: number): DlrmRequest {
  return {
    batchSize,
    denseFeatures: model.denseFeatures,
    dense: random.reals(batchSize * model.denseFeatures),
    bags: model.tables.map(({ rows }, t) =>
      randomBags(random, {
        batch: batchSize,
        rows,
        index: INTEGER_TYPES[t % 2] as IntegerType,
        offset: INTEGER_TYPES[(t + 1) % 2] as IntegerType,
        endOffset: t === 1,
        weighted: t === 0,
      }),
    ),
  };
}

/** The architecture of a DLRM. */
export function dlrmOf(architecture: ModelArchitecture): DlrmArchitecture {
  if ('blocks' in architecture) throw new TypeError('the model is no DLRM');
  return architecture;
}
