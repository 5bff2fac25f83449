/** `hotrow report` and `bench --report` as a user types them. */
import assert from 'node:assert/strict';
import { copyFile, link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { hotrow } from '../../support/cli.ts';

const RECORDED = fileURLToPath(new URL('../../../bench/results/cpu-zen5-quick.json', import.meta.url));

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-report-'));
});
beforeEach(async () => {
  await rm(folder, { recursive: true });
  await mkdir(folder);
  await copyFile(RECORDED, join(folder, 'results.json'));
});
after(() => rm(folder, { recursive: true }));

const at = (name: string) => join(folder, name);

test('writes the page and says where; what was there before is replaced', async () => {
  await writeFile(at('page.html'), 'old');
  const { code, stdout, stderr } = await hotrow('report', at('results.json'), '--out', at('page.html'));
  assert.equal(code, 0, stderr);
  assert.equal(stdout, `wrote ${at('page.html')}\n`);
  assert.match(await readFile(at('page.html'), 'utf8'), /^<!doctype html>[\s\S]*<\/html>\n$/);
  assert.deepEqual((await readdir(folder)).sort(), ['page.html', 'results.json']);
});

test('results given twice are said', async () => {
  const { code, stderr } = await hotrow('report', at('results.json'), RECORDED, '--out', at('page.html'));
  assert.equal(code, 0);
  assert.match(stderr, /1 of the 2 results repeat another/);
});

test('bad input among good ones: nothing is written', async () => {
  await writeFile(at('broken.json'), '{"kind":"bench","version":1}');
  const { code, stderr } = await hotrow(
    'report',
    at('results.json'),
    at('broken.json'),
    '--out',
    at('page.html'),
  );
  assert.equal(code, 1);
  assert.match(stderr, /^error\[RESULTS_INVALID\]: .*broken\.json: \//);
  assert.deepEqual((await readdir(folder)).sort(), ['broken.json', 'results.json']);
});

test('the input is never overwritten', async () => {
  await link(at('results.json'), at('other'));
  const { code, stderr } = await hotrow('report', at('results.json'), '--out', at('other'));
  assert.equal(code, 1);
  assert.match(stderr, /^error\[FILE_UNWRITABLE\]: cannot write .*other: it is .*results.json, which this/);
  assert.equal(await readFile(at('results.json'), 'utf8'), await readFile(RECORDED, 'utf8'));
});

test('a folder, and a folder that is not there', async () => {
  for (const out of [folder, at('missing/page.html')]) {
    const { code, stderr } = await hotrow('report', at('results.json'), '--out', out);
    assert.equal(code, 1);
    assert.match(stderr, /^error\[FILE_UNWRITABLE\]: cannot write/);
  }
});

test('without --out or results: wrong usage', async () => {
  assert.equal((await hotrow('report', at('results.json'))).code, 2);
  assert.equal((await hotrow('report', '--out', at('page.html'))).code, 2);
});

test('bench --report writes the page of its own results, hotness and all', async () => {
  const { code, stdout, stderr } = await hotrow(
    'bench',
    '--device',
    'cpu',
    '--tables',
    '1',
    '--rows',
    '500',
    '--dim',
    '8',
    '--batch',
    '16',
    '--bag-lengths',
    '4',
    '--rounds',
    '1',
    '--patterns',
    'one_item,random',
    '--no-peers',
    '--format',
    'json',
    '--report',
    at('page.html'),
  );
  assert.equal(code, 0, stderr);
  const { hotness } = JSON.parse(stdout) as { hotness: { pattern: string; points: [number, number][] }[] };
  assert.deepEqual(hotness[0], { pattern: 'one_item', points: [[1, 1]] });
  assert.equal(hotness[1]?.points.at(-1)?.[1], 1);
  const page = await readFile(at('page.html'), 'utf8');
  assert.match(page, /id="run-1-hotness"/);
  assert.match(page, /id="run-1-model"/);
});

test('bench refuses one file for results and report before it runs', async () => {
  const { code, stderr } = await hotrow('bench', '--json', at('new'), '--report', at('new'));
  assert.equal(code, 1);
  assert.match(stderr, /^error\[FILE_UNWRITABLE\]: cannot write .*new: --json names the same file/);
});
