import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ModelError } from '../../src/errors.ts';
import { inferArchitecture as inferAny } from '../../src/model/infer-architecture.ts';
import type { DType, StoredTensor } from '../../src/tensor.ts';
import { dlrmOf } from '../support/models.ts';

/** The architecture of a DLRM. */
const inferArchitecture = async (...args: Parameters<typeof inferAny>) => dlrmOf(await inferAny(...args));

type Shapes = Readonly<Record<string, readonly number[] | { dtype: DType; shape: readonly number[] }>>;

function stored(shapes: Shapes): Map<string, StoredTensor> {
  return new Map(
    Object.entries(shapes).map(([name, entry]) => {
      const { dtype, shape } = 'dtype' in entry ? entry : { dtype: 'float32' as const, shape: entry };
      return [name, { dtype, shape, file: '/none', byteOffset: 0, byteLength: 0 }];
    }),
  );
}

function mlp(prefix: string, widths: readonly number[]): Shapes {
  const layers = widths
    .slice(1)
    .flatMap((outputs, i) => [
      [`${prefix}.${2 * i}.weight`, [outputs, widths[i]]] as const,
      [`${prefix}.${2 * i}.bias`, [outputs]] as const,
    ]);
  return Object.fromEntries(layers) as Shapes;
}

const tables = (dims: readonly number[]): Shapes =>
  Object.fromEntries(dims.map((dim, t) => [`emb_l.${t}.weight`, [10 + t, dim]]));

/** facebookresearch/dlrm with bottom width 8, tables of `dims`, and a top MLP of `topInputs`. */
const facebook = (topInputs: number, dims: readonly number[] = [8, 8, 8]): Shapes => ({
  ...tables(dims),
  ...mlp('bot_l', [13, 16, 8]),
  ...mlp('top_l', [topInputs, 4, 1]),
});

const torchrec = (topInputs: number): Shapes => ({
  ...Object.fromEntries(
    [0, 1, 3, 2].map((t) => [
      `sparse_arch.embedding_bag_collection.embedding_bags.t_cat_${t}.weight`,
      [5 + t, 8],
    ]),
  ),
  'dense_arch.model._mlp.0._linear.weight': [8, 13],
  'dense_arch.model._mlp.0._linear.bias': [8],
  'over_arch.model.0._mlp.0._linear.weight': [6, topInputs],
  'over_arch.model.0._mlp.0._linear.bias': [6],
  'over_arch.model.1.weight': [1, 6],
  'over_arch.model.1.bias': [1],
});

async function refuses(
  shapes: Shapes,
  code: ModelError['code'],
  pattern: RegExp,
  overrides = {},
): Promise<void> {
  await assert.rejects(inferArchitecture(stored(shapes), overrides), (error: unknown) => {
    assert.ok(error instanceof ModelError, String(error));
    assert.equal(error.code, code);
    assert.match(`${error.message} ${error.hint ?? ''}`, pattern);
    return true;
  });
}

