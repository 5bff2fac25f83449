/** Near relatives that run: full-rank cross layers and layers without bias, against sums in double precision. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { loadModel } from '../../src/model/load-model.ts';
import { type NamedTensors, torchrecTensors, values, writeCheckpoint } from '../support/checkpoints.ts';
import { Random } from '../support/random.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-relatives-'));
});
after(() => rm(folder, { recursive: true }));

const DENSE = [0.5, -1, 2];
/** Rows of table 0 and of table 1 that the one sample reads. */
const BAGS = [
  [1, 2],
  [0, 6, 3],
];

type Vector = readonly number[];

/** A part of a model over a checkpoint's tensors; a parameter that is not there is left out. */
class Reference {
  constructor(readonly tensors: NamedTensors) {}

  #rows(name: string): Vector[] | undefined {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) return undefined;
    const data = Array.from(tensor.data as Float32Array);
    const width = tensor.shape[1] ?? 1;
    return Array.from({ length: tensor.shape[0] as number }, (_, r) =>
      data.slice(r * width, (r + 1) * width),
    );
  }

  linear(weight: string, bias: string, x: Vector): Vector {
    const biases = this.#rows(bias)?.flat() ?? [];
    return (this.#rows(weight) ?? []).map((row, o) =>
      row.reduce((sum, w, i) => sum + w * (x[i] as number), biases[o] ?? 0),
    );
  }

  pooled(table: string, bag: Vector): Vector {
    const rows = this.#rows(`sparse_arch.embedding_bag_collection.embedding_bags.${table}.weight`) ?? [];
    return (rows[0] ?? []).map((_, d) => bag.reduce((sum, r) => sum + (rows[r]?.[d] as number), 0));
  }

  /** The bottom MLP's output and the pooled rows. */
  vectors(): Vector[] {
    const relu = (x: Vector) => x.map((value) => Math.max(0, value));
    const layer = (i: number, x: Vector) => {
      const name = `dense_arch.model._mlp.${i}._linear`;
      return relu(this.linear(`${name}.weight`, `${name}.bias`, x));
    };
    return [
      layer(1, layer(0, DENSE)),
      this.pooled('t_0', BAGS[0] as Vector),
      this.pooled('t_1', BAGS[1] as Vector),
    ];
  }

  probability(z: Vector): number {
    const name = 'over_arch.model.0._mlp.0._linear';
    const hidden = this.linear(`${name}.weight`, `${name}.bias`, z).map((value) => Math.max(0, value));
    const [logit] = this.linear('over_arch.model.1.weight', 'over_arch.model.1.bias', hidden);
    return 1 / (1 + Math.exp(-(logit as number)));
  }
}

async function score(tensors: NamedTensors): Promise<number> {
  const file = await writeCheckpoint(join(folder, 'model.safetensors'), tensors);
  await using model = await loadModel(file, { device: 'cpu', threads: 1 });
  const bags = BAGS.map((bag) => ({ indices: Int32Array.from(bag), offsets: Int32Array.of(0) }));
  const request = { batchSize: 1, dense: Float32Array.from(DENSE), denseFeatures: 3, bags };
  return (await model.predict(request)).probabilities[0] as number;
}

/** The products of pairs, in the order of the upper triangle. */
function dot(vectors: readonly Vector[]): Vector {
  const product = (a: Vector, b: Vector) => a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
  const pairs = vectors.flatMap((a, i) => vectors.slice(i + 1).map((b) => product(a, b)));
  return [...(vectors[0] ?? []), ...pairs];
}

/** float32 against double: sums of at most 12 products of values below 10. */
const near = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) < 1e-6, `${actual}, expected ${expected}`);

test('full-rank cross layers, their bias [width, 1] or [width]', async () => {
  for (const [layers, bias] of [
    [1, [12, 1]],
    [3, [12]],
  ] as const) {
    const random = new Random(5 + layers);
    const tensors = torchrecTensors({ tables: ['t_0', 't_1'] });
    tensors.set('over_arch.model.0._mlp.0._linear.weight', values(random, 6, 12));
    for (let i = 0; i < layers; i++) {
      tensors.set(`inter_arch.crossnet.kernels.${i}`, values(random, 12, 12));
      tensors.set(`inter_arch.crossnet.bias.${i}`, values(random, ...bias));
    }
    const reference = new Reference(tensors);
    const x0 = reference.vectors().flat();
    let x = x0;
    for (let i = 0; i < layers; i++) {
      const product = reference.linear(
        `inter_arch.crossnet.kernels.${i}`,
        `inter_arch.crossnet.bias.${i}`,
        x,
      );
      x = x.map((value, d) => (x0[d] as number) * (product[d] as number) + value);
    }
    near(await score(tensors), reference.probability(x));
  }
});

describe('layers without bias', () => {
  for (const part of ['dense_arch', 'over_arch', '']) {
    test(part === '' ? 'of both MLPs' : `of ${part}`, async () => {
      const tensors = torchrecTensors({ tables: ['t_0', 't_1'] });
      for (const name of [...tensors.keys()])
        if (name.startsWith(part) && name.endsWith('.bias')) tensors.delete(name);
      const reference = new Reference(tensors);
      near(await score(tensors), reference.probability(dot(reference.vectors())));
    });
  }

  test('beside layers of the same MLP that have one are refused', async () => {
    const tensors = torchrecTensors({ tables: ['t_0', 't_1'] });
    tensors.delete('dense_arch.model._mlp.1._linear.bias');
    await assert.rejects(score(tensors), {
      code: 'CHECKPOINT_INCONSISTENT',
      message:
        /dense_arch\.model\._mlp\.1\._linear\.bias is missing, while .*_mlp\.0\._linear\.bias is there/,
    });
  });
});
