// Which test files a change touches: the rule of `npm test -- --changed`, as CONTRIBUTING.md states it.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';

/** What every test may depend on. */
const CONCERNS_ALL = new Set([
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'scripts/test.mjs',
  'scripts/run-tests.mjs',
  'scripts/changed-tests.mjs',
]);

/** What a file stands for that it neither imports nor names. */
const STANDS_FOR = new Map([
  ['src/ffi/native-library.ts', ['kernels/cpu/', 'scripts/build-native.mjs', 'src/ffi/native/']],
  ['test/support/golden.ts', ['test/fixtures/golden/']],
  ['test/generated.test.ts', ['docs/', 'schemas/', 'bench/results/', 'README.md']],
]);

/** Imports and re-exports, but for those of types alone; `import('…')`. */
const IMPORT =
  /^\s*(?:import|export)\s(?!type\s)[^;'"]*?from\s*'(\.[^']+)'|^\s*import\s*'(\.[^']+)'|\bimport\(\s*'(\.[^']+)'/gm;
/** A file or a folder beside the source: up to the first thing that only a run knows. */
const NAMED = /\bnew URL\(\s*(?:'([^']*)'|`([^`$]*))/g;

/** Files of the work tree that differ from where it left `ref`, committed or not. @throws Error in git's words. */
export function changedSince(ref, root) {
  const git = (...args) => {
    const { status, stdout, stderr } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr.trim() || 'git is not installed');
    return stdout.split('\0').filter((line) => line !== '');
  };
  const [base] = git('merge-base', '--', ref, 'HEAD').map((line) => line.trim());
  const tracked = git('diff', '--name-only', '--no-renames', '-z', base);
  return [...tracked, ...git('ls-files', '--others', '--exclude-standard', '-z')];
}

/** Those of `tests` that reach one of `changed`, and what of `changed` no test reaches. */
export function testsOf(changed, tests, root) {
  if (changed.some((file) => CONCERNS_ALL.has(file))) return { chosen: [...tests], unreached: [] };
  const reached = new Set();
  const edges = new Map();
  const chosen = tests.filter((test) => {
    const reaches = closure(test, root, edges);
    const own = changed.filter((file) => reaches.has(file) || foldersOf(file).some((at) => reaches.has(at)));
    for (const file of own) reached.add(file);
    return own.length > 0;
  });
  return { chosen, unreached: changed.filter((file) => !reached.has(file)) };
}

/** All test files, by path from `root`, in order. */
export function testFiles(root) {
  return readdirSync(join(root, 'test'), { recursive: true })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => `test/${file.replaceAll(sep, '/')}`)
    .sort();
}

/**
 * Those of `tests` that reach `file`, nearest first: the one beside it by path, then by the imports between, files named before
 * folders named; of equally near ones those that reach the fewest other files.
 */
export function nearestTests(file, tests, root, edges = new Map()) {
  const beside = file.replace(/^src\/(.*)\.ts$/, 'test/$1.');
  const folders = foldersOf(file);
  const ranked = tests.flatMap((test) => {
    const reaches = closure(test, root, edges);
    const byFolder = Math.min(...folders.map((folder) => reaches.get(folder) ?? Number.POSITIVE_INFINITY));
    const far = reaches.get(file) ?? 1000 + byFolder;
    return Number.isFinite(far) ? [{ test, rank: [test.startsWith(beside) ? 0 : 1, far, reaches.size] }] : [];
  });
  ranked.sort((a, b) => a.rank.map((r, i) => r - b.rank[i]).find((d) => d !== 0) ?? 0);
  return ranked.map(({ test }) => test);
}

/** `file` and all that it reaches, with the steps to each: files, and folders with a slash behind them. */
function closure(file, root, edges) {
  const found = new Map([[file, 0]]);
  for (const [at, steps] of found) {
    if (!edges.has(at)) edges.set(at, edgesOf(at, root));
    for (const next of edges.get(at)) if (!found.has(next)) found.set(next, steps + 1);
  }
  return found;
}

function edgesOf(file, root) {
  const path = join(root, file);
  if (!/\.(?:ts|mjs)$/.test(file) || !existsSync(path)) return STANDS_FOR.get(file) ?? [];
  const text = readFileSync(path, 'utf8');
  const fromHere = (name) => relative(root, join(dirname(path), name)).replaceAll(sep, '/');
  const imported = [...text.matchAll(IMPORT)].map((match) => fromHere(match[1] ?? match[2] ?? match[3]));
  const named = [...text.matchAll(NAMED)].map(([, whole, start]) => {
    // Of a name that is completed at run time the folder is known.
    const name = whole ?? `${start.slice(0, start.lastIndexOf('/') + 1)}.`;
    const target = fromHere(name);
    // The repository's root is where commands run, and no dependency.
    if (target === '' || target.startsWith('..')) return undefined;
    const folder = statSync(join(root, target), { throwIfNoEntry: false })?.isDirectory() ?? false;
    return folder ? `${target}/` : target;
  });
  return [...imported, ...named.filter((target) => target !== undefined), ...(STANDS_FOR.get(file) ?? [])];
}

/** `a/b/c`: a/, a/b/. */
function foldersOf(file) {
  const parts = file.split('/').slice(0, -1);
  return parts.map((_, i) => `${parts.slice(0, i + 1).join('/')}/`);
}
