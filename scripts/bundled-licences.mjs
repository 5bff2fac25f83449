// The licences of the packages that esbuild has put into a file.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A remark with the licences of the packages of which something is among `inputs`, an output's as esbuild's metafile has them. '': none. */
export function noticeOf(root, inputs) {
  const packages = new Set(
    Object.entries(inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .flatMap(([path]) => /(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
  );
  /** Names by the text of their licence. */
  const texts = new Map();
  for (const name of [...packages].sort()) {
    const text = licenceOf(join(root, 'node_modules', name)).trim();
    texts.set(text, [...(texts.get(text) ?? []), name]);
  }
  if (texts.size === 0) return '';
  const parts = [...texts].map(([text, names]) => `${names.join(', ')}:\n${text}`);
  return `/*!\n${parts.join('\n\n').replaceAll('*/', '* /')}\n*/\n`;
}

function licenceOf(folder) {
  const name = existsSync(folder) ? readdirSync(folder).find((own) => /^licen[cs]e/i.test(own)) : undefined;
  if (name === undefined) throw new Error(`${folder} has no licence`);
  return readFileSync(join(folder, name), 'utf8');
}
