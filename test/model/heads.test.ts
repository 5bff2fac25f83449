/** Models that are no DLRM, from their files to their predictions, against sums in double precision written by hand. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { describeModel } from '../../src/model/description/describe-model.ts';

import { loadArchitecture, loadModel } from '../../src/model/load-model.ts';
import type { Prediction } from '../../src/model/prediction.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { type NamedTensors, values, writeCheckpoint } from '../support/checkpoints.ts';
import { addLinear, D, deepFmTensors, TABLES, TASKS, taskTensors } from '../support/heads.ts';
import { Random } from '../support/random.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-heads-'));
});
after(() => rm(folder, { recursive: true }));

const DENSE = [
  [0.5, -1, 2],
  [1, 0.25, -0.5],
];
/** Rows of each table that each sample reads. */
const BAGS = [
  [
    [1, 2],
    [0, 3],
  ],
  [[4], [2, 2, 5]],
];

const REQUEST: DlrmRequest = {
  batchSize: 2,
  denseFeatures: 3,
  dense: Float32Array.from(DENSE.flat()),
  bags: BAGS.map((bags) => ({
    indices: Int32Array.from(bags.flat()),
    offsets: Int32Array.of(0, bags[0]?.length as number),
  })),
};

type Vector = readonly number[];

const relu = (x: Vector) => x.map((value) => Math.max(0, value));
const sigmoid = (x: Vector) => x.map((value) => 1 / (1 + Math.exp(-value)));

function matrixOf(tensors: NamedTensors, name: string): Vector[] {
  const { data, shape } = tensors.get(name) as HostTensor & { readonly data: Float32Array };
  const [rows = 0, width = 1] = shape;
  return Array.from({ length: rows }, (_, r) => Array.from(data.subarray(r * width, (r + 1) * width)));
}

function linear(tensors: NamedTensors, name: string, x: Vector): Vector {
  const biases = matrixOf(tensors, `${name}.bias`).flat();
  return matrixOf(tensors, `${name}.weight`).map((row, o) =>
    row.reduce((sum, w, i) => sum + w * (x[i] as number), biases[o] as number),
  );
}

/** The sums of the rows that a sample reads of each table. */
function pooledOf(tensors: NamedTensors, tables: readonly string[], sample: number): Vector {
  return tables.flatMap((table, t) => {
    const rows = matrixOf(tensors, table);
    const bag = BAGS[t]?.[sample] as Vector;
    return Array.from({ length: D }, (_, d) => bag.reduce((sum, r) => sum + (rows[r]?.[d] as number), 0));
  });
}

/** float32 against double: sums of at most some hundred products around 1. */
function near(actual: Float32Array | undefined, expected: Vector, what: string): void {
  assert.equal(actual?.length, expected.length, what);
  expected.forEach((value, i) => {
    const off = Math.abs((actual?.[i] as number) - value);
    assert.ok(off <= 2e-6 * Math.max(1, Math.abs(value)), `${what}[${i}]: ${actual?.[i]}, expected ${value}`);
  });
}

/** torchrec/models/deepfm.py, SimpleDeepFMNN.forward, line by line. */
function deepFm(tensors: NamedTensors, sample: number): number {
  const dense = linear(tensors, 'dense_arch.model.0', DENSE[sample] as Vector);
  const embedded = relu(linear(tensors, 'dense_arch.model.2', relu(dense)));
  const input = [...embedded, ...pooledOf(tensors, TABLES, sample)];
  const deep = relu(linear(tensors, 'inter_arch.deep_fm.dense_module.0', input));
  const sum = input.reduce((total, x) => total + x, 0);
  const squares = input.reduce((total, x) => total + x * x, 0);
  const fm = (sum * sum - squares) * 0.5;
  return sigmoid(linear(tensors, 'over_arch.model.0', [...embedded, ...deep, fm]))[0] as number;
}

