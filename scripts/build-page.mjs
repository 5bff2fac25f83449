// Builds the script of the server's page, for browsers, with the licences of what is in it.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

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
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${notice(root, metafile)}\n${outputFiles[0].text}`);
}

/** A remark with the licences of the packages of which something is in the bundle. */
function notice(root, { outputs }) {
  const inputs = Object.values(outputs).flatMap(({ inputs: own }) =>
    Object.entries(own).filter(([, { bytesInOutput }]) => bytesInOutput > 0),
  );
  const packages = new Set(
    inputs.flatMap(([path]) => /(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
  );
  /** Names by the text of their licence. */
  const texts = new Map();
  for (const name of [...packages].sort()) {
    const text = licenceOf(join(root, 'node_modules', name)).trim();
    texts.set(text, [...(texts.get(text) ?? []), name]);
  }
  const parts = [...texts].map(([text, names]) => `${names.join(', ')}:\n${text}`);
  return `/*!\n${parts.join('\n\n').replaceAll('*/', '* /')}\n*/`;
}

function licenceOf(folder) {
  const name = existsSync(folder) ? readdirSync(folder).find((own) => /^licen[cs]e/i.test(own)) : undefined;
  if (name === undefined) throw new Error(`${folder} has no licence`);
  return readFileSync(join(folder, name), 'utf8');
}
