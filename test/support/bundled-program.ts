/** Programs of processes and threads that tests start: threads import JavaScript alone, and processes start several times faster so. */
import { rmSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
// @ts-expect-error: a script, without types
import { bundleTests } from '../../scripts/bundle-tests.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A program as JavaScript, where it is until this process ends. */
export async function bundledProgram(source: URL): Promise<string> {
  const program = relative(root, fileURLToPath(source));
  const { folder, paths } = await bundleTests([program], root);
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return paths.get(program);
}
