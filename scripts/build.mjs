// Builds Hotrow into dist/: the CPU kernels through the C compiler, the TypeScript sources, and their types.
//   node scripts/build.mjs             for this checkout
//   node scripts/build.mjs --programs  what runs alone, for tests: the types take as long as all the rest
//   node scripts/build.mjs --package   what `npm pack` ships: kernels for other machines too, without what only debuggers read
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildPage } from './build-page.mjs';
import { noticeOf } from './bundled-licences.mjs';
import { FOR_NODE } from './esbuild-options.mjs';
import { requireNode } from './require-node.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const isPackage = process.argv.includes('--package');
const hasTypes = !process.argv.includes('--programs');

function fail(message) {
  console.error(message);
  process.exit(1);
}

/** Commands load what they need: what several share is in files of its own, with the licences of what is in it. */
async function buildJavaScript() {
  const { build } = await import('esbuild');
  const { metafile, outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: {
      index: 'src/index.ts',
      client: 'src/client/client.ts',
      'cli/main': 'src/cli/main.ts',
      'build-library': 'src/ffi/native/build-main.ts',
      'serve/engine-thread': 'src/serve/engine/engine-thread.ts',
      'serve/http-thread': 'src/serve/http/http-thread.ts',
    },
    outdir: dist,
    chunkNames: 'chunks/[name]-[hash]',
    ...FOR_NODE,
    splitting: true,
    minifyWhitespace: isPackage,
    minifySyntax: isPackage,
    logLevel: 'warning',
    metafile: true,
    write: false,
  });
  for (const { path, text } of outputFiles) {
    const { inputs } = metafile.outputs[relative(root, path)];
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, withNotice(text, noticeOf(root, inputs)), { mode: isProgram(text) ? 0o755 : 0o644 });
  }
  await buildPage(root, join(dist, 'serve/page.js'));
}

/** Its first line says what runs it. */
const isProgram = (text) => text.startsWith('#!');

function withNotice(text, notice) {
  const [first = ''] = /^#!.*\n/.exec(text) ?? [];
  return `${first}${notice}${text.slice(first.length)}`;
}

/** The declarations that the public API reaches, for `import` and, under names of their own, for `require`. */
function buildTypes() {
  const all = mkdtempSync(join(tmpdir(), 'hotrow-types-'));
  try {
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    const options = ['-p', 'tsconfig.build.json', '--emitDeclarationOnly', '--outDir', all];
    const { status } = spawnSync(process.execPath, [compiler, ...options], { cwd: root, stdio: 'inherit' });
    if (status !== 0) process.exit(status ?? 1);
    const reached = new Set(['index', 'client/client'].map((name) => join(all, `${name}.d.ts`)));
    for (const file of reached) {
      const text = readFileSync(file, 'utf8');
      for (const [, name] of text.matchAll(SPECIFIER))
        reached.add(join(dirname(file), name.replace(/ts$/, 'd.ts')));
      const target = join(dist, 'types', relative(all, file)).replace(/\.d\.ts$/, '');
      mkdirSync(dirname(target), { recursive: true });
      const referring = (extension) => text.replace(SPECIFIER, (name) => name.replace(/\.ts$/, extension));
      writeFileSync(`${target}.d.ts`, referring('.js'));
      writeFileSync(`${target}.d.cts`, forRequire(referring('.cjs')));
    }
  } finally {
    rmSync(all, { recursive: true, force: true });
  }
}

/** In `from '…'` and `import('…')`. */
const SPECIFIER = /(?<=\b(?:from |import\()['"])(\.[^'"]+\.ts)(?=['"])/g;

/**
 * Declarations as a CommonJS module may have them: typebox is an ES module alone, which must be said wherever it is named. Without
 * comments: said once is enough.
 */
function forRequire(text) {
  const mode = '{ "resolution-mode": "import" }';
  return text
    .replace(/^\s*\/\*\*(?:[^*]|\*(?!\/))*\*\/\n/gm, '')
    .replace(
      /^import (?:type )?(\w+)?(?:, )?(\{[^}]*\})? from ('typebox[^']*');/gm,
      (_, whole, named, from) =>
        [whole, named?.replaceAll('type ', '')]
          .filter((names) => names !== undefined)
          .map((names) => `import type ${names} from ${from} with ${mode};`)
          .join('\n'),
    )
    .replace(/\bimport\((["']typebox[^"']*["'])\)/g, `import($1, { with: ${mode} })`);
}

requireNode();
if (!existsSync(join(root, 'node_modules/esbuild')))
  fail('error: the dependencies are not installed\nhint: run `npm ci`');
const { buildNative, buildShipped } = await import('./build-native.mjs');
mkdirSync(dist, { recursive: true });
// What a removed source left behind would still be importable, or shipped.
const kept = [...(isPackage ? [] : ['native']), ...(hasTypes ? [] : ['types'])];
for (const stale of readdirSync(dist).filter((name) => !kept.includes(name)))
  rmSync(join(dist, stale), { recursive: true });
try {
  if (isPackage) console.error(`kernels for ${(await buildShipped(join(dist, 'native'))).join(', ')}`);
  else await buildNative();
} catch (error) {
  fail(`error: ${error.message}${error.hint === undefined ? '' : `\nhint: ${error.hint}`}`);
}
await buildJavaScript();
if (hasTypes) buildTypes();