describe('facebookresearch/dlrm names', () => {
  test('dot, dot with the diagonal and cat follow from the width of the top MLP', async () => {
    // 4 vectors of 8: 8 + 6 pairs, 8 + 10 pairs, 32.
    const interaction = async (topInputs: number) =>
      (await inferArchitecture(stored(facebook(topInputs)))).interaction;
    assert.deepEqual(await interaction(14), { kind: 'dot', diagonal: false, order: 'lower' });
    assert.deepEqual(await interaction(18), { kind: 'dot', diagonal: true, order: 'lower' });
    assert.deepEqual(await interaction(32), { kind: 'cat' });
  });

  test('layers, activations and tables come in order', async () => {
    const architecture = await inferArchitecture(stored(facebook(14)));
    assert.equal(architecture.denseFeatures, 13);
    assert.deepEqual(
      [...architecture.bottom, ...architecture.top].map(({ name, inputs, outputs, activation }) => [
        name,
        inputs,
        outputs,
        activation,
      ]),
      [
        ['bot_l.0', 13, 16, 'relu'],
        ['bot_l.2', 16, 8, 'relu'],
        ['top_l.0', 14, 4, 'relu'],
        ['top_l.2', 4, 1, 'sigmoid'],
      ],
    );
    assert.deepEqual(
      architecture.tables.map(({ name, rows, mode }) => [name, rows, mode]),
      [
        ['emb_l.0', 10, 'sum'],
        ['emb_l.1', 11, 'sum'],
        ['emb_l.2', 12, 'sum'],
      ],
    );
  });

  test('eleven tables sort by number, not by letter', async () => {
    const dims = Array.from({ length: 11 }, () => 8);
    const { tables: inferred } = await inferArchitecture(stored(facebook(8 + 66, dims)));
    assert.deepEqual(
      inferred.map(({ rows }) => rows),
      dims.map((_, t) => 10 + t),
    );
  });

  test('a width that fits two interactions needs an override', async () => {
    // One table: dot gives 2 + 1, cat gives 2 + 1.
    const shapes = { 'emb_l.0.weight': [5, 1], ...mlp('bot_l', [3, 1]), ...mlp('top_l', [2, 1]) } as Shapes;
    await refuses(shapes, 'ARCHITECTURE_AMBIGUOUS', /--interaction dot or cat/);
    const { interaction } = await inferArchitecture(stored(shapes), { interaction: 'cat' });
    assert.equal(interaction.kind, 'cat');
  });

  test('learned pooling weights belong to their table', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'hotrow-architecture-'));
    t.after(() => rm(folder, { recursive: true }));
    const file = join(folder, 'weights');
    await writeFile(file, new Uint8Array(Float32Array.from({ length: 11 }, (_, i) => i).buffer));
    const tensors = stored(facebook(14));
    tensors.set('v_W_l.1', { dtype: 'float32', shape: [11], file, byteOffset: 0, byteLength: 44 });
    const { tables: inferred } = await inferArchitecture(tensors);
    assert.deepEqual([...(inferred[1]?.rowWeights ?? [])], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.equal(inferred[0]?.rowWeights, undefined);
  });

  test('shapes that do not fit together are named', async () => {
    await refuses(
      facebook(15),
      'CHECKPOINT_INCONSISTENT',
      /takes 15 inputs.*dot gives 14.*dot-diagonal gives 18.*cat gives 32/,
    );
    await refuses(facebook(14), 'CHECKPOINT_INCONSISTENT', /does not fit interaction cat of/, {
      interaction: 'cat',
    });
    await refuses(facebook(14, [8, 8, 4]), 'CHECKPOINT_INCONSISTENT', /nothing, the dims differ/);
    await refuses(
      { ...facebook(14), 'bot_l.2.weight': [8, 15] },
      'CHECKPOINT_INCONSISTENT',
      /bot_l.2 takes 15 inputs, bot_l.0 gives 16/,
    );
    await refuses(
      { ...facebook(14), 'top_l.0.bias': [5] },
      'CHECKPOINT_INCONSISTENT',
      /top_l.0.bias has shape \[5\] for 4 outputs/,
    );
    await refuses({ ...facebook(14), 'v_W_l.7': [3] }, 'CHECKPOINT_INCONSISTENT', /v_W_l.7/);
    await refuses({ ...facebook(14), 'v_W_l.1': [3] }, 'CHECKPOINT_INCONSISTENT', /11 rows.*shape \[3\]/);
    await refuses(
      { ...facebook(14), 'top_l.2.weight': [2, 4], 'top_l.2.bias': [2] },
      'CHECKPOINT_UNSUPPORTED',
      /ends with 2 outputs/,
    );
    const { 'emb_l.1.weight': _, ...gap } = facebook(14);
    await refuses(gap, 'CHECKPOINT_INCONSISTENT', /emb_l.1.weight is missing/);
    const { 'top_l.0.bias': __, ...biasless } = facebook(14);
    await refuses(biasless, 'CHECKPOINT_INCONSISTENT', /top_l.0.bias is missing/);
  });

  test('a layer that is missing is missed even where the others fit', async () => {
    const shapes = { ...facebook(14), ...mlp('bot_l', [13, 8, 8, 8]) } as Record<string, readonly number[]>;
    const { 'bot_l.2.weight': _, 'bot_l.2.bias': __, ...gap } = shapes;
    await refuses(gap, 'CHECKPOINT_INCONSISTENT', /bot_l.2.weight is missing, while bot_l.4.weight is there/);
  });

  test('what computes something else is refused by name', async () => {
    await refuses(
      { ...facebook(14), 'emb_l.0.proj.weight': [8, 4] },
      'CHECKPOINT_UNSUPPORTED',
      /emb_l.0.proj.weight: mixed-dimension/,
    );
    await refuses(
      { ...facebook(14), 'emb_l.9.weight_q': [8, 4] },
      'CHECKPOINT_UNSUPPORTED',
      /quotient-remainder/,
    );
    await refuses(
      { ...facebook(14), 'attention.weight': [8, 4] },
      'CHECKPOINT_UNSUPPORTED',
      /attention.weight/,
    );
    await refuses(
      { ...facebook(14), 'emb_l.0.weight': { dtype: 'float64', shape: [10, 8] } },
      'CHECKPOINT_UNSUPPORTED',
      /float64 rows/,
    );
    await refuses(
      { ...facebook(14), 'bot_l.0.weight': { dtype: 'int64', shape: [16, 13] } },
      'CHECKPOINT_UNSUPPORTED',
      /int64/,
    );
    await refuses({ 'layer.0.weight': [3, 3] }, 'CHECKPOINT_UNRECOGNISED', /layer.0.weight.*emb_l.0.weight/);
    await refuses({}, 'CHECKPOINT_UNRECOGNISED', /0 parameters/);
  });
});

