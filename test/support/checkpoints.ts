/** Small checkpoints under any names, with seeded values, written as safetensors. */
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { Random } from './random.ts';

export type NamedTensors = Map<string, HostTensor>;

export function values(random: Random, ...shape: number[]): HostTensor {
  const count = shape.reduce((product, extent) => product * extent, 1);
  return { dtype: 'float32', shape, data: random.reals(count).map((x) => x / 2) };
}

/** A linear layer's weight and bias. */
function linear(tensors: NamedTensors, random: Random, name: string, outputs: number, inputs: number): void {
  tensors.set(`${name}.weight`, values(random, outputs, inputs));
  tensors.set(`${name}.bias`, values(random, outputs));
}

export interface TorchrecShape {
  readonly tables: readonly string[];
  /** Features that the dot interaction has; default: one a table. */
  readonly features?: number;
  readonly dim?: number;
}

/** TorchRec's DLRM: 3 numbers, tables of 6, 7, … rows, dot interaction. */
export function torchrecTensors({ tables, features = tables.length, dim = 4 }: TorchrecShape): NamedTensors {
  const random = new Random(11);
  const tensors: NamedTensors = new Map();
  tables.forEach((name, t) => {
    const parameter = `sparse_arch.embedding_bag_collection.embedding_bags.${name}.weight`;
    tensors.set(parameter, values(random, 6 + t, dim));
  });
  linear(tensors, random, 'dense_arch.model._mlp.0._linear', 5, 3);
  linear(tensors, random, 'dense_arch.model._mlp.1._linear', dim, 5);
  linear(tensors, random, 'over_arch.model.0._mlp.0._linear', 6, dim + (features * (features + 1)) / 2);
  linear(tensors, random, 'over_arch.model.1', 1, 6);
  return tensors;
}

/** facebookresearch/dlrm: 3 numbers, tables of 6, 7, … rows, dot interaction. */
export function facebookTensors(tables = 3, dim = 4): NamedTensors {
  const random = new Random(12);
  const tensors: NamedTensors = new Map();
  for (let t = 0; t < tables; t++) tensors.set(`emb_l.${t}.weight`, values(random, 6 + t, dim));
  linear(tensors, random, 'bot_l.0', 5, 3);
  linear(tensors, random, 'bot_l.2', dim, 5);
  linear(tensors, random, 'top_l.0', 6, dim + (tables * (tables + 1)) / 2);
  linear(tensors, random, 'top_l.2', 1, 6);
  return tensors;
}

/** The tensors under other names. */
export function renamed(tensors: NamedTensors, rename: (name: string) => string): NamedTensors {
  return new Map([...tensors].map(([name, tensor]) => [rename(name), tensor]));
}

export async function writeCheckpoint(file: string, tensors: NamedTensors): Promise<string> {
  await writeSafetensors(file, tensors);
  return file;
}