async function put(name: string, tensors: NamedTensors, description?: object): Promise<string> {
  const file = await writeCheckpoint(join(folder, `${name}.safetensors`), tensors);
  if (description === undefined) return file;
  const described = { kind: 'model', version: 1, checkpoint: `${name}.safetensors`, ...description };
  await writeFile(join(folder, `${name}.hotrow.json`), JSON.stringify(described));
  return join(folder, `${name}.hotrow.json`);
}

async function predict(file: string, request = REQUEST): Promise<Prediction> {
  await using model = await loadModel(file, { device: 'cpu', threads: 1 });
  const prediction = await model.predict(request, { stages: true });
  using placed = await model.place(request);
  const again = await model.predict(placed);
  assert.deepEqual([again.outputs, again.pooled], [prediction.outputs, prediction.pooled]);
  return prediction;
}

describe("TorchRec's SimpleDeepFMNN", () => {
  test('loads from its state dict and gives its probabilities', async () => {
    const tensors = deepFmTensors();
    const prediction = await predict(await put('deepfm', tensors));
    near(prediction.probabilities, [deepFm(tensors, 0), deepFm(tensors, 1)], 'probabilities');
    assert.deepEqual([prediction.outputs, prediction.pooled], [undefined, undefined]);
  });

  test('loads the same from the description that inspect writes', async () => {
    const tensors = deepFmTensors();
    const file = await put('written', tensors);
    const guesses: Record<string, string> = {};
    const { architecture } = await loadArchitecture(file, { guesses });
    const { guesses: _, ...described } = describeModel(architecture, {
      checkpoint: 'written.safetensors',
      guesses,
    });
    assert.deepEqual(
      described.blocks?.map(({ name, kind, inputs }) => [name, kind, inputs]),
      [
        ['bottom', 'mlp', ['dense']],
        ['deep', 'mlp', ['bottom', 'pooled']],
        ['fm', 'factorization-machine', ['bottom', 'pooled']],
        ['top', 'mlp', ['bottom', 'deep', 'fm']],
      ],
    );
    await writeFile(join(folder, 'written.hotrow.json'), JSON.stringify(described));
    const { probabilities } = await predict(join(folder, 'written.hotrow.json'));
    near(probabilities, [deepFm(tensors, 0), deepFm(tensors, 1)], 'probabilities');
  });

  test('its logit, where the description says so', async () => {
    const tensors = deepFmTensors();
    const { probabilities, logits } = await predict(await put('logit', tensors, { output: 'logit' }));
    near(probabilities, [deepFm(tensors, 0), deepFm(tensors, 1)], 'probabilities');
    near(
      logits,
      [0, 1].map((b) => Math.log(deepFm(tensors, b) / (1 - deepFm(tensors, b)))),
      'logits',
    );
  });

  test('features that share a table are asked for, and guessed where that is allowed', async () => {
    const file = await put('sharing', deepFmTensors(3));
    await assert.rejects(loadArchitecture(file), {
      code: 'CHECKPOINT_INCONSISTENT',
      message: /inter_arch\.deep_fm\.dense_module\.0 takes 16 inputs, it gets 12/,
      hint: /share a table/,
    });
    const guesses: Record<string, string> = {};
    const { architecture } = await loadArchitecture(file, { guesses });
    assert.deepEqual(
      architecture.tables.map(({ name }) => name),
      ['t_0', 't_1', '?'],
    );
  });

  test('an interaction cannot be asked of it, and a missing layer is found', async () => {
    const tensors = deepFmTensors();
    await assert.rejects(loadArchitecture(await put('asked', tensors), { interaction: 'dot' }), {
      code: 'CHECKPOINT_INCONSISTENT',
    });
    tensors.delete('inter_arch.deep_fm.dense_module.0.weight');
    await assert.rejects(loadArchitecture(await put('part', tensors)), {
      code: 'CHECKPOINT_INCONSISTENT',
      message: /the weight of inter_arch\.deep_fm\.dense_module\.0\.bias is missing/,
    });
  });
});

