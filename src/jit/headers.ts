import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const QUOTED_INCLUDE = /^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"/gm;

/**
 * The headers that a source includes in quotes, and those that they include, by name. `folder` is flat: a name means the
 * same in every file. Names that it does not hold are left out, for the compiler to judge.
 */
export function collectHeaders(source: string, folder: string): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  const pending = [source];
  for (let text = pending.pop(); text !== undefined; text = pending.pop()) {
    for (const [, name] of text.matchAll(QUOTED_INCLUDE)) {
      if (name === undefined || headers.has(name)) continue;
      const header = readHeader(join(folder, name));
      if (header === undefined) continue;
      headers.set(name, header);
      pending.push(header);
    }
  }
  return new Map([...headers].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function readHeader(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
