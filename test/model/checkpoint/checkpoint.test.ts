import assert from 'node:assert/strict';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { HotrowError } from '../../../src/errors.ts';
import { writeSafetensors } from '../../../src/formats/safetensors.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint/checkpoint.ts';
import { inferArchitecture } from '../../../src/model/infer-architecture.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import type { HostTensor } from '../../../src/tensor.ts';
import { goldenPath } from '../../support/golden.ts';
import { dlrmOf } from '../../support/models.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-checkpoint-'));
});
after(() => rm(folder, { recursive: true }));

const scalar = (value: number): HostTensor => ({
  dtype: 'float32',
  shape: [1],
  data: Float32Array.of(value),
});

/** Names of a checkpoint with tensors `names`. */
async function loadedNames(names: readonly string[]): Promise<string[]> {
  const path = join(folder, 'names.safetensors');
  await writeSafetensors(path, new Map(names.map((name, i) => [name, scalar(i)])));
  return [...(await loadCheckpoint(path)).tensors.keys()];
}

async function refuses(path: string, code: HotrowError['code'], pattern: RegExp): Promise<void> {
  await assert.rejects(loadCheckpoint(path), (error: unknown) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

describe('wrappers', () => {
  const bare = ['emb_l.0.weight', 'bot_l.0.weight'];
  for (const prefix of [
    'module.',
    '_orig_mod.',
    'module._orig_mod.',
    '_dmp_wrapped_module.module.dlrm_model.',
    'model.',
  ])
    test(`${prefix} comes off`, async () =>
      assert.deepEqual(await loadedNames(bare.map((name) => prefix + name)), bare));

  test('DistributedDataParallel around one MLP comes off', async () =>
    assert.deepEqual(await loadedNames(['emb_l.0.weight', 'bot_l.module.0.weight']), bare));

  test("TorchRec's own `model` stays", async () => {
    const names = [
      'sparse_arch.embedding_bag_collection.embedding_bags.t.weight',
      'dense_arch.model._mlp.0._linear.weight',
      'over_arch.model.1.weight',
    ];
    assert.deepEqual(await loadedNames(names.map((name) => `model.${name}`)), names);
  });

  test('a name with and without its wrapper is refused', () =>
    assert.rejects(loadedNames(['module.a', 'a']), { code: 'CHECKPOINT_INCONSISTENT' }));
});

describe('files', () => {
  test('a folder with one file', async () => {
    const inner = await mkdtemp(join(folder, 'model-'));
    await writeSafetensors(join(inner, 'm.safetensors'), new Map([['a', scalar(1)]]));
    const { format, tensors } = await loadCheckpoint(inner);
    assert.deepEqual([format, [...tensors.keys()]], ['safetensors', ['a']]);
  });

  test('what is no checkpoint is named', async () => {
    const put = async (name: string, bytes: string | Uint8Array): Promise<string> => {
      const path = join(folder, name);
      await writeFile(path, bytes);
      return path;
    };
    await refuses(join(folder, 'none.pt'), 'FILE_NOT_FOUND', /none\.pt/);
    await refuses(
      await put('x.pt.gz', gzipSync('x')),
      'FORMAT_UNKNOWN',
      /is a text file, gzipped, not a checkpoint/,
    );
    await refuses(await put('page.pt', '<!DOCTYPE html>'), 'FORMAT_UNKNOWN', /web page/);
    await refuses(await put('page.safetensors', '<!DOCTYPE html>'), 'FORMAT_UNKNOWN', /web page/);
    await refuses(
      await put('lfs.safetensors', 'version https://git-lfs.github.com/spec/v1\n'),
      'FORMAT_UNKNOWN',
      /Git LFS/,
    );
    await refuses(
      await put('bad.safetensors', 'some text that is long enough'),
      'FORMAT_UNKNOWN',
      /is a text file, not a checkpoint/,
    );
  });

  test('a torch file without a state dict', () =>
    refuses(
      fileURLToPath(new URL('../../fixtures/torch/bags.zip.pt', import.meta.url)),
      'CHECKPOINT_UNRECOGNISED',
      /no state dict/,
    ));
});

describe('golden checkpoints', () => {
  const torch = goldenPath('criteo_dlrm.pt');
  const safetensors = goldenPath('criteo_dlrm.safetensors');
  const skip = torch === undefined || safetensors === undefined ? 'the golden files are not here' : false;

  test('.pt and .safetensors give the same architecture and bytes', { skip }, async () => {
    const [a, b] = [await loadCheckpoint(torch as string), await loadCheckpoint(safetensors as string)];
    assert.deepEqual([a.format, b.format], ['torch', 'safetensors']);
    assert.deepEqual([...a.tensors.keys()].sort(), [...b.tensors.keys()].sort());
    for (const [name, tensor] of a.tensors) {
      const other = b.tensors.get(name);
      assert.ok(other !== undefined, name);
      assert.deepEqual(await readTensor(tensor), await readTensor(other), name);
    }
    const { tables, bottom, top, interaction, denseFeatures } = dlrmOf(await inferArchitecture(a.tensors));
    assert.deepEqual([tables.length, bottom.length, top.length, denseFeatures], [26, 3, 3, 13]);
    assert.deepEqual(interaction, { kind: 'dot', diagonal: false, order: 'lower' });
  });

  test('a content that contradicts its extension is read by its content', { skip }, async () => {
    const path = join(folder, 'renamed.safetensors');
    await copyFile(torch as string, path);
    assert.equal((await loadCheckpoint(path)).format, 'torch');
  });

  for (const [name, kind, tables] of [
    ['dlrm_multihot', 'dot', 8],
    ['dlrm_dcnv2', 'cross', 4],
  ] as const) {
    const path = goldenPath(`${name}.model.safetensors`);
    test(name, { skip: path === undefined && 'the golden files are not here' }, async () => {
      const architecture = dlrmOf(await inferArchitecture((await loadCheckpoint(path as string)).tensors));
      assert.deepEqual([architecture.interaction.kind, architecture.tables.length], [kind, tables]);
    });
  }
});
