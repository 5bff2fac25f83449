/** Checkpoints that are folders or divided over files: found, told apart, and predicting like the whole. */
import assert from 'node:assert/strict';
import { copyFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { writeSafetensors } from '../../../src/formats/safetensors.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint/checkpoint.ts';
import { loadModel } from '../../../src/model/load-model.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import type { HostTensor } from '../../../src/tensor.ts';
import { syntheticRequest } from '../../../src/workload/synthetic.ts';
import { dcpFixture } from '../../support/dcp.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-divided-'));
});
after(() => rm(folder, { recursive: true }));

async function refuses(path: string, code: HotrowError['code'], pattern: RegExp): Promise<void> {
  await assert.rejects(loadCheckpoint(path), (error: unknown) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(`${error.message}; ${error.hint}`, pattern);
    return true;
  });
}

const scalar = (value: number): HostTensor => ({
  dtype: 'float32',
  shape: [1],
  data: Float32Array.of(value),
});

/** A new folder of empty files and folders (names that end in a slash). */
async function folderOf(...names: string[]): Promise<string> {
  const made = await mkdtemp(join(folder, 'folder-'));
  for (const name of names) {
    await mkdir(join(made, dirname(name)), { recursive: true });
    if (name.endsWith('/')) await mkdir(join(made, name), { recursive: true });
    else await writeFile(join(made, name), '');
  }
  return made;
}

describe('a model of torch.distributed.checkpoint', () => {
  const whole = dcpFixture('whole.pt');

  for (const name of ['one', 'two'])
    test(`${name}: the whole checkpoint's names and values, without the optimizer's`, async () => {
      const [divided, expected] = [await loadCheckpoint(dcpFixture(name)), await loadCheckpoint(whole)];
      assert.equal(divided.format, 'dcp');
      assert.deepEqual([...divided.tensors.keys()], [...expected.tensors.keys()]);
      for (const [tensor, stored] of expected.tensors) {
        const own = divided.tensors.get(tensor);
        assert.ok(own !== undefined, tensor);
        assert.deepEqual(await readTensor(own), await readTensor(stored), tensor);
      }
    });

  test('it predicts like the whole checkpoint, bit for bit', async () => {
    const predict = async (path: string): Promise<Float32Array> => {
      await using model = await loadModel(path, { device: 'cpu' });
      const tables = model.architecture.tables.map(({ rows }) => ({ rows }));
      const request = syntheticRequest({
        tables,
        batchSize: 64,
        pattern: 'random',
        bagLengths: '5',
        seed: 7,
        denseFeatures: 3,
      });
      return (await model.predict(request)).probabilities;
    };
    const expected = await predict(whole);
    assert.ok(new Set(expected).size > 32, 'the requests differ');
    assert.deepEqual(
      await predict(dcpFixture('two')),
      expected,
      'two processes, tables divided by rows and columns',
    );
    assert.deepEqual(await predict(dcpFixture('one')), expected, 'one process');
    assert.deepEqual(
      await predict(join(dcpFixture('two'), '.metadata')),
      expected,
      'the folder by its .metadata',
    );
  });

  test('a shard by itself is refused', async () => {
    await refuses(
      join(dcpFixture('two'), '__0_0.distcp'),
      'FORMAT_UNKNOWN',
      /parts of a checkpoint's tensors; name its folder/,
    );
    const shard = 'shard-00001-model-00001-of-00001.safetensors';
    await refuses(
      join(dcpFixture('huggingface'), shard),
      'FORMAT_UNKNOWN',
      /parts of a checkpoint's tensors; consolidate/,
    );
  });

  test('a folder whose .metadata is missing is refused', async () => {
    const copy = join(folder, 'no-metadata');
    await cp(dcpFixture('two'), copy, { recursive: true });
    await rm(join(copy, '.metadata'));
    await refuses(copy, 'DCP_INVALID', /holds \.distcp files, but no \.metadata; .*hidden, and written last/);
  });

  test('other files beside its .metadata do not matter', async () => {
    const copy = join(folder, 'meta');
    await cp(dcpFixture('one'), copy, { recursive: true });
    await copyFile(whole, join(copy, 'meta.pt'));
    assert.equal((await loadCheckpoint(copy)).format, 'dcp');
  });
});

