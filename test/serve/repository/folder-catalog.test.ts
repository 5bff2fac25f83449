/** Folders of models: what is served, and what is refused, by file and member. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, test } from 'node:test';
import { FolderCatalog } from '../../../src/serve/repository/folder-catalog.ts';
import { torchrecTensors, writeCheckpoint } from '../../support/checkpoints.ts';

const top = mkdtempSync(join(tmpdir(), 'hotrow-repository-'));
after(() => rmSync(top, { recursive: true }));
const checkpoint = join(top, 'outside.safetensors');
await writeCheckpoint(checkpoint, torchrecTensors({ tables: ['t0', 't1'] }));

let folder: string;
let catalog: FolderCatalog;
beforeEach(async () => {
  folder = mkdtempSync(join(top, 'models-'));
  catalog = await FolderCatalog.open(folder, { device: 'cpu', threads: 2, overrides: {} });
});

async function version(model: string, number: string | number): Promise<string> {
  const own = join(folder, model, String(number));
  mkdirSync(own, { recursive: true });
  await writeCheckpoint(join(own, 'model.safetensors'), torchrecTensors({ tables: ['t0', 't1'] }));
  return own;
}
const settings = (model: string, members: object | string) =>
  writeFileSync(
    join(folder, model, 'settings.json'),
    typeof members === 'string' ? members : JSON.stringify({ version: 1, ...members }),
  );
const refused = (model: string, message: RegExp, code = 'REPOSITORY_INVALID') =>
  assert.rejects(catalog.find(model), { code, message });

test('a folder with a version needs nothing else', async () => {
  const own = await version('ads', 1);
  assert.deepEqual(await catalog.names(), ['ads']);
  const { fingerprint, ...found } = (await catalog.find('ads')) ?? {};
  assert.deepEqual(found, {
    name: 'ads',
    version: '1',
    source: { kind: 'file', path: own, overrides: {} },
    placings: [{ device: 'cpu', threads: 2 }],
    batching: {},
    patches: join(own, 'patches'),
  });
  assert.match(String(fingerprint), /^[0-9a-f]{64}$/);
});

test('the largest number is served, or the one that is said', async () => {
  for (const number of [9, 10, 2]) await version('ads', number);
  for (const other of ['03', 'v11', '0', '-1', '1e9']) mkdirSync(join(folder, 'ads', other));
  writeFileSync(join(folder, 'ads', '11'), 'no folder');
  assert.equal((await catalog.find('ads'))?.version, '10');
  settings('ads', { serve: 2 });
  assert.equal((await catalog.find('ads'))?.version, '2');
  settings('ads', { serve: 3 });
  await refused('ads', /ads\/settings\.json: \/serve is 3, and there is no such folder/);
});

test('settings say how it is served', async () => {
  await version('ads', 1);
  writeFileSync(
    join(folder, 'ads', 'plan.json'),
    JSON.stringify({ version: 1, device: 'cpu', kernel: 'standard', techniques: {} }),
  );
  settings('ads', {
    file: 'model.safetensors',
    device: ['cpu', 'cpu'],
    threads: 1,
    precision: 'float32',
    plan: 'plan.json',
    interaction: 'dot',
    slaMs: 12.5,
    maxBatch: 100,
    queueSamples: 1000,
  });
  const found = await catalog.find('ads');
  const placing = {
    device: 'cpu',
    threads: 1,
    precision: 'float32',
    plan: { version: 1, device: 'cpu', kernel: 'standard', techniques: {} },
  };
  assert.deepEqual(found?.placings, [placing, placing]);
  assert.deepEqual(found?.batching, { slaMs: 12.5, mostSamples: 100, queueSamples: 1000 });
  assert.equal(found?.slaMs, 12.5);
  assert.deepEqual(found?.source, {
    kind: 'file',
    path: join(folder, 'ads', '1', 'model.safetensors'),
    overrides: { interaction: 'dot' },
  });
});

test('its fingerprint changes with its files, settings and version; not with its patches', async () => {
  const own = await version('ads', 1);
  const print = async () => (await catalog.find('ads'))?.fingerprint;
  const first = await print();
  assert.equal(await print(), first);
  mkdirSync(join(own, 'patches'));
  writeFileSync(join(own, 'patches', '0001.safetensors'), '');
  assert.equal(await print(), first);
  const seen = new Set([first]);
  utimesSync(join(own, 'model.safetensors'), 1, 1);
  seen.add(await print());
  settings('ads', { slaMs: 1 });
  seen.add(await print());
  await version('ads', 2);
  seen.add(await print());
  assert.equal(seen.size, 4);
});

describe('what is refused', () => {
  test('names that are none; those that lead elsewhere name nothing', async () => {
    await version('ads', 1);
    for (const name of ['..', '.', '../models', 'ads/1', '/etc', '', '.hidden', 'ads\0', 'other'])
      assert.equal(await catalog.find(name), undefined, name);
    for (const name of ['two words', 'ä', '-x', 'x'.repeat(129)]) {
      await version(name, 1);
      await refused(name, /is no name of a model/);
    }
    mkdirSync(join(folder, '.hidden'));
    writeFileSync(join(folder, 'README.md'), '');
    assert.ok(!(await catalog.names()).some((name) => name === '.hidden' || name === 'README.md'));
  });

  test('links out of the repository', async () => {
    symlinkSync(top, join(folder, 'ads'));
    await refused('ads', /leads out of the repository/);
    mkdirSync(join(folder, 'b'));
    symlinkSync(top, join(folder, 'b', '1'));
    await refused('b', /b\/1 leads out/);
    mkdirSync(join(folder, 'c', '1'), { recursive: true });
    symlinkSync(checkpoint, join(folder, 'c', '1', 'model.safetensors'));
    await refused('c', /c\/1\/model\.safetensors leads out/);
    await version('d', 1);
    symlinkSync('/etc/hostname', join(folder, 'd', 'settings.json'));
    await refused('d', /d\/settings\.json leads out/);
    symlinkSync(top, join(await version('f', 1), 'patches'));
    await refused('f', /f\/1\/patches leads out/);
    // Those that stay inside are as good as files, as in a mounted volume.
    const own = await version('e', 1);
    mkdirSync(join(folder, '..data'));
    symlinkSync(own, join(folder, 'e', '2'));
    assert.equal((await catalog.find('e'))?.version, '2');
  });

  test('paths out of it, in settings and in descriptions', async () => {
    const own = await version('ads', 1);
    for (const file of ['../1/model.safetensors', '/etc/hostname', '..', 'a/../../b']) {
      settings('ads', { file });
      await refused('ads', /settings\.json: \/file leads out/);
    }
    for (const plan of ['../plan.json', '/plan.json']) {
      settings('ads', { plan });
      await refused('ads', /settings\.json: \/plan names a file outside/);
    }
    settings('ads', {});
    const description = { kind: 'model', version: 1, checkpoint: '../../../outside.safetensors' };
    writeFileSync(join(own, 'model.hotrow.json'), JSON.stringify(description));
    settings('ads', { file: 'model.hotrow.json' });
    await refused('ads', /outside\.safetensors leads out of the repository/);
  });

  test('settings that are none, by file and member', async () => {
    await version('ads', 1);
    const cases: [object | string, RegExp, string?][] = [
      ['{', /settings\.json/, 'FILE_TRUNCATED'],
      ['', /settings\.json is empty/, 'FILE_TRUNCATED'],
      ['[]', /settings\.json: the file is a list/],
      ['{}', /settings\.json: the file lacks "version"/],
      ['{"version":2}', /settings\.json: \/version is 2/],
      [{ sla: 10 }, /settings\.json: \/sla is not a member here/],
      [{ slaMs: 0 }, /settings\.json: \/slaMs is 0/],
      [{ slaMs: '10' }, /settings\.json: \/slaMs is "10"/],
      [{ device: 'tpu' }, /settings\.json: \/device/],
      [{ device: [] }, /settings\.json: \/device/],
      [{ precision: 'float8' }, /settings\.json: \/precision is "float8"/],
      [{ serve: 0 }, /settings\.json: \/serve is 0/],
      [{ serve: 'newest' }, /settings\.json: \/serve is "newest"/],
      [{ file: 'absent.pt' }, /absent\.pt/, 'FILE_NOT_FOUND'],
      [{ plan: 'absent.json' }, /absent\.json/, 'FILE_NOT_FOUND'],
    ];
    for (const [members, message, code] of cases) {
      settings('ads', members);
      await refused('ads', message, code);
    }
  });

  test('a model without a version, a folder that is none', async () => {
    mkdirSync(join(folder, 'ads'));
    await refused('ads', /ads has no version/);
    await assert.rejects(FolderCatalog.open(checkpoint, { device: 'cpu', overrides: {} }), {
      code: 'REPOSITORY_INVALID',
    });
    await assert.rejects(FolderCatalog.open(join(top, 'absent'), { device: 'cpu', overrides: {} }), {
      code: 'FILE_NOT_FOUND',
    });
  });
});
