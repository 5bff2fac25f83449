/** Checkpoints whose layers are wide enough for 8 bits, and requests for them. */

import type { DlrmRequest } from '../../src/model/request/request.ts';
import type { HostTensor } from '../../src/tensor.ts';
import type { NamedTensors } from './checkpoints.ts';
import type { Random } from './random.ts';

const DENSE = 4;
const DIM = 16;
const ROWS = [40, 50];

function values(random: Random, scale: number, ...shape: number[]): HostTensor {
  const count = shape.reduce((product, extent) => product * extent, 1);
  return { dtype: 'float32', shape, data: random.reals(count).map((x) => x * scale) };
}

function linear(tensors: NamedTensors, random: Random, name: string, outputs: number, inputs: number): void {
  tensors.set(`${name}.weight`, values(random, 2 / Math.sqrt(inputs), outputs, inputs));
  tensors.set(`${name}.bias`, values(random, 0.2, outputs));
}

/** facebookresearch/dlrm: of five layers three are wide enough, bot_l.2, top_l.0, top_l.2. */
export function wideDlrm(random: Random): NamedTensors {
  const tensors: NamedTensors = new Map();
  for (const [t, rows] of ROWS.entries()) tensors.set(`emb_l.${t}.weight`, values(random, 1, rows, DIM));
  linear(tensors, random, 'bot_l.0', 32, DENSE);
  linear(tensors, random, 'bot_l.2', DIM, 32);
  linear(tensors, random, 'top_l.0', 48, DIM + 3);
  linear(tensors, random, 'top_l.2', 32, 48);
  linear(tensors, random, 'top_l.4', 1, 32);
  return tensors;
}

/** TorchRec's DLRM_DCN of two cross layers, 48 wide, rank 16. */
export function wideDcn(random: Random): NamedTensors {
  const tensors: NamedTensors = new Map();
  for (const [t, rows] of ROWS.entries())
    tensors.set(
      `sparse_arch.embedding_bag_collection.embedding_bags.t${t}.weight`,
      values(random, 1, rows, DIM),
    );
  linear(tensors, random, 'dense_arch.model._mlp.0._linear', DIM, DENSE);
  for (const i of [0, 1]) {
    tensors.set(`inter_arch.crossnet.V_kernels.${i}`, values(random, 0.3, 16, 48));
    tensors.set(`inter_arch.crossnet.W_kernels.${i}`, values(random, 0.3, 48, 16));
    tensors.set(`inter_arch.crossnet.bias.${i}`, values(random, 0.1, 48));
  }
  linear(tensors, random, 'over_arch.model.0._mlp.0._linear', 32, 48);
  linear(tensors, random, 'over_arch.model.1', 1, 32);
  return tensors;
}

/** Samples with a lookup or two of each table. */
export function wideRequest(random: Random, batchSize: number): DlrmRequest {
  return {
    batchSize,
    denseFeatures: DENSE,
    dense: random.reals(batchSize * DENSE).map((x) => 2 * x),
    bags: ROWS.map((rows, t) => ({
      indices: Int32Array.from({ length: batchSize * (t + 1) }, () => random.integer(0, rows - 1)),
      offsets: Int32Array.from({ length: batchSize + 1 }, (_, b) => b * (t + 1)),
    })),
  };
}

/** The tensors of a request's file. */
export function requestTensors({ dense, denseFeatures, batchSize, bags }: DlrmRequest): NamedTensors {
  const tensors: NamedTensors = new Map([
    ['dense', { dtype: 'float32', shape: [batchSize, denseFeatures], data: dense }],
  ]);
  for (const [t, { indices, offsets }] of bags.entries()) {
    const parts = { indices: indices as Int32Array, offsets: offsets as Int32Array };
    for (const [name, data] of Object.entries(parts))
      tensors.set(`${name}.${t}`, { dtype: 'int32', shape: [data.length], data });
  }
  return tensors;
}