describe('TorchRec names', () => {
  test('DLRM: dot of the upper triangle, tables by their number', async () => {
    const architecture = await inferArchitecture(stored(torchrec(8 + 10)));
    assert.deepEqual(architecture.interaction, { kind: 'dot', diagonal: false, order: 'upper' });
    assert.deepEqual(
      architecture.tables.map(({ name }) => name),
      ['t_cat_0', 't_cat_1', 't_cat_2', 't_cat_3'],
    );
    assert.deepEqual(
      architecture.top.map(({ activation }) => activation),
      ['relu', 'sigmoid'],
    );
  });

  test('DLRM_DCN: low-rank cross layers', async () => {
    const cross = {
      'inter_arch.crossnet.V_kernels.0': [3, 40],
      'inter_arch.crossnet.W_kernels.0': [40, 3],
      'inter_arch.crossnet.bias.0': [40],
    };
    const { interaction } = await inferArchitecture(stored({ ...torchrec(40), ...cross }));
    assert.equal(interaction.kind, 'cross');
    assert.deepEqual(
      interaction.kind === 'cross' && interaction.layers.map(({ width, rank }) => [width, rank]),
      [[40, 3]],
    );
    await refuses(
      { ...torchrec(40), ...cross },
      'CHECKPOINT_INCONSISTENT',
      /interaction cat does not apply/,
      {
        interaction: 'cat',
      },
    );
    const moved = Object.fromEntries(
      Object.entries(cross).map(([name, shape]) => [name.replace('.0', '.1'), shape]),
    );
    await refuses(
      { ...torchrec(40), ...moved },
      'CHECKPOINT_INCONSISTENT',
      /V_kernels.0 is missing, while inter_arch.crossnet.V_kernels.1/,
    );
    await refuses(
      { ...torchrec(18), ...cross },
      'CHECKPOINT_INCONSISTENT',
      /takes 18 inputs, the low-rank cross network gives 40/,
    );
    await refuses(
      { ...torchrec(40), ...cross, 'inter_arch.crossnet.W_kernels.0': [40, 4] },
      'CHECKPOINT_INCONSISTENT',
      /V \[3,40\], W \[40,4\]/,
    );
  });
});

describe('names that are known, and models that are not', () => {
  for (const [name, shapes, pattern] of [
    ['HSTU', { '_hstu_transducer._stu_layers.0._uvqk_weight': [4, 4] }, /sequential recommenders/],
    ['sequence embeddings', { '_embedding_collection.embeddings.uih.weight': [5, 4] }, /does not pool/],
    [
      'tables under another name than TorchRec gives them',
      { 'sparse_arch.ebc.embedding_bags.t.weight': [5, 4], 'dense_arch.model._mlp.0._linear.weight': [4, 3] },
      /the tables stand under the prefix "sparse_arch\.ebc\.", the layers under "" map both/,
    ],
    ['FSDP', { '_fsdp_wrapped_module._flat_param': [100] }, /FSDP's flattened parameters/],
    ['vision', { 'bn1.running_mean': [4], 'fc.weight': [3, 4] }, /no embedding tables of known names/],
  ] as const) {
    test(name, async () => {
      await assert.rejects(inferArchitecture(stored(shapes as unknown as Shapes)), (error: unknown) => {
        assert.ok(error instanceof ModelError, String(error));
        assert.match(`${error.message} ${error.hint}`, pattern);
        return true;
      });
    });
  }

  test('vector cross layers', async () => {
    const cross = { 'inter_arch.crossnet.kernels.0': [40, 1], 'inter_arch.crossnet.bias.0': [40, 1] };
    await refuses({ ...torchrec(40), ...cross }, 'CHECKPOINT_UNSUPPORTED', /vector cross layers/);
  });
});

describe("Hotrow's own names", () => {
  const own = (topInputs: number) =>
    stored({
      'tables.a.weight': [5, 4],
      'tables.b.weight': [6, 4],
      'bottom.0.weight': [4, 3],
      'bottom.0.bias': [4],
      'top.0.weight': [1, topInputs],
      'top.0.bias': [1],
    });
  const order = { names: ['a', 'b'], from: 'a test' };

  test('the diagonal and one more feature have one width: nothing is guessed of it', async () => {
    await assert.rejects(inferArchitecture(own(4 + 6), { order }), {
      code: 'ARCHITECTURE_AMBIGUOUS',
      message: /dot-diagonal of 2 features and dot of 3/,
    });
  });

  test('pairs with the diagonal differ by triangle from three vectors on', async () => {
    const described = { kind: 'model', version: 1, checkpoint: 'x', interaction: 'dot-diagonal' } as const;
    await assert.rejects(inferArchitecture(own(4 + 6), { order, description: described }), {
      code: 'ARCHITECTURE_AMBIGUOUS',
      message: /in which order its pairs stand/,
    });
    const { interaction } = await inferArchitecture(own(4 + 6), {
      order,
      description: { ...described, triangle: 'upper' },
    });
    assert.deepEqual(interaction, { kind: 'dot', diagonal: true, order: 'upper' });
    assert.equal((await inferArchitecture(own(4 + 3), { order })).interaction.kind, 'dot');
  });
});
