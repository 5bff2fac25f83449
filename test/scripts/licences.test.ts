/** scripts/licences.mjs: which licences pass, and that it can fail. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../../scripts/licences.mjs', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'hotrow-licences-'));
after(() => rmSync(root, { recursive: true }));

interface Package {
  readonly license?: unknown;
  readonly dev?: boolean;
  readonly link?: boolean;
}

/** Runs the script on a lockfile with these packages, `installed` of which have a package.json. */
function check(
  packages: Readonly<Record<string, Package>>,
  installed: Readonly<Record<string, unknown>> = {},
) {
  const folder = mkdtempSync(join(root, 'case-'));
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ packages: { '': {}, ...packages } }));
  for (const [path, content] of Object.entries(installed)) {
    mkdirSync(join(folder, path), { recursive: true });
    writeFileSync(join(folder, path, 'package.json'), JSON.stringify(content));
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, folder], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

const one = (license: unknown, more: Package = {}) => check({ 'node_modules/a': { license, ...more } });

test('this repository passes', () => {
  const { status, stdout } = spawnSync(process.execPath, [SCRIPT], { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
  assert.match(stdout, /all allowed \(.*MIT \d+/);
});

test('what is allowed', () => {
  for (const licence of [
    'MIT',
    'Apache-2.0',
    'MIT OR GPL-3.0',
    '(MIT OR GPL-3.0) AND ISC',
    'GPL-2.0 OR (MIT AND ISC)',
  ])
    assert.equal(one(licence).status, 0, licence);
  assert.equal(one('MPL-2.0', { dev: true }).status, 0, 'of a development dependency');
  assert.equal(check({ 'node_modules/a': { link: true } }).status, 0, 'a link into the repository');
});

test('what is refused, by name', () => {
  for (const licence of [
    'GPL-3.0',
    'MPL-2.0',
    'MIT AND GPL-3.0',
    '(MIT OR ISC) AND GPL-3.0',
    'SEE LICENSE IN LICENSE.txt',
    'UNLICENSED',
    'mit',
    '(MIT',
    'MIT ISC',
    '',
    { type: 'MIT' },
    undefined,
  ]) {
    const { status, stderr } = one(licence);
    assert.equal(status, 1, String(licence));
    assert.match(stderr, /not allowed: node_modules\/a/, String(licence));
  }
});

test('what the lockfile leaves open is read from the package', () => {
  const packages = { 'node_modules/a': {} };
  assert.equal(check(packages, { 'node_modules/a': { license: 'ISC' } }).status, 0);
  assert.equal(check(packages, { 'node_modules/a': { license: 'GPL-3.0' } }).status, 1);
  assert.equal(check(packages, { 'node_modules/a': {} }).status, 1);
});
