// Builds Hotrow: the CPU kernels through the C compiler, then the TypeScript sources, into dist/.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildNative } from './build-native.mjs';
import { requireNode } from './require-node.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

function fail(message) {
  console.error(message);
  process.exit(1);
}

requireNode();
const compiler = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));
if (!existsSync(compiler)) fail('error: the dependencies are not installed\nhint: run `npm ci`');
try {
  await buildNative({});
} catch (error) {
  fail(`error: ${error.message}`);
}
// What a removed source left behind would still be importable.
for (const stale of readdirSync(`${root}/dist`).filter((name) => name !== 'native')) {
  rmSync(`${root}/dist/${stale}`, { recursive: true });
}
const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(status ?? 1);
