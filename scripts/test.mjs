// Builds what tests need, then runs every test file (or those named on the command line) with node's test runner.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildNative } from './build-native.mjs';
import { requireNode } from './require-node.mjs';

requireNode();
const root = fileURLToPath(new URL('..', import.meta.url));
try {
  await buildNative({});
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
const named = process.argv.slice(2);
const files =
  named.length > 0
    ? named
    : readdirSync(`${root}/test`, { recursive: true })
        .filter((file) => file.endsWith('.test.ts'))
        .map((file) => `test/${file}`)
        .sort();
const { status } = spawnSync(
  process.execPath,
  ['--import', 'tsx', '--test', '--test-reporter=spec', ...files],
  { cwd: root, stdio: 'inherit' },
);
process.exit(status ?? 1);
