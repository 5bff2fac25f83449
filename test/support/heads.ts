/** Checkpoints of models that are no DLRM: 3 numbers, two tables of 6 and 7 rows. */
import { type NamedTensors, values } from './checkpoints.ts';
import { Random } from './random.ts';

/** The tables' dim. */
export const D = 4;

export function addLinear(
  tensors: NamedTensors,
  random: Random,
  name: string,
  outputs: number,
  inputs: number,
): void {
  tensors.set(`${name}.weight`, values(random, outputs, inputs));
  tensors.set(`${name}.bias`, values(random, outputs));
}

const EBC = 'sparse_arch.embedding_bag_collection.embedding_bags';
export const TABLES: readonly string[] = [`${EBC}.t_0.weight`, `${EBC}.t_1.weight`];

/** SimpleDeepFMNN(num_dense_features=3, hidden_layer_size=5, deep_fm_dimension=6) over two tables of dim 4. */
export function deepFmTensors(features = 2): NamedTensors {
  const random = new Random(21);
  const tensors: NamedTensors = new Map();
  for (const [t, name] of TABLES.entries()) tensors.set(name, values(random, 6 + t, D));
  addLinear(tensors, random, 'dense_arch.model.0', 5, 3);
  addLinear(tensors, random, 'dense_arch.model.2', D, 5);
  addLinear(tensors, random, 'inter_arch.deep_fm.dense_module.0', 6, D * (features + 1));
  addLinear(tensors, random, 'over_arch.model.0', 1, D + 6 + 1);
  return tensors;
}

/** Two towers over a trunk of dense and pooled, one of which the other reads too. */
export function taskTensors(): NamedTensors {
  const random = new Random(31);
  const tensors: NamedTensors = new Map();
  for (const [t, name] of TABLES.entries()) tensors.set(name, values(random, 6 + t, D));
  addLinear(tensors, random, 'trunk.0', 7, 3 + 2 * D);
  addLinear(tensors, random, 'trunk.1', 5, 7);
  addLinear(tensors, random, 'ctr', 1, 5);
  addLinear(tensors, random, 'cvr.0', 6, 5 + 1);
  addLinear(tensors, random, 'cvr.1', 2, 6);
  return tensors;
}

/** The description of `taskTensors`. */
export const TASKS = {
  names: {
    [`${EBC}.{name}.weight`]: 'tables.{name}.weight',
    'trunk.{i}.weight': 'blocks.trunk.{i}.weight',
    'trunk.{i}.bias': 'blocks.trunk.{i}.bias',
    'ctr.weight': 'blocks.ctr.last.weight',
    'ctr.bias': 'blocks.ctr.last.bias',
    'cvr.{i}.weight': 'blocks.cvr.{i}.weight',
    'cvr.{i}.bias': 'blocks.cvr.{i}.bias',
  },
  tables: [{ name: 't_0' }, { name: 't_1' }],
  dense: ['a', 'b', 'c'].map((name) => ({ name, preprocessing: 'none' })),
  blocks: [
    { name: 'trunk', kind: 'mlp', inputs: ['dense', 'pooled'], activations: ['relu', 'relu'] },
    { name: 'ctr', kind: 'mlp', inputs: ['trunk'] },
    { name: 'cvr', kind: 'mlp', inputs: ['trunk', 'ctr'], activations: ['relu', 'none'] },
  ],
  outputs: ['cvr', 'ctr', 'pooled'],
};
