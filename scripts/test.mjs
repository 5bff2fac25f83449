// Runs tests: `npm test` those that everybody waits for, `npm run test:rest` the others (*.rest.test.ts).
//   npm test -- FILE…             these files, of either tier
//   npm test -- --changed [REF]   those that the changes since REF touch, of both tiers; default: main
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { buildNative } from './build-native.mjs';
import { bundleTests } from './bundle-tests.mjs';
import { changedSince, testFiles, testsOf } from './changed-tests.mjs';
import { requireNode } from './require-node.mjs';

const REST = /\.rest\.test\.ts$/;
/** Take longest, so they start first: whoever starts one last waits for it alone. */
const LONGEST = [
  /conformance\/cuda/,
  /kernels\/.*compile/,
  /cli\/commands\.rest/,
  /conformance\//,
  /emulation\//,
  /report\/browser/,
];

/** What is counted of every file, as node's own reporter names it. */
const COUNTS = ['tests', 'pass', 'fail', 'skipped'];

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
  if (first !== '--changed') {
    const missing = [first, ...others].find((file) => !existsSync(file));
    return missing === undefined ? [first, ...others] : fail(`there is no ${missing}`);
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

/** What runs a test as bundleTests wrote it. */
const NODE_OPTIONS = ['--enable-source-maps', '--test-reporter=spec'];

/** Runs one file by itself. @returns what it printed, and whether all is well. */
function runFile(file, path, env) {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = spawn(process.execPath, [...NODE_OPTIONS, path], {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('close', (code, signal) => {
      const count = (what) => Number(new RegExp(`^ℹ ${what} (\\d+)$`, 'm').exec(stdout)?.[1] ?? Number.NaN);
      const seconds = (performance.now() - started) / 1000;
      // Whoever ends without a count has not run to its end.
      const passed = code === 0 && count('tests') >= 0;
      const counts = Object.fromEntries(COUNTS.map((what) => [what, count(what) || 0]));
      resolve({ file, seconds, passed, counts, stdout, stderr, signal });
    });
  });
}

/** Why tests were skipped, each reason once. */
function skips(stdout) {
  const reasons = [...stdout.matchAll(/^ *﹣ .*? # (.*)$/gm)].map(([, reason]) => reason.split('\\n')[0]);
  return reasons.length === 0 ? '' : `, ${reasons.length} skipped: ${[...new Set(reasons)].join('; ')}`;
}

/** Of a file that failed: which tests and why, or all that it printed. */
function failure({ file, stdout, stderr, signal }) {
  const start = stdout.indexOf('✖ failing tests:');
  const ended = signal === null ? '' : `ended by ${signal}\n`;
  return `\n── ${file}\n${ended}${stderr}${start === -1 ? stdout : stdout.slice(start)}`;
}

/** The exit status of all of `files`, as many at once as there are cores. */
async function run(files, paths, env) {
  const rank = (file) => LONGEST.findIndex((pattern) => pattern.test(file)) + 1 || LONGEST.length + 1;
  const waiting = files.toSorted((a, b) => rank(a) - rank(b));
  const failed = [];
  const totals = Object.fromEntries(COUNTS.map((what) => [what, 0]));
  const started = performance.now();
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(file, paths.get(file), env);
      const { seconds, passed, stdout } = result;
      const what = passed ? `${result.counts.pass} passed${skips(stdout)}` : 'FAILED';
      console.log(`${seconds.toFixed(1).padStart(6)} s  ${file}: ${what}`);
      for (const what of COUNTS) totals[what] += result.counts[what];
      if (!passed) failed.push(result);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  for (const result of failed) console.log(failure(result));
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`\n${files.length} files in ${seconds} s, ${failed.length} of them failed`);
  for (const what of COUNTS) console.log(`ℹ ${what} ${totals[what]}`);
  for (const { file } of failed) console.log(`  ${file}`);
  return failed.length === 0 ? 0 : 1;
}

const files = choose();
if (files.length === 0) process.exit(0);
const env = { ...process.env };
const named = first !== undefined && first !== '--rest';
if (named) {
  try {
    await buildNative({});
  } catch (error) {
    fail(error.message);
  }
} else {
  // A whole tier runs commands as they are installed, which also start several times faster.
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
  env.HOTROW_TEST_MAIN = `${root}/dist/cli/main.js`;
}
const { folder, paths } = await bundleTests(files, root);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
if (files.length === 1) {
  const [only] = paths.values();
  const child = spawn(process.execPath, [...NODE_OPTIONS, only], { cwd: root, env, stdio: 'inherit' });
  child.on('close', (code) => process.exit(code ?? 1));
} else {
  process.exit(await run(files, paths, env));
}
