/** `hotrow quantize` and `hotrow characterize` as a user types them. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import Value from 'typebox/value';
import { characterizationSchema } from '../../../src/characterize/results.ts';
import { findToolkitProgram } from '../../../src/jit/nvcc.ts';
import { refuseGpu } from '../../gpu/gpu.ts';
import { hotrow } from '../../support/cli.ts';
import { goldenPath } from '../../support/golden.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-cli-'));
});
after(() => rm(folder, { recursive: true }));

const MODEL = goldenPath('dlrm_dcnv2.model.safetensors');
const REQUEST = goldenPath('dlrm_dcnv2.request.safetensors');
const skip = (MODEL === undefined || REQUEST === undefined) && 'no golden files dlrm_dcnv2.*';

describe('hotrow quantize', { skip }, () => {
  const scores = async (model: string): Promise<number[]> => {
    const { code, stdout, stderr } = await hotrow('predict', model, REQUEST as string, '--format', 'json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout).probabilities;
  };

  test('converts, reports, and predict runs what it wrote', async () => {
    const out = join(folder, 'int8.safetensors');
    const { code, stdout, stderr } = await hotrow(
      ...['quantize', MODEL as string, '--rows', 'int8', '--out', out, '--format', 'json'],
    );
    assert.equal(code, 0, stderr);
    const { tables } = JSON.parse(stdout);
    assert.ok(tables.length > 1);
    for (const { bytesBefore, bytesAfter, relativeRmsError, to } of tables) {
      assert.equal(to, 'int8');
      assert.ok(bytesAfter < bytesBefore);
      assert.ok(relativeRmsError > 0 && relativeRmsError < 0.01);
    }
    const [before_, after_] = [await scores(MODEL as string), await scores(out)];
    before_.forEach((p, i) => {
      assert.ok(Math.abs(p - (after_[i] as number)) < 2e-3, `sample ${i}: ${p} became ${after_[i]}`);
    });
    const { stdout: table } = await hotrow('inspect', out);
    assert.match(table, /int8/);
  });

  test('tables that lose more than --warn-above are warned of, on stderr and in JSON', async () => {
    const out = join(folder, 'warned.safetensors');
    for (const [above, warned] of [
      ['0.01', true],
      ['50%', false],
    ] as const) {
      const { code, stdout, stderr } = await hotrow(
        ...['quantize', MODEL as string, '--rows', 'int8', '--tables', '1', '--out', out],
        ...['--warn-above', above, '--format', 'json'],
      );
      assert.equal(code, 0, stderr);
      const [{ name, warnings }] = JSON.parse(stdout).tables;
      assert.equal(warnings.length, warned ? 1 : 0);
      const said = stderr.split('\n').filter((line) => line.startsWith('warning: '));
      assert.deepEqual(said, warned ? [`warning: ${warnings[0]}`] : []);
      if (warned) assert.ok(warnings[0].startsWith(`table ${name} loses 0.`));
    }
  });

  test('some tables, as a table for people', async () => {
    const out = join(folder, 'some.safetensors');
    const { code, stdout } = await hotrow(
      ...['quantize', MODEL as string, '--rows', 'int4', '--tables', '0', '--out', out],
    );
    assert.equal(code, 0);
    assert.match(stdout, /1 tables, .* → /);
    assert.match(stdout, /float32 → int4/);
  });

  test('bad input is refused, and nothing is written', async () => {
    const out = join(folder, 'never.safetensors');
    for (const [args, code, pattern] of [
      [['--rows', 'int9', '--out', out], 2, /int8/],
      [['--rows', 'int8'], 2, /--out/],
      [['--rows', 'int8', '--tables', '99', '--out', out], 2, /no such table/],
      [['--rows', 'int8', '--tables', 'x', '--out', out], 2, /no such table/],
      [['--rows', 'int8', '--warn-above', 'much', '--out', out], 2, /a percentage like 2 or 0.5/],
      [['--rows', 'int8', '--out', join(folder, 'no', 'folder')], 1, /FILE_UNWRITABLE/],
      [['--rows', 'int8', '--out', MODEL as string], 1, /it is read by this command/],
    ] as const) {
      const result = await hotrow('quantize', MODEL as string, ...args);
      assert.equal(result.code, code, result.stderr);
      assert.equal(result.stdout, '');
      assert.match(result.stderr, pattern);
    }
    assert.equal(existsSync(out), false);
  });
});

describe('hotrow characterize', () => {
  test('without a GPU: said, with what can be had', {
    skip: refuseGpu() === false && 'there is a GPU',
  }, async () => {
    const { code, stdout, stderr } = await hotrow('characterize');
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^error\[DEVICE_UNAVAILABLE\]: no counters without a GPU: /);
    assert.match(stderr, /^hint: pass --static/m);
  });

  test('options that do not go together', async () => {
    for (const [args, said] of [
      [['--device', 'cpu'], /--device cpu: counters are those of a GPU/],
      [['--gpu', 'A100'], /--gpu names GPUs for --static/],
      [['--static', '--patterns', 'random'], /--static looks nothing up: --patterns/],
      [['--static', '--variants', 'fused'], /--variants chooses what runs on a GPU/],
      [['--variants', 'fused,best'], /there is no variant "best".*variants are standard, optmt, /s],
    ] as const) {
      const { code, stdout, stderr } = await hotrow('characterize', ...args);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, said);
    }
  });

  test('lookups that cannot be are refused before a GPU is looked for', async () => {
    const trace = join(folder, 'bad.txt');
    await writeFile(trace, '1\nseven\n');
    for (const [args, exit, said] of [
      [['--patterns', 'random,warm'], 2, /^error\[USAGE\]: there is no access pattern "warm"/],
      [['--bag-lengths', 'long'], 2, /^error\[USAGE\]: .*long/],
      [['--trace', trace], 1, /^error\[TRACE_INVALID\]: .*line 2: "seven"/],
      [['--trace', join(folder, 'none.txt')], 1, /^error\[FILE_NOT_FOUND\]: /],
    ] as const) {
      const { code, stdout, stderr } = await hotrow('characterize', '--device', 'cuda:63', ...args);
      assert.deepEqual([code, stdout], [exit, '']);
      assert.match(stderr, said);
    }
  });

  test('--static for GPUs that are not here', {
    skip: findToolkitProgram('nvcc') === undefined && 'no nvcc',
  }, async () => {
    const [json, page] = [join(folder, 'static.json'), join(folder, 'static.html')];
    const { code, stdout, stderr } = await hotrow(
      ...['characterize', '--static', '--gpu', 'A100,L4', '--json', json, '--report', page],
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^A100 \(sm_80\)$/m);
    assert.match(stdout, /^L4 \(sm_89\)$/m);
    assert.match(stdout, /\+ RPF d6 .* 32 .*100 %/);
    const results = JSON.parse(await readFile(json, 'utf8'));
    assert.deepEqual([...Value.Errors(characterizationSchema, results)], []);
    assert.match(await readFile(page, 'utf8'), /^<!doctype html>/i);
  });
});
