// Runs test files, each as a process of its own, and says of each what passed and what did not run.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { firstLine, newSkips, skipsByReason } from './skips.mjs';

/** What is counted of every file, as node's own reporter names it. */
const COUNTS = ['tests', 'pass', 'fail', 'cancelled', 'skipped', 'todo'];
const SKIP_REPORTER = fileURLToPath(new URL('skip-reporter.mjs', import.meta.url));

/** Who runs longer hangs, and is ended. */
const LONGEST_MS = 600_000;

/** Runs one file by itself, to its end. `skipsFile` gets what did not run. */
function start(path, skipsFile, { root, env }, stdio) {
  const reporters = [
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${SKIP_REPORTER}`,
    `--test-reporter-destination=${skipsFile}`,
  ];
  const options = { cwd: root, env, stdio, timeout: LONGEST_MS, killSignal: 'SIGKILL' };
  return spawn(process.execPath, ['--enable-source-maps', ...reporters, path], options);
}

/** What a process that has ended wrote by the reporter. */
function readSkips(skipsFile) {
  const lines = readFileSync(skipsFile, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line));
}

/** @returns what a file printed, what of it did not run, and whether all is well. */
function runFile(file, path, skipsFile, options) {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = start(path, skipsFile, options, ['ignore', 'pipe', 'pipe']);
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
      const ended = count('tests') >= 0;
      const counts = Object.fromEntries(COUNTS.map((what) => [what, count(what) || 0]));
      const skips = ended ? readSkips(skipsFile) : [];
      resolve({ file, seconds, passed: code === 0 && ended, counts, skips, stdout, stderr, signal });
    });
  });
}

/** Why tests of one file did not run, each reason once. */
function shortly(skips) {
  if (skips.length === 0) return '';
  return `, ${skips.length} skipped: ${[...new Set(skips.map(firstLine))].join('; ')}`;
}

/** Of a file that failed: which tests and why, or all that it printed. */
function failure({ file, stdout, stderr, signal }) {
  const start = stdout.indexOf('✖ failing tests:');
  const ended = signal === null ? '' : `ended by ${signal}\n`;
  return `\n── ${file}\n${ended}${stderr}${start === -1 ? stdout : stdout.slice(start)}`;
}

/** What did not run and was not to be expected. @returns how many those are. */
function tellNew(all, known, print) {
  const added = newSkips(all, known);
  if (added.length > 0) print('\nnot run, and no entry of test/known-skips.mjs allows it:');
  for (const [file, found] of added) print(`  ${file}: ${found.name}: ${firstLine(found)}`);
  return added.length;
}

/**
 * Runs `paths`, what is run by the test file that it is of, as many at once as there are cores; those that `rank` puts first start
 * first. One alone prints to `stdio` as it goes. `known`: skips that are no failure; `folder`: where processes say what they skipped.
 * @returns the exit status of all.
 */
export async function runTests(paths, options) {
  const { folder, known, rank = () => 0, stdio = 'inherit', print = console.log } = options;
  const files = [...paths.keys()];
  const skipsFile = (file) => join(folder, `${files.indexOf(file)}.skips.jsonl`);
  if (files.length === 1) {
    const [only] = files;
    const child = start(paths.get(only), skipsFile(only), options, stdio);
    const code = await new Promise((resolve) => child.on('close', resolve));
    if (code !== 0) return code ?? 1;
    const skips = readSkips(skipsFile(only)).map((found) => [only, found]);
    return tellNew(skips, known, print) === 0 ? 0 : 1;
  }
  const waiting = files.toSorted((a, b) => rank(a) - rank(b));
  const failed = [];
  const skips = [];
  const totals = Object.fromEntries(COUNTS.map((what) => [what, 0]));
  const started = performance.now();
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(file, paths.get(file), skipsFile(file), options);
      const { seconds, passed } = result;
      const what = passed ? `${result.counts.pass} passed${shortly(result.skips)}` : 'FAILED';
      print(`${seconds.toFixed(1).padStart(6)} s  ${file}: ${what}`);
      for (const name of COUNTS) totals[name] += result.counts[name];
      skips.push(...result.skips.map((found) => [file, found]));
      if (!passed) failed.push(result);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  for (const result of failed) print(failure(result));
  if (skips.length > 0) print('\nnot run, by reason (and what this machine lacks):');
  for (const line of skipsByReason(skips, known)) print(line);
  const added = tellNew(skips, known, print);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const unexpected = added === 0 ? '' : `, ${added} skips are new`;
  print(`\n${files.length} files in ${seconds} s, ${failed.length} of them failed${unexpected}`);
  for (const what of COUNTS) print(`ℹ ${what} ${totals[what]}`);
  for (const { file } of failed) print(`  ${file}`);
  return failed.length === 0 && added === 0 ? 0 : 1;
}
