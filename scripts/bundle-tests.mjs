// Tests as JavaScript, made once for all that run: else each file's process would compile hundreds of sources anew.
import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { FOR_NODE } from './esbuild-options.mjs';

/** Where the JavaScript is made: beside the sources, so that packages are found. */
const FOLDER = '.tests';

const { name, dependencies, devDependencies } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);
/** Of hundreds of files each, which every process would load one by one: they are bundled. */
const BUNDLED = ['typebox', 'fast-check'];
const EXTERNAL = [name, ...Object.keys({ ...dependencies, ...devDependencies })].filter(
  (name) => !BUNDLED.includes(name),
);

/** Sources stay where they are for themselves: from there they name their neighbours. */
const ownUrls = {
  name: 'own-urls',
  setup({ onLoad }) {
    onLoad({ filter: /\.(?:ts|mjs)$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      // On the first line, so that lines keep their numbers.
      const contents = `const SOURCE_URL = ${JSON.stringify(pathToFileURL(path).href)}; ${text}`;
      return { contents, loader: extname(path) === '.ts' ? 'ts' : 'js' };
    });
  },
};

/**
 * Writes test files, by path from `root`, as JavaScript with source maps. @returns a new folder, and each file's path in it.
 */
export async function bundleTests(files, root) {
  mkdirSync(join(root, FOLDER), { recursive: true });
  const folder = mkdtempSync(join(root, FOLDER, 'run-'));
  await build({
    absWorkingDir: root,
    entryPoints: files,
    outdir: folder,
    outbase: root,
    ...FOR_NODE,
    splitting: true,
    external: EXTERNAL,
    sourcemap: true,
    // Node reads maps when it loads what they are of; the sources are where they say.
    sourcesContent: false,
    logLevel: 'warning',
    define: { 'import.meta.url': 'SOURCE_URL' },
    plugins: [ownUrls],
  });
  return { folder, paths: new Map(files.map((file) => [file, join(folder, file.replace(/ts$/, 'js'))])) };
}