describe('tables alone', () => {
  for (const prefix of [
    '',
    'ebc.',
    'model.embedding_bag_collection.',
    'sparse_arch.embedding_bag_collection.',
  ]) {
    test(`under ${JSON.stringify(prefix)} answer their pooled rows`, async () => {
      const random = new Random(3);
      const names = [0, 1].map((t) => `${prefix}embedding_bags.t_${t}.weight`);
      const tensors: NamedTensors = new Map(names.map((name, t) => [name, values(random, 6 + t, D)]));
      const request = { ...REQUEST, dense: new Float32Array(), denseFeatures: 0 };
      const prediction = await predict(await put('tables', tensors), request);
      near(
        prediction.pooled,
        [0, 1].flatMap((b) => pooledOf(tensors, names, b)),
        'pooled',
      );
      assert.throws(() => prediction.probabilities, { code: 'USAGE', message: /pooled/ });
      assert.ok(!('probabilities' in { ...prediction }));
    });
  }

  test('take no dense features', async () => {
    const tensors: NamedTensors = new Map([['embedding_bags.t_0.weight', values(new Random(1), 6, D)]]);
    const request = { ...REQUEST, bags: REQUEST.bags.slice(0, 1) };
    await assert.rejects(predict(await put('dense', tensors), request), { code: 'TENSOR_SHAPE' });
  });

  test('beside layers of unknown names are refused', async () => {
    const tensors = new Map([['embedding_bags.t_0.weight', values(new Random(1), 6, D)]]);
    addLinear(tensors, new Random(2), 'head.0', 1, D);
    await assert.rejects(loadArchitecture(await put('unknown', tensors)), {
      code: 'CHECKPOINT_UNSUPPORTED',
      message: /head\.0/,
    });
  });
});

test('several outputs are answered by their names, one of them read by another block', async () => {
  const tensors = taskTensors();
  const prediction = await predict(await put('tasks', tensors, TASKS));
  const right = [0, 1].map((b) => {
    const pooled = pooledOf(tensors, TABLES, b);
    const first = relu(linear(tensors, 'trunk.0', [...(DENSE[b] as Vector), ...pooled]));
    const trunk = relu(linear(tensors, 'trunk.1', first));
    const ctr = sigmoid(linear(tensors, 'ctr', trunk));
    const cvr = linear(tensors, 'cvr.1', relu(linear(tensors, 'cvr.0', [...trunk, ...ctr])));
    return { ctr, cvr, pooled };
  });
  assert.deepEqual(Object.keys(prediction.outputs ?? {}), ['cvr', 'ctr', 'pooled']);
  for (const name of ['ctr', 'cvr', 'pooled'] as const)
    near(
      prediction.outputs?.[name],
      right.flatMap((one) => one[name]),
      name,
    );
  assert.throws(() => prediction.probabilities, { code: 'USAGE', message: /outputs/ });
});

