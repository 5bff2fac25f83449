/** Which tests a change touches, in a small repository of git's. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
// @ts-expect-error: a script, without types
import { changedSince, testFiles, testsOf } from '../../scripts/changed-tests.mjs';

const root = mkdtempSync(join(tmpdir(), 'hotrow-changed-'));
after(() => rmSync(root, { recursive: true }));

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

const FILES = {
  'src/low.ts': 'export const low = 1;',
  'src/types.ts': 'export interface Type {}',
  'src/high.ts': "import {\n  low,\n} from './low.ts';\nimport type { Type } from './types.ts';",
  'src/lazy.ts': "const high = await import('./high.ts');",
  'src/kernels.ts': "const folder = new URL('../kernels/cuda', import.meta.url);",
  'src/ffi/native-library.ts': '',
  'kernels/cuda/a.cuh': '',
  'kernels/cpu/a.c': '',
  'test/low.test.ts': "import { low } from '../src/low.ts';",
  'test/lazy.rest.test.ts': "import '../src/lazy.ts';",
  'test/kernels.test.ts': "export * from '../src/kernels.ts';",
  'test/cpu.test.ts': "import '../src/ffi/native-library.ts';",
  'test/fixture.test.ts': `read(new URL(\`fixtures/\${name}.pt\`, import.meta.url));`,
  'test/fixtures/a.pt': '',
  'test/root.test.ts': "const root = new URL('..', import.meta.url);",
  'README.md': '',
  'package.json': '{}',
};
for (const [path, text] of Object.entries(FILES)) write(path, text);
const tests: string[] = testFiles(root);

const chosen = (...changed: string[]): string[] => testsOf(changed, tests, root).chosen;

test('tests are those whose imports, lazy ones too, reach a changed file', () => {
  assert.deepEqual(chosen('src/low.ts'), ['test/lazy.rest.test.ts', 'test/low.test.ts']);
  assert.deepEqual(chosen('src/high.ts'), ['test/lazy.rest.test.ts']);
  assert.deepEqual(chosen('test/low.test.ts'), ['test/low.test.ts']);
  assert.deepEqual(chosen('src/types.ts'), [], 'types alone do not count');
});

test('… or that name it, or a folder that it is in', () => {
  assert.deepEqual(chosen('kernels/cuda/a.cuh'), ['test/kernels.test.ts']);
  assert.deepEqual(chosen('kernels/cuda/deleted.cuh'), ['test/kernels.test.ts']);
  assert.deepEqual(chosen('test/fixtures/a.pt'), ['test/fixture.test.ts']);
  assert.deepEqual(chosen('kernels/cpu/a.c'), ['test/cpu.test.ts']);
});

test('what all depend on chooses all; what nothing reaches is told', () => {
  assert.deepEqual(chosen('package.json'), tests);
  assert.deepEqual(testsOf(['README.md', 'src/high.ts'], tests, root).unreached, ['README.md']);
});

test('changed files: committed since the branch began, not committed, and new', () => {
  const git = (...args: string[]) => {
    const own = ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args];
    const { status, stderr } = spawnSync('git', own, { cwd: root, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  };
  git('init', '--quiet', '--initial-branch=main');
  git('add', '.');
  git('commit', '--quiet', '-m', 'all');
  git('checkout', '--quiet', '-b', 'own');
  assert.deepEqual(changedSince('main', root), []);
  write('src/low.ts', 'export const low = 2;');
  git('commit', '--quiet', '-am', 'one');
  write('src/high.ts', '');
  write('src/new one.ts', '');
  git('rm', '--quiet', 'README.md');
  assert.deepEqual(changedSince('main', root).toSorted(), [
    'README.md',
    'src/high.ts',
    'src/low.ts',
    'src/new one.ts',
  ]);
  assert.throws(() => changedSince('nowhere', root), /nowhere/);
});