describe('a folder', () => {
  test('with one file of torch.save, however it is named', async () => {
    for (const name of ['model.pt', 'model.pth', 'pytorch_model.bin', 'last.ckpt']) {
      const inner = await folderOf('README.md', 'config.json');
      await copyFile(dcpFixture('whole.pt'), join(inner, name));
      assert.equal((await loadCheckpoint(inner)).format, 'torch', name);
    }
  });

  test('a folder in it that is named as a checkpoint', async () => {
    const outer = await folderOf();
    await cp(dcpFixture('two'), join(outer, 'last.ckpt'), { recursive: true });
    assert.equal((await loadCheckpoint(outer)).format, 'dcp');
  });

  test('with an index, whose shards stand beside it', async () => {
    const inner = await folderOf();
    await writeSafetensors(join(inner, 'a.safetensors'), new Map([['a', scalar(1)]]));
    await writeSafetensors(join(inner, 'b.safetensors'), new Map([['b', scalar(2)]]));
    const map = { a: 'a.safetensors', b: 'b.safetensors' };
    await writeFile(join(inner, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    const { tensors, format } = await loadCheckpoint(inner);
    assert.deepEqual([format, ...tensors.keys()], ['safetensors', 'a', 'b']);
  });

  test('with several is refused, naming them', async () => {
    await refuses(
      await folderOf('a.safetensors', 'b.pt'),
      'FILE_UNREADABLE',
      /2 checkpoints: a\.safetensors, b\.pt; name the one/,
    );
    const indexes = await folderOf('m.safetensors.index.json', 'pytorch_model.bin.index.json');
    await refuses(indexes, 'FILE_UNREADABLE', /2 checkpoints: m\.safetensors\.index\.json, pytorch_model/);
  });

  test('without any is refused', async () => {
    await refuses(await folderOf('README.md'), 'FILE_NOT_FOUND', /holds no checkpoint/);
  });

  for (const [what, names, pattern] of [
    ['torchsnapshot', ['.snapshot_metadata', '0/model/emb'], /torchsnapshot.*get_state_dict_for_key/],
    [
      'HugeCTR',
      ['wdl0_sparse_2000.model/key', 'wdl_dense_2000.model', 'wdl0_opt_sparse_2000.model'],
      /HugeCTR.*emb_vector/,
    ],
    ["HugeCTR's rows alone", ['key', 'emb_vector'], /HugeCTR/],
    ['a SavedModel', ['saved_model.pb', 'variables/variables.index'], /TensorFlow.*tf\.saved_model/],
    ["TensorFlow's checkpoint", ['checkpoint', 'm.ckpt.index', 'm.ckpt.data-00000-of-00001'], /TensorFlow/],
    [
      'DeepSpeed',
      ['mp_rank_00_model_states.pt', 'zero_pp_rank_0_mp_rank_00_optim_states.pt'],
      /DeepSpeed.*zero_to_fp32/,
    ],
    ["DeepSpeed's outer folder", ['latest', 'zero_to_fp32.py', 'global_step10/'], /DeepSpeed/],
    ['Megatron-LM', ['latest_checkpointed_iteration.txt', 'iter_0000010/'], /Megatron/],
    [
      'a tensor-parallel folder of Megatron-LM',
      ['mp_rank_00/model_optim_rng.pt', 'mp_rank_01/model_optim_rng.pt'],
      /Megatron/,
    ],
  ] as const)
    test(`of ${what} is named`, async () => refuses(await folderOf(...names), 'FORMAT_UNKNOWN', pattern));

  test("of HuggingFaceStorageWriter's shards is named", () =>
    refuses(dcpFixture('huggingface'), 'FORMAT_UNKNOWN', /HuggingFaceStorageWriter.*consolidate/));

  test('with a whole model beside what another program left', async () => {
    const inner = await folderOf('zero_to_fp32.py');
    await copyFile(dcpFixture('whole.pt'), join(inner, 'pytorch_model.bin'));
    assert.equal((await loadCheckpoint(inner)).format, 'torch');
  });
});
