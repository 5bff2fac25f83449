/** Programs of threads that tests start: threads import JavaScript alone. */
import { rmSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
// @ts-expect-error: a script, without types
import { bundleTests } from '../../scripts/bundle-tests.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A program of this folder as JavaScript, where it is until the process ends. */
export async function bundledThread(name: string): Promise<string> {
  const program = relative(root, fileURLToPath(new URL(name, import.meta.url)));
  const { folder, paths } = await bundleTests([program], root);
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return paths.get(program);
}
