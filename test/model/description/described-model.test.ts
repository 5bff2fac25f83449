import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Bags } from '../../../src/embedding/bag.ts';
import { loadArchitecture, loadModel } from '../../../src/model/load-model.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import {
  facebookTensors,
  type NamedTensors,
  renamed,
  torchrecTensors,
  writeCheckpoint,
} from '../../support/checkpoints.ts';
import { dlrmOf } from '../../support/models.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-described-'));
});
after(() => rm(folder, { recursive: true }));

const bag = (...indices: number[]): Bags => ({
  indices: Int32Array.from(indices),
  offsets: Int32Array.of(0, 1),
});
const request = (...bags: Bags[]): DlrmRequest => ({
  batchSize: 2,
  dense: Float32Array.of(0.5, -1, 2, 0.25, 1, -2),
  denseFeatures: 3,
  bags,
});

const least = { kind: 'model', version: 1 };
let number = 0;
/** A checkpoint and its description in a folder of their own; gives the description's path. */
async function put(tensors: NamedTensors, description: object, own = `case-${number++}`): Promise<string> {
  const inner = join(folder, own);
  await mkdir(inner, { recursive: true });
  await writeCheckpoint(join(inner, 'model.safetensors'), tensors);
  const file = join(inner, 'model.hotrow.json');
  await writeFile(file, JSON.stringify({ ...least, checkpoint: 'model.safetensors', ...description }));
  return file;
}

async function scores(path: string, asked: DlrmRequest): Promise<number[]> {
  await using model = await loadModel(path, { device: 'cpu', threads: 1 });
  return [...(await model.predict(asked)).probabilities];
}

const near = (a: readonly number[], b: readonly number[]) =>
  a.every((x, i) => Math.abs(x - (b[i] as number)) < 1e-6) && a.length === b.length;

describe('features', () => {
  test('that share a table give what copies of it give, and share its memory', async () => {
    const shared = torchrecTensors({ tables: ['t'], features: 3 });
    const copies = torchrecTensors({ tables: ['t0', 't1', 't2'] });
    for (const [name, tensor] of shared) if (!name.startsWith('sparse_arch')) copies.set(name, tensor);
    const table = 'sparse_arch.embedding_bag_collection.embedding_bags.t';
    for (const t of [0, 1, 2]) copies.set(`${table}${t}.weight`, shared.get(`${table}.weight`) as never);
    const features = ['a', 'b', 'c'].map((name) => ({ name, table: 't' }));
    const described = await put(shared, { features });
    const plain = await writeCheckpoint(join(folder, 'copies.safetensors'), copies);
    const asked = request(bag(0, 1, 2), bag(3, 4), bag(5));
    assert.deepEqual(await scores(described, asked), await scores(plain, asked));
    const { architecture } = await loadArchitecture(described);
    const [first, ...others] = architecture.tables;
    assert.ok(others.every(({ weight }) => weight === first?.weight));
    assert.deepEqual(
      architecture.inputs?.features.map(({ name }) => name),
      ['a', 'b', 'c'],
    );
  });

  test('without a description the width tells that they share, and the hint says what to write', async () => {
    const file = await writeCheckpoint(
      join(folder, 'sharing.safetensors'),
      torchrecTensors({ tables: ['t1', 't2'], features: 3 }),
    );
    await assert.rejects(loadArchitecture(file), {
      code: 'ARCHITECTURE_AMBIGUOUS',
      message: /dot of 3 features: features may share a table/,
    });
  });

  test('pool as they say, in their order', async () => {
    const tensors = torchrecTensors({ tables: ['large', 'small'] });
    const features = [
      { name: 'small', table: 'small', pooling: 'mean' },
      { name: 'large', table: 'large', paddingRow: 2 },
    ];
    const file = await put(tensors, { features });
    const { tables, tableOrder } = (await loadArchitecture(file)).architecture;
    assert.deepEqual(
      tables.map(({ name, mode, paddingIdx, rows }) => [name, mode, paddingIdx, rows]),
      [
        ['small', 'mean', undefined, 7],
        ['large', 'sum', 2, 6],
      ],
    );
    assert.equal(tableOrder?.source, 'the model description');
    const [asked, direct] = [request(bag(1, 2, 3), bag(0, 2)), request(bag(1, 2, 3), bag(0, 2))];
    assert.deepEqual(await scores(file, asked), await scores(file, direct));
  });
});

