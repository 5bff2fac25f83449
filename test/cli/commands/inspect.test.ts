/** `hotrow inspect` and what it writes, as a user types it. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeSafetensors } from '../../../src/formats/safetensors.ts';
import { facebookTensors, torchrecTensors, writeCheckpoint } from '../../support/checkpoints.ts';
import { hotrow } from '../../support/cli.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-inspect-'));
});
after(() => rm(folder, { recursive: true }));

async function succeeds(...args: string[]) {
  const result = await hotrow(...args);
  assert.equal(result.code, 0, result.stderr);
  return result;
}

describe('tables that features share', () => {
  let described = '';
  before(async () => {
    await writeCheckpoint(
      join(folder, 'shared.safetensors'),
      torchrecTensors({ tables: ['ads', 'users'], features: 3 }),
    );
    described = join(folder, 'shared.hotrow.json');
    const features = [
      { name: 'clicked', table: 'ads', pooling: 'mean' },
      { name: 'user', table: 'users' },
      { name: 'shown', table: 'ads' },
    ];
    const description = { kind: 'model', version: 1, checkpoint: 'shared.safetensors', features };
    await writeFile(described, JSON.stringify(description));
  });

  test('are counted once, and each feature names the one that it shares with', async () => {
    const { stdout } = await succeeds('inspect', described);
    // ads [6, 4] and users [7, 4] in float32.
    assert.match(stdout, /tables +2 of 3 features, 208 B; order: the model description/);
    assert.match(stdout, /clicked +6 +4 +float32 +mean +96 B/);
    assert.match(stdout, /user +7 +4 +float32 +sum +112 B/);
    assert.match(stdout, /shown +6 +4 +float32 +sum +in clicked/);
    const { tables, bytes } = JSON.parse((await succeeds('inspect', described, '--format', 'json')).stdout);
    assert.equal(bytes.tables, 208);
    assert.deepEqual(
      tables.map(({ name, sharesTableOf }: { name: string; sharesTableOf?: string }) => [
        name,
        sharesTableOf,
      ]),
      [
        ['clicked', undefined],
        ['user', undefined],
        ['shown', 'clicked'],
      ],
    );
  });

  test('are one table for tune, which names the description that it uses', async () => {
    const args = ['--batch', '8', '--bag-lengths', '2', '--budget', '1', '--out', join(folder, 'plan.json')];
    const { stdout } = await succeeds('tune', join(folder, 'shared.safetensors'), ...args);
    assert.match(stdout, /model: described by .*shared\.hotrow\.json/);
  });

  test('are told without a description where the file ties them', async () => {
    const file = join(folder, 'tied.safetensors');
    const tensors = facebookTensors();
    tensors.delete('emb_l.2.weight');
    await writeSafetensors(file, tensors, { format: 'pt', 'emb_l.2.weight': 'emb_l.0.weight' });
    const { stdout } = await succeeds('inspect', file);
    assert.match(stdout, /tables +2 of 3 features, 208 B/);
    assert.match(stdout, /emb_l\.2 +6 +4 +float32 +sum +in emb_l\.0/);
  });

  test('are written once by quantize, which does not write over another description', async () => {
    const out = join(folder, 'small.safetensors');
    const { stderr } = await succeeds('quantize', described, '--rows', 'int8', '--out', out);
    assert.match(stderr, /model: described by .*shared\.hotrow\.json\n.*wrote .*small\.hotrow\.json/s);
    assert.match((await succeeds('inspect', out)).stdout, /shown +6 +4 +int8 +sum +in clicked/);
    // The same once more; then over the description of the checkpoint that is read.
    await succeeds('quantize', described, '--rows', 'int8', '--out', out);
    const before_ = await readFile(described, 'utf8');
    const refused = await hotrow(
      'quantize',
      described,
      '--rows',
      'int8',
      '--out',
      join(folder, 'shared.bin'),
    );
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error\[FILE_UNWRITABLE\]: .*shared\.hotrow\.json: it is there already/);
    assert.equal(await readFile(described, 'utf8'), before_);
  });
});

test('a description that is written loads the same model, and is not written over', async () => {
  const file = await writeCheckpoint(
    join(folder, 'plain.safetensors'),
    torchrecTensors({ tables: ['t_0', 't_1'] }),
  );
  const plain = JSON.parse((await succeeds('inspect', file, '--format', 'json')).stdout);
  const written = join(folder, 'plain.hotrow.json');
  const { stderr } = await succeeds('inspect', file, '--write-description', written);
  assert.match(stderr, /guessed, to be confirmed in it:\n {2}\/features: /);
  const described = JSON.parse((await succeeds('inspect', file, '--format', 'json')).stdout);
  assert.match(described.notes[0], /described by .*plain\.hotrow\.json/);
  for (const key of ['bottom', 'interaction', 'top', 'output', 'tables', 'bytes'])
    assert.deepEqual(described[key], plain[key], key);
  const refused = await hotrow('inspect', file, '--write-description', written);
  assert.match(refused.stderr, /^error\[FILE_UNWRITABLE\]: .* it is there already/);
});
