// Runs tests: `npm test` those that everybody waits for, `npm run test:rest` the others (*.rest.test.ts).
//   npm test -- --all             both at once: one build, and nobody waits for the last of a tier
//   npm test -- FILE…             these files, of either tier
//   npm test -- --changed [REF]   those that the changes since REF touch, of both tiers; default: main
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KNOWN_SKIPS } from '../test/known-skips.mjs';
import { buildNative } from './build-native.mjs';
import { bundleTests } from './bundle-tests.mjs';
import { changedSince, testFiles, testsOf } from './changed-tests.mjs';
import { requireNode } from './require-node.mjs';
import { runTests } from './run-tests.mjs';

const REST = /\.rest\.test\.ts$/;
/** Take longest, so they start first: whoever starts one last waits for it alone. */
const LONGEST = [
  /conformance\/cuda\.rest/,
  /package\//,
  /kernels\/.*compile/,
  /cli\/commands\.rest/,
  /conformance\//,
  /emulation\//,
  /report\/browser/,
];

requireNode();
const root = fileURLToPath(new URL('..', import.meta.url));
const [first, ...others] = process.argv.slice(2);

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

/** The test files that the command line asks for. */
function choose() {
  const all = testFiles(root);
  if (first === undefined) return all.filter((file) => !REST.test(file));
  if (first === '--rest') return all.filter((file) => REST.test(file));
  if (first === '--all') return all;
  if (first !== '--changed') {
    const missing = [first, ...others].find((file) => !existsSync(file));
    if (missing !== undefined) return fail(`there is no ${missing}`);
    return [first, ...others].map((file) => relative(root, resolve(file)));
  }
  const [ref = 'main'] = others;
  try {
    const changed = changedSince(ref, root);
    const { chosen, unreached } = testsOf(changed, all, root);
    console.log(`${changed.length} files differ from ${ref}; ${chosen.length} test files reach them:`);
    for (const file of chosen) console.log(`  ${file}`);
    for (const file of unreached) console.log(`no test reaches ${file}`);
    return chosen;
  } catch (error) {
    return fail(error.message);
  }
}

const files = choose();
if (files.length === 0) process.exit(0);
const env = { ...process.env };
const named = first !== undefined && first !== '--rest' && first !== '--all';
if (named) {
  try {
    await buildNative({});
  } catch (error) {
    fail(error.message);
  }
} else {
  // A whole tier runs commands as they are installed, which also start several times faster.
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs', '--programs'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
  env.HOTROW_TEST_MAIN = `${root}/dist/cli/main.js`;
}
const { folder, paths } = await bundleTests(files, root);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
const rank = (file) => LONGEST.findIndex((pattern) => pattern.test(file)) + 1 || LONGEST.length + 1;
process.exit(await runTests(paths, { root, env, folder, known: KNOWN_SKIPS, rank }));
