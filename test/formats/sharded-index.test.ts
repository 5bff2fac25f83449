import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HotrowError } from '../../src/errors.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { readShards } from '../../src/formats/sharded-index.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import type { HostTensor } from '../../src/tensor.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-shards-'));
});
after(() => rm(folder, { recursive: true }));

const vector = (...values: number[]): HostTensor => ({
  dtype: 'float32',
  shape: [values.length],
  data: Float32Array.from(values),
});

/** module.zip.pt holds first.weight, first.bias, second.weight and second.bias, all ramps. */
const torchShard = fileURLToPath(new URL('../fixtures/torch/module.zip.pt', import.meta.url));

async function index(name: string, contents: unknown): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, typeof contents === 'string' ? contents : JSON.stringify(contents));
  return path;
}

const refuses = (path: string, code: HotrowError['code'], pattern: RegExp) =>
  assert.rejects(readShards(path), (error: unknown) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });

describe('an index of safetensors', () => {
  const name = 'm.safetensors.index.json';
  before(async () => {
    await writeSafetensors(join(folder, 's1.safetensors'), new Map([['a', vector(1)]]));
    await writeSafetensors(join(folder, 's2.safetensors'), new Map([['b', vector(2, 3)]]));
  });

  test('tensors come from the shards that it names, in its order', async () => {
    const path = await index(name, { weight_map: { b: 's2.safetensors', a: './s1.safetensors' } });
    const { tensors, format } = await readShards(path);
    assert.deepEqual(
      [format, ...[...tensors].map(([tensor, { shape }]) => [tensor, shape])],
      ['safetensors', ['b', [2]], ['a', [1]]],
    );
  });

  test('what does not fit is refused, naming tensor and shard', async () => {
    const bad = async (map: unknown, code: HotrowError['code'], pattern: RegExp) =>
      refuses(await index(name, { weight_map: map }), code, pattern);
    await bad(
      { a: 's1.safetensors', c: 's1.safetensors' },
      'SAFETENSORS_INVALID',
      /tensor c: is not in its shard s1/,
    );
    await bad(
      { a: 's1.safetensors', b: 'gone.safetensors' },
      'FILE_NOT_FOUND',
      /index\.json, tensor b, shard gone\.safetensors: no such file/,
    );
    for (const outside of [
      '../s1.safetensors',
      '/etc/passwd',
      'x/../../s1.safetensors',
      '..',
      'C:\\s1',
      's1\0',
    ])
      await bad(
        { a: outside },
        'SAFETENSORS_INVALID',
        /tensor a: its shard .* lies outside the model's folder/,
      );
    await bad({ a: 7 }, 'SAFETENSORS_INVALID', /tensor a: its shard is not a file name/);
    await bad(null, 'SAFETENSORS_INVALID', /no weight_map/);
    await bad([], 'SAFETENSORS_INVALID', /no weight_map/);
    await refuses(await index(name, 'null'), 'FORMAT_UNKNOWN', /a text file, not a checkpoint/);
    await refuses(await index(name, '{'), 'FORMAT_UNKNOWN', /index\.json/);
    await refuses(
      await index(name, '{"weight_map": {"a": "s1.safetensors", "a": "s2.safetensors"}}'),
      'JSON_INVALID',
      /key "a" stands twice/,
    );
    await refuses(join(folder, 'none.index.json'), 'FILE_NOT_FOUND', /none/);
  });

  test('a tensor of a shard that it does not name is refused', async () => {
    await writeSafetensors(
      join(folder, 's3.safetensors'),
      new Map([
        ['a', vector(1)],
        ['z', vector(2)],
      ]),
    );
    const path = await index(name, { weight_map: { a: 's3.safetensors' } });
    await refuses(path, 'SAFETENSORS_INVALID', /tensor z: is in shard s3.safetensors but not in weight_map/);
  });
});

describe('an index of files of torch.save', () => {
  const name = 'pytorch_model.bin.index.json';
  const shard = 'pytorch_model-00001-of-00002.bin';
  const all = Object.fromEntries(
    ['first.weight', 'first.bias', 'second.weight', 'second.bias'].map((tensor) => [tensor, shard]),
  );
  before(() => copyFile(torchShard, join(folder, shard)));

  test('tensors come from the shards', async () => {
    const { tensors, format } = await readShards(await index(name, { metadata: {}, weight_map: all }));
    assert.deepEqual([format, ...tensors.keys()], ['torch', ...Object.keys(all)]);
    const weight = tensors.get('second.weight');
    assert.ok(weight);
    assert.deepEqual(await readTensor(weight), {
      dtype: 'float32',
      shape: [1, 2],
      data: Float32Array.of(0, 1),
    });
  });

  test('shards of both formats make one model', async () => {
    await writeSafetensors(join(folder, 'more.safetensors'), new Map([['more', vector(1)]]));
    const { tensors } = await readShards(
      await index(name, { weight_map: { ...all, more: 'more.safetensors' } }),
    );
    assert.equal(tensors.size, 5);
  });

  test('what does not fit is refused, naming tensor and shard', async () => {
    const bad = async (map: object, code: HotrowError['code'], pattern: RegExp) =>
      refuses(await index(name, { weight_map: map }), code, pattern);
    await bad(
      { ...all, c: shard },
      'TORCH_FILE_INVALID',
      /tensor c: is not in its shard pytorch_model-00001/,
    );
    await bad({ 'first.bias': shard }, 'TORCH_FILE_INVALID', /is in shard .* but not in weight_map/);
    await bad({ ...all, c: 'pytorch_model-00002-of-00002.bin' }, 'FILE_NOT_FOUND', /00002-of-00002/);
    await bad({ ...all, c: `../${shard}` }, 'TORCH_FILE_INVALID', /outside the model's folder/);
    await writeFile(join(folder, 'cut.bin'), (await readFile(torchShard)).subarray(0, 900));
    await bad({ ...all, c: 'cut.bin' }, 'TORCH_FILE_INVALID', /cut\.bin: the zip is damaged or truncated/);
  });
});
