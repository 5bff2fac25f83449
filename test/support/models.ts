/** Small models with seeded weights, and requests for them. */
import type {
  Activation,
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

/** A request for `model`. */
export function smallRequest(random: Random, model: DlrmArchitecture, batchSize: number): DlrmRequest {
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
