// Tests as JavaScript, made once for all that run: else each file's process would compile hundreds of sources anew.
import { mkdirSync, mkdtempSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { FOR_NODE } from './esbuild-options.mjs';

/** Where the JavaScript is made: beside the sources, so that packages are found. */
const FOLDER = '.tests';

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
    packages: 'external',
    sourcemap: true,
    logLevel: 'warning',
    define: { 'import.meta.url': 'SOURCE_URL' },
    plugins: [ownUrls],
  });
  return { folder, paths: new Map(files.map((file) => [file, join(folder, file.replace(/ts$/, 'js'))])) };
}