describe('names', () => {
  test("of one's own become Hotrow's", async () => {
    const original = facebookTensors(3);
    const own = renamed(original, (name) =>
      name
        .replace(/^emb_l\.(\d)\.weight/, 'lookup.table$1')
        .replace(/^bot_l\.(\d)/, (_, i) => `towers.dense.${i / 2}`)
        .replace('top_l.', 'head.'),
    );
    const names = {
      'lookup.{name}': 'tables.{name}.weight',
      'towers.dense.{i}.weight': 'bottom.{i}.weight',
      'towers.dense.{i}.bias': 'bottom.{i}.bias',
      'head.{2i}.weight': 'top.{i}.weight',
      'head.{2i}.bias': 'top.{i}.bias',
    };
    const asked = request(bag(0, 1), bag(2, 3), bag(4, 5));
    const expected = await scores(await writeCheckpoint(join(folder, 'plain.safetensors'), original), asked);
    assert.deepEqual(await scores(await put(own, { names, triangle: 'lower' }), asked), expected);
    await assert.rejects(scores(await put(own, { names }), asked), {
      code: 'ARCHITECTURE_AMBIGUOUS',
      hint: /"triangle"/,
    });
  });
});

describe('output and activations', () => {
  test('logits are given beside their probabilities', async () => {
    const tensors = torchrecTensors({ tables: ['a'] });
    const plain = await put(tensors, {});
    const logit = await put(tensors, { output: 'logit' });
    const asked = request(bag(1, 2));
    await using model = await loadModel(logit, { device: 'cpu', threads: 1 });
    const { probabilities, logits } = await model.predict(asked);
    assert.ok(logits !== undefined);
    assert.ok(near([...probabilities], await scores(plain, asked)));
    assert.ok(
      near(
        [...logits].map((x) => 1 / (1 + Math.exp(-x))),
        [...probabilities],
      ),
    );
  });

  test('activations are those that are said', async () => {
    const tensors = facebookTensors(1);
    const linear = await put(tensors, {
      activations: { bottom: ['none', 'none'], top: ['none', 'sigmoid'] },
    });
    const asked = request(bag(1, 2));
    const plain = await scores(await put(tensors, {}), asked);
    assert.ok(!near(await scores(linear, asked), plain));
    const { bottom } = dlrmOf((await loadArchitecture(linear)).architecture);
    assert.deepEqual(
      bottom.map(({ activation }) => activation),
      ['none', 'none'],
    );
  });
});

describe('what does not fit the checkpoint is named by key', () => {
  const cases: readonly (readonly [string, object, RegExp])[] = [
    [
      'a table that is not there',
      {
        features: [
          { name: 'f', table: 'x' },
          { name: 'g', table: 'a' },
        ],
      },
      /\/features\/0\/table names "x", which is no table/,
    ],
    [
      'a dim that is not so',
      { tables: [{ name: 'a' }, { name: 'b', dim: 5 }] },
      /\/tables\/1\/dim is 5, .* 4 elements/,
    ],
    [
      'a row format that is not so',
      { tables: [{ name: 'a', rowFormat: 'int8' }, { name: 'b' }] },
      /\/tables\/0\/rowFormat is int8, .* are float32/,
    ],
    [
      'a missing row that is none',
      {
        features: [
          { name: 'a', table: 'a', missing: { ids: [-1] } },
          { name: 'b', table: 'b' },
        ],
      },
      /\/features\/0\/missing\/ids has -1, which is no row/,
    ],
    [
      'more features than the model reads',
      { features: ['a', 'b', 'b'].map((table, i) => ({ name: `f${i}`, table })) },
      /\/features does not fit the checkpoint: .* with 3 features: dot gives 10/,
    ],
    ['a checkpoint that is not there', { checkpoint: 'gone.pt' }, /: \/checkpoint: no such file: .*gone\.pt/],
    ['a table left out', { features: [{ name: 'f', table: 'a' }] }, /\/features leaves table "b"/],
    [
      'tables that are not there',
      { tables: [{ name: 'a' }, { name: 'b' }, { name: 'c' }] },
      /\/tables\/2\/name names "c"/,
    ],
    ['tables left out', { tables: [{ name: 'a' }] }, /\/tables leaves out "b"/],
    [
      'a padding row past the end',
      {
        features: [
          { name: 'a', table: 'a', paddingRow: 6 },
          { name: 'b', table: 'b' },
        ],
      },
      /\/features\/0\/paddingRow is 6/,
    ],
    [
      'a modulus past the rows',
      {
        features: [
          { name: 'a', table: 'a', ids: { hash: 'modulo', modulus: 7 } },
          { name: 'b', table: 'b' },
        ],
      },
      /\/features\/0\/ids\/modulus is 7/,
    ],
    [
      'a vocabulary past the rows',
      {
        features: [
          { name: 'a', table: 'a', ids: { vocabulary: [1, 2, 3, 4, 5, 6, 7] } },
          { name: 'b', table: 'b' },
        ],
      },
      /\/features\/0\/ids\/vocabulary has 7 ids, and table "a" has 6 rows/,
    ],
    [
      'too few numbers',
      { dense: [{ name: 'x', preprocessing: 'none' }] },
      /\/dense has 1 numbers, the model takes 3/,
    ],
    [
      'too few activations',
      { activations: { bottom: ['relu'] } },
      /\/activations\/bottom has 1 entries for 2/,
    ],
    [
      'a sigmoid and logits',
      { activations: { top: ['relu', 'sigmoid'] }, output: 'logit' },
      /\/output is logit/,
    ],
    ['another interaction', { interaction: 'cross' }, /\/interaction does not fit .* no cross layer/],
    ['a prefix that is not there', { prefix: 'net.' }, /\/prefix: no tables stand under "net\."/],
  ];
  for (const [name, description, message] of cases) {
    test(name, async () => {
      const file = await put(torchrecTensors({ tables: ['a', 'b'] }), {
        features: ['a', 'b'].map((table) => ({ name: table, table })),
        ...('tables' in description ? { features: undefined } : {}),
        ...description,
      });
      await assert.rejects(loadArchitecture(file), (error: Error) => {
        assert.match(error.message, message);
        assert.ok(error.message.startsWith(file), error.message);
        return true;
      });
    });
  }
});

