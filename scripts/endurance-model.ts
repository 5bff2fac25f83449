/** A checkpoint of any size, for scripts that load it. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type StreamedTensor, writeSafetensors } from '../src/formats/safetensors.ts';
import type { HostTensor } from '../src/tensor.ts';
import { createRandom } from '../src/workload/random.ts';

export interface WrittenShape {
  readonly tables: number;
  /** Of each table. */
  readonly rows: number;
  readonly dim: number;
}

export const DENSE_FEATURES = 13;
const HIDDEN = 64;
const PIECE_FLOATS = 1 << 18;

const random = createRandom(1);
export const randomFloats = (count: number, scale: number) =>
  Float32Array.from({ length: count }, () => scale * (random.float() - 0.5));
const matrix = (...shape: [number, number] | [number]): HostTensor => {
  const count = shape.reduce((product, extent) => product * extent, 1);
  return { dtype: 'float32', shape, data: randomFloats(count, 0.1) };
};

/** Writes `model.safetensors` to a folder, and gives back its path. Rows repeat: nobody looks. */
export async function writeModel(folder: string, { tables, rows, dim }: WrittenShape): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const piece = Buffer.from(randomFloats(PIECE_FLOATS, 1).buffer);
  const table: StreamedTensor = {
    dtype: 'float32',
    shape: [rows, dim],
    byteLength: 4 * rows * dim,
    chunks: async function* () {
      for (let left = 4 * rows * dim; left > 0; left -= piece.length)
        yield piece.subarray(0, Math.min(left, piece.length));
    },
  };
  const pairs = dim + (tables * (tables + 1)) / 2;
  const layers: [string, number, number][] = [
    ['bot_l.0', HIDDEN, DENSE_FEATURES],
    ['bot_l.2', dim, HIDDEN],
    ['top_l.0', HIDDEN, pairs],
    ['top_l.2', 1, HIDDEN],
  ];
  const tensors = new Map<string, HostTensor | StreamedTensor>();
  for (let t = 0; t < tables; t++) tensors.set(`emb_l.${t}.weight`, table);
  for (const [name, outputs, inputs] of layers) {
    tensors.set(`${name}.weight`, matrix(outputs, inputs));
    tensors.set(`${name}.bias`, matrix(outputs));
  }
  const file = join(folder, 'model.safetensors');
  await writeSafetensors(file, tensors);
  return file;
}
