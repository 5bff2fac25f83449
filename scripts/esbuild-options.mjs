// What esbuild makes of our sources: ES modules for the oldest Node that Hotrow runs on.
import { readFileSync } from 'node:fs';

const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

/** Its 700 files take longer to load, in each thread and for each command, than all of Hotrow: what is used of it is bundled. */
const BUNDLED = 'typebox';

export const FOR_NODE = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: Object.keys(dependencies).filter((name) => name !== BUNDLED),
};