test('an interaction that is asked for may not contradict the description', async () => {
  const file = await put(facebookTensors(2), { interaction: 'dot' });
  await assert.rejects(loadArchitecture(file, { interaction: 'cat' }), {
    code: 'DESCRIPTION_INVALID',
    message: /\/interaction is "dot", and "cat" was asked for/,
  });
  const { architecture } = await loadArchitecture(file, { interaction: 'dot' });
  assert.equal(dlrmOf(architecture).interaction.kind, 'dot');
});

describe('a description beside its checkpoint', () => {
  test('is used and named', async () => {
    const file = await put(
      torchrecTensors({ tables: ['large', 'small'] }),
      { tables: [{ name: 'small' }, { name: 'large' }] },
      'beside',
    );
    for (const path of [join(folder, 'beside', 'model.safetensors'), join(folder, 'beside'), file]) {
      const { architecture, description } = await loadArchitecture(path);
      assert.deepEqual(
        architecture.tables.map(({ name }) => name),
        ['small', 'large'],
      );
      assert.equal(description?.file, file);
      assert.match(architecture.notes?.[0] ?? '', /described by .*model\.hotrow\.json/);
    }
  });

  test('of another checkpoint is refused', async () => {
    const file = await put(facebookTensors(1), { checkpoint: 'other.safetensors' }, 'stranger');
    await assert.rejects(loadArchitecture(join(folder, 'stranger', 'model.safetensors')), {
      code: 'DESCRIPTION_INVALID',
      message: new RegExp(`^${file}: /checkpoint names .*other`),
    });
  });
});

test("tables stand in the order of the description's features, also in what quantize writes", async () => {
  const features = ['b', 'a', 'b'].map((table, i) => ({ name: `f${i}`, table }));
  const file = await put(torchrecTensors({ tables: ['a', 'b'], features: 3 }), { features });
  assert.deepEqual((await loadArchitecture(file)).architecture.tableOrder?.names, ['b', 'a']);
});

test('patterns and prefixes may name wrappers, which names are read without', async () => {
  const tensors = renamed(facebookTensors(2), (name) =>
    `_orig_mod.net.module.${name}`.replace(/emb_l\.(\d)\.weight/, 'ids.$1'),
  );
  const names = {
    '_orig_mod.net.module.ids.{i}': 'tables.{i}.weight',
    'module.bot_l.{2i}.weight': 'bottom.{i}.weight',
    'module.bot_l.{2i}.bias': 'bottom.{i}.bias',
    'top_l.{2i}.weight': 'top.{i}.weight',
    'top_l.{2i}.bias': 'top.{i}.bias',
  };
  const whole = Object.fromEntries(
    Object.entries(names).map(([from, to]) => [from.startsWith('_') ? from : `net.${from}`, to]),
  );
  assert.equal((await loadArchitecture(await put(tensors, { names: whole }))).architecture.tables.length, 2);
  const plain = renamed(facebookTensors(2), (name) => `_orig_mod.net.module.${name}`);
  const prefixed = await put(plain, { prefix: '_orig_mod.net.module.' });
  assert.equal((await loadArchitecture(prefixed)).architecture.tables.length, 2);
});
