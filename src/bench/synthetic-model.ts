/** Models that only exist to be timed: real shapes, random weights. */
import { type Interaction, interactionWidth } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable, RowFormat } from '../embedding/bag.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import { createRandom } from '../workload/random.ts';

export interface CollectionShape {
  readonly tables: number;
  readonly rows: number;
  readonly dim: number;
  readonly rowFormat: RowFormat;
}

/** Tables of seeded random rows. */
export function syntheticTables({ tables, rows, dim, rowFormat }: CollectionShape): EmbeddingTable[] {
  return Array.from({ length: tables }, (_, t) => ({
    name: `table_${t}`,
    weight: { dtype: rowFormat, shape: [rows, dim], seed: t + 1 },
    rows,
    dim,
    rowFormat,
    mode: 'sum' as const,
  }));
}

/** Inner widths of the paper's MLPs: bottom 1024-512-128-D, top …-128-64-1. */
const DENSE_FEATURES = 1024;
const BOTTOM_WIDTHS = [512, 128];
const TOP_WIDTHS = [128, 64];

/** A DLRM of the paper's MLPs around `tables`, which all have the same dim. */
export function syntheticModel(tables: readonly EmbeddingTable[]): DlrmArchitecture {
  const dims = tables.map((table) => table.dim);
  const dim = dims[0] ?? 1;
  const interaction: Interaction = { kind: 'dot', diagonal: false, order: 'lower' };
  const topInputs = interactionWidth(interaction, dim, dims);
  return {
    naming: 'synthetic',
    denseFeatures: DENSE_FEATURES,
    tables,
    bottom: mlp('bot_l', DENSE_FEATURES, [...BOTTOM_WIDTHS, dim], 'relu'),
    interaction,
    top: mlp('top_l', topInputs, [...TOP_WIDTHS, 1], 'sigmoid'),
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
    const random = createRandom(1000 + i);
    const scale = Math.sqrt(6 / fanIn);
    const values = Float32Array.from({ length: outputs * fanIn }, () => (2 * random.float() - 1) * scale);
    return {
      name: `${name}.${2 * i}`,
      weight: { dtype: 'float32', shape: [outputs, fanIn], data: values },
      bias: { dtype: 'float32', shape: [outputs], data: new Float32Array(outputs) },
      inputs: fanIn,
      outputs,
      activation: i === widths.length - 1 ? last : 'relu',
    };
  });
}