describe('a description that is wired wrongly is refused by the place of the error', () => {
  type Block = Record<string, unknown>;
  const [trunk, ctr, cvr] = TASKS.blocks as unknown as [Block, Block, Block];
  for (const [what, change, message] of [
    [
      'an unknown input',
      { blocks: [trunk, { ...ctr, inputs: ['tronk'] }, cvr] },
      /\/blocks\/1\/inputs\/0 .*"tronk", which is none of/,
    ],
    [
      'a cycle',
      { blocks: [{ ...trunk, inputs: ['dense', 'pooled', 'ctr'] }, ctr, cvr] },
      /\/blocks\/0\/inputs\/2 .*does not stand before it/,
    ],
    ['itself', { blocks: [trunk, { ...ctr, inputs: ['ctr'] }, cvr] }, /\/blocks\/1\/inputs\/0 .*cycle/],
    [
      'an input twice',
      { blocks: [trunk, { ...ctr, inputs: ['trunk', 'trunk'] }, cvr] },
      /\/blocks\/1\/inputs\/1 .*twice/,
    ],
    [
      'a width',
      { blocks: [trunk, { ...ctr, inputs: ['trunk', 'pooled'] }, cvr] },
      /\/blocks\/1 .*ctr takes 5 inputs, it gets 13/,
    ],
    [
      'a result that nothing takes',
      { outputs: ['ctr', 'pooled'] },
      /\/blocks\/2 nothing takes what block "cvr" gives/,
    ],
    ['no output', { outputs: [] }, /\/outputs names nothing/],
    ['outputs that are not said', { outputs: undefined }, /\/outputs names nothing/],
    ['an unknown output', { outputs: ['cvr', 'ctr', 'cvt'] }, /\/outputs\/2 .*"cvt" is no block/],
    ['an output twice', { outputs: ['cvr', 'ctr', 'ctr'] }, /\/outputs\/2 .*twice/],
    [
      'a name twice',
      { blocks: [trunk, { ...ctr, name: 'trunk' }, cvr] },
      /\/blocks\/1\/name|\/blocks has no block/,
    ],
    [
      'a block without parameters',
      {
        blocks: [...(TASKS.blocks as Block[]), { name: 'x', kind: 'mlp', inputs: ['ctr'] }],
        outputs: ['cvr', 'x'],
      },
      /\/blocks\/3 .*has no layer/,
    ],
    [
      'parameters of no block',
      { blocks: [trunk, ctr], outputs: ['ctr'] },
      /\/blocks has no block "cvr", to which cvr\.0\.weight/,
    ],
    [
      'parameters that the kind has not',
      { blocks: [trunk, ctr, { name: 'cvr', kind: 'factorization-machine', inputs: ['trunk', 'ctr'] }] },
      /\/blocks\/2 .*no parameters/,
    ],
    ['an unknown kind', { blocks: [trunk, ctr, { ...cvr, kind: 'attention' }] }, /\/blocks\/2\/kind/],
    [
      'an option of another kind',
      { blocks: [trunk, { ...ctr, triangle: 'lower' }, cvr] },
      /\/blocks\/1\/triangle/,
    ],
    [
      'activations of other layers',
      { blocks: [trunk, ctr, { ...cvr, activations: ['none'] }] },
      /\/blocks\/2 .*1 activations are given for 2 layers/,
    ],
    [
      'dot products of unlike vectors',
      {
        blocks: [trunk, ctr, cvr, { name: 'p', kind: 'dot', inputs: ['trunk', 'pooled'], triangle: 'upper' }],
        outputs: ['cvr', 'p'],
      },
      /\/blocks\/3 .*vectors of one width/,
    ],
    ["a DLRM's interaction", { interaction: 'dot' }, /\/interaction is said by blocks/],
    ['a logit of several', { output: 'logit' }, /\/output is said of models with one output/],
    ['outputs without blocks', { blocks: undefined }, /\/outputs stands without blocks/],
  ] as const) {
    test(what, async () => {
      const file = await put('wrong', taskTensors(), { ...TASKS, ...change });
      await assert.rejects(loadArchitecture(file), { code: 'DESCRIPTION_INVALID', message });
    });
  }

  test('one output that is no probability', async () => {
    const tensors = taskTensors();
    for (const name of ['cvr.0', 'cvr.1'])
      for (const part of ['weight', 'bias']) tensors.delete(`${name}.${part}`);
    const linear = { ...TASKS, blocks: [trunk, { ...ctr, activations: ['none'] }], outputs: ['ctr'] };
    await assert.rejects(loadArchitecture(await put('linear', tensors, linear)), {
      code: 'DESCRIPTION_INVALID',
      message: /\/blocks\/1 ends with none, which gives no probability/,
    });
    const { logits } = await predict(await put('logits', tensors, { ...linear, output: 'logit' }));
    assert.equal(logits?.length, 2);
  });

  test('dense features whose number nothing says', async () => {
    const { dense: _, ...unsaid } = TASKS;
    await assert.rejects(loadArchitecture(await put('unsaid', taskTensors(), unsaid)), {
      code: 'DESCRIPTION_INVALID',
      message: /\/dense is missing/,
    });
  });
});
