/** Files of this package, wherever it is installed, from sources or from what was built of them. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (folder === dirname(folder))
      throw new Error(`no package.json above ${start}: Hotrow is not installed whole`);
  }
}

const ROOT = findRoot();

/** The path of a file or a folder of the package, from its root. */
export function packageFile(path: string): string {
  return join(ROOT, path);
}
