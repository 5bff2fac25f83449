/** Tied parameters of safetensors: one tensor in the file, further names in the metadata. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { quantizeCheckpoint } from '../../src/model/checkpoint/quantize-checkpoint.ts';
import { loadArchitecture } from '../../src/model/load-model.ts';
import { facebookTensors, type NamedTensors, torchrecTensors } from '../support/checkpoints.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-tied-'));
});
after(() => rm(folder, { recursive: true }));

const without = (tensors: NamedTensors, ...names: string[]) =>
  new Map([...tensors].filter(([name]) => !names.includes(name)));

/** The tables' rows, and for each the first one with the same weight. */
async function tables(path: string) {
  const { tables: found } = (await loadArchitecture(path)).architecture;
  return found.map(({ name, rows, weight }) => [
    name,
    rows,
    found.findIndex((table) => table.weight === weight),
  ]);
}

test('a parameter that metadata names once more is there, and shares its table', async () => {
  const file = join(folder, 'saved.safetensors');
  await writeSafetensors(file, without(facebookTensors(), 'emb_l.2.weight'), {
    format: 'pt',
    'emb_l.2.weight': 'emb_l.0.weight',
  });
  assert.deepEqual(await tables(file), [
    ['emb_l.0', 6, 0],
    ['emb_l.1', 7, 1],
    ['emb_l.2', 6, 0],
  ]);
});

test('under wrappers and prefixes, and for layers', async () => {
  const file = join(folder, 'wrapped.safetensors');
  const named = [...without(facebookTensors(), 'emb_l.1.weight', 'top_l.2.bias')].map(
    ([name, tensor]) => [`module.model.${name}`, tensor] as const,
  );
  const one = [...facebookTensors()].find(([name]) => name === 'top_l.2.bias')?.[1];
  assert.ok(one !== undefined);
  await writeSafetensors(file, new Map([...named, ['other.bias', one]]), {
    'module.model.emb_l.1.weight': 'module.model.emb_l.2.weight',
    'module.model.top_l.2.bias': 'other.bias',
  });
  assert.deepEqual(await tables(file), [
    ['emb_l.0', 6, 0],
    ['emb_l.1', 8, 1],
    ['emb_l.2', 8, 1],
  ]);
});

test('metadata about other things names no tensor of the model', async () => {
  const file = join(folder, 'notes.safetensors');
  await writeSafetensors(file, facebookTensors(), {
    format: 'pt',
    largest: 'emb_l.2.weight',
    'emb_l.0.weight': 'emb_l.1.weight',
    'emb_l.3.weight': 'nothing',
    ['__proto__']: 'emb_l.0.weight',
  });
  const { architecture } = await loadArchitecture(file);
  assert.deepEqual(
    architecture.tables.map(({ name, rows }) => [name, rows]),
    [
      ['emb_l.0', 6],
      ['emb_l.1', 7],
      ['emb_l.2', 8],
    ],
  );
  assert.deepEqual(architecture.notes, []);
});

test('an index names them in its own metadata', async () => {
  const table = (t: number) => `sparse_arch.embedding_bag_collection.embedding_bags.t_${t}.weight`;
  const tensors = without(torchrecTensors({ tables: ['t_0', 't_1', 't_2'] }), table(1));
  await writeSafetensors(join(folder, 'shard.safetensors'), tensors, { format: 'pt' });
  const file = join(folder, 'model.safetensors.index.json');
  const weightMap = Object.fromEntries([...tensors.keys()].map((name) => [name, 'shard.safetensors']));
  const metadata = { total_size: 1, [table(1)]: table(2) };
  await writeFile(file, JSON.stringify({ metadata, weight_map: weightMap }));
  assert.deepEqual(await tables(file), [
    ['t_0', 6, 0],
    ['t_1', 8, 1],
    ['t_2', 8, 1],
  ]);
});

test('quantised tables stay tied: written once, named twice', async () => {
  const file = join(folder, 'float.safetensors');
  await writeSafetensors(file, without(facebookTensors(3, 64), 'emb_l.2.weight'), {
    'emb_l.2.weight': 'emb_l.0.weight',
  });
  const { tensors, architecture } = await loadArchitecture(file);
  const out = join(folder, 'int8.safetensors');
  await quantizeCheckpoint({
    tensors,
    tables: architecture.tables,
    rows: 'int8',
    tableOrder: ['emb_l.0', 'emb_l.1', 'emb_l.2'],
    out,
  });
  assert.ok(!(await readSafetensors(out)).tensors.has('emb_l.2.weight'));
  assert.ok((await stat(out)).size < (await stat(file)).size);
  assert.deepEqual(await tables(out), await tables(file));
});
