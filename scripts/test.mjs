// Builds what tests need, then runs every test file (or those named on the command line) with node's test runner.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { buildNative } from './build-native.mjs';
import { requireNode } from './require-node.mjs';

/** Run the CPU kernels on all cores: beside other tests their threads would wait for each other. These run one by one. */
const ON_ALL_CORES = /^test\/(?:backend\/cpu|bench|cli|conformance\/cpu)/;

requireNode();
const root = fileURLToPath(new URL('..', import.meta.url));
const named = process.argv.slice(2);
const env = { ...process.env };
if (named.length > 0) {
  try {
    await buildNative({});
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exit(1);
  }
} else {
  // The whole suite runs commands as they are installed, which also start several times faster.
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
  env.HOTROW_TEST_MAIN = `${root}/dist/cli/main.js`;
}
const files =
  named.length > 0
    ? named
    : readdirSync(`${root}/test`, { recursive: true })
        .filter((file) => file.endsWith('.test.ts'))
        .map((file) => `test/${file}`)
        .sort();

/** The exit status of `chosen`, so many files at once. */
function run(chosen, atOnce) {
  if (chosen.length === 0) return 0;
  const options = ['--import', 'tsx', '--test', `--test-concurrency=${atOnce}`, '--test-reporter=spec'];
  return (
    spawnSync(process.execPath, [...options, ...chosen], { cwd: root, env, stdio: 'inherit' }).status ?? 1
  );
}

const beside = run(
  files.filter((file) => !ON_ALL_CORES.test(file)),
  availableParallelism(),
);
const alone = run(
  files.filter((file) => ON_ALL_CORES.test(file)),
  1,
);
process.exit(Math.max(beside, alone));
