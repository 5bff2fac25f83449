// Builds the script of the server's page, for browsers, with the licences of what is in it.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { noticeOf } from './bundled-licences.mjs';

/** Into `file`. `root`: of the checkout. */
export async function buildPage(root, file) {
  const { build } = await import('esbuild');
  const { metafile, outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['src/serve/page/browser/main.ts'],
    bundle: true,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    minify: true,
    charset: 'utf8',
    logLevel: 'warning',
    metafile: true,
    write: false,
  });
  const [output] = Object.values(metafile.outputs);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${noticeOf(root, output.inputs)}${outputFiles[0].text}`);
}
