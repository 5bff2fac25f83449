/** What commands check of their outputs: none is an input, by whatever name, and none another output. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { checkOutputs, type Inputs } from '../../src/cli/check-outputs.ts';
import { COMMAND, hotrow } from '../support/cli.ts';
import { goldenPath } from '../support/golden.ts';

const MODEL = goldenPath('dlrm_dcnv2.model.safetensors');
const REQUEST = goldenPath('dlrm_dcnv2.request.safetensors');
const skip = (MODEL === undefined || REQUEST === undefined) && 'no golden files dlrm_dcnv2.*';

let folder = '';
const at = (name: string) => join(folder, name);
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-outputs-'));
});
after(() => rm(folder, { recursive: true }));

async function refuses(file: string, inputs: Inputs, why: RegExp): Promise<void> {
  await assert.rejects(checkOutputs([{ option: '--out', file }], inputs), {
    code: 'FILE_UNWRITABLE',
    message: why,
    hint: 'name another file with --out',
  });
}

describe('inputs', { skip }, () => {
  test('a file by its name, a link, a hard link, another path', async () => {
    await writeFile(at('plan.json'), '{}');
    await symlink('plan.json', at('link.json'));
    await link(at('plan.json'), at('hard.json'));
    const files = ['auto', undefined, at('plan.json')];
    await refuses(at('plan.json'), { files }, /it is read by this command/);
    for (const name of ['link.json', 'hard.json'])
      await refuses(at(name), { files }, /it is .*plan\.json, which this command reads/);
    await refuses(`${folder}/./plan.json`, { files }, /which this command reads/);
    await checkOutputs([{ option: '--out', file: at('other.json') }], { files });
    await refuses(at('plan.json'), { files: [at('link.json')] }, /which this command reads/);
  });

  test('all files of a folder, and below', async () => {
    await mkdir(at('traffic/day'), { recursive: true });
    await writeFile(at('traffic/day/1.txt'), '1\n');
    await refuses(at('traffic/day/1.txt'), { files: [at('traffic')] }, /it is read by this command/);
    await checkOutputs([{ option: '--out', file: at('traffic/new') }], { files: [at('traffic')] });
  });

  test('the shards of an index, the description and the vocabularies of a model', async () => {
    await cp(MODEL as string, at('m.safetensors'));
    await refuses(at('m.safetensors'), { model: at('m.safetensors') }, /it is read by this command/);
    const weightMap = { 'a.weight': 'shard-1.safetensors', 'b.weight': 'shard-2.safetensors' };
    await writeFile(at('s.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    for (const name of ['shard-1', 'shard-2']) await writeFile(at(`${name}.safetensors`), 'x');
    for (const name of ['shard-1.safetensors', 'shard-2.safetensors', 's.safetensors.index.json'])
      await refuses(at(name), { model: at('s.safetensors.index.json') }, /read by this|this command reads/);

    await writeFile(at('ids.json'), '["a","b"]');
    const description = {
      kind: 'model',
      version: 1,
      checkpoint: 's.safetensors.index.json',
      tables: [{ name: 'a' }],
      features: [{ name: 'f', table: 'a', ids: { vocabulary: 'ids.json' } }],
    };
    await writeFile(at('d.hotrow.json'), JSON.stringify(description));
    const model = at('d.hotrow.json');
    for (const name of ['d.hotrow.json', 'ids.json', 'shard-2.safetensors', 's.safetensors.index.json'])
      await refuses(at(name), { model }, /read by this command|which this command reads/);
    await checkOutputs([{ option: '--out', file: at('m.safetensors') }], { model });
  });
});

test('outputs that are the same file, and -', async () => {
  await writeFile(at('there'), '');
  await link(at('there'), at('there-too'));
  await symlink('new', at('to-new'));
  for (const [json, report] of [
    ['new', 'new'],
    ['new', 'to-new'],
    ['there', 'there-too'],
  ] as const) {
    const outputs = [
      { option: '--json', file: at(json) },
      { option: '--report', file: at(report) },
    ];
    await assert.rejects(checkOutputs(outputs, {}), /: --json names the same file$/);
  }
  const dash = checkOutputs([{ option: '--json', file: '-' }], {});
  await assert.rejects(dash, { code: 'FILE_UNWRITABLE', hint: 'a file of this name is ./-' });
});

describe('commands', { skip }, () => {
  test('each refuses to write over what it reads, and leaves it as it was', async () => {
    await cp(MODEL as string, at('model.safetensors'));
    await cp(REQUEST as string, at('request.safetensors'));
    await writeFile(at('trace.txt'), '1\n2\n');
    const [model, request, trace] = ['model.safetensors', 'request.safetensors', 'trace.txt'].map(at) as [
      string,
      string,
      string,
    ];
    const read = () => Promise.all([model, request, trace].map((file) => readFile(file)));
    const names = await readdir(folder);
    const contents = await read();
    const results = await Promise.all(
      [
        ['predict', model, request, '--out', model],
        ['predict', model, request, '--out', request],
        ['quantize', model, '--rows', 'int8', '--out', model],
        ['inspect', model, '--write-description', model],
        ['bench', model, '--trace', trace, '--json', trace],
        ['tune', model, '--trace', `a=${trace}`, '--out', trace],
        ['characterize', model, '--report', model],
      ].map((args) => hotrow(...args)),
    );
    for (const { code, stdout, stderr } of results) {
      assert.deepEqual([code, stdout], [1, ''], stderr);
      assert.match(stderr, /^error\[FILE_UNWRITABLE\]: cannot write .*: it is /);
    }
    assert.deepEqual(await read(), contents);
    assert.deepEqual(await readdir(folder), names);
  });
});

test('a full disk behind stdout is an error, a closed pipe is none', async (t) => {
  const run = (redirected: string) =>
    promisify(execFile)('sh', ['-c', `"$@" ${redirected}`, 'sh', ...COMMAND, 'devices']).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    );
  const [full, closed] = await Promise.allSettled([run('> /dev/full'), run('2>&1 | true')]);
  assert.deepEqual(closed, { status: 'fulfilled', value: { code: 0, stdout: '', stderr: '' } });
  if (!existsSync('/dev/full')) return t.skip('no /dev/full');
  assert.equal(full.status, 'rejected');
  assert.equal(full.reason.code, 1);
  assert.match(
    full.reason.stderr,
    /^error\[FILE_UNWRITABLE\]: cannot write standard output: ENOSPC: no space/,
  );
  assert.doesNotMatch(full.reason.stderr, /\n +at /);
});
