/** What the runner of tests says of skips, and that a new one fails the run. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
// @ts-expect-error: a script, without types
import { testFiles } from '../../scripts/changed-tests.mjs';
// @ts-expect-error: a script, without types
import { runTests } from '../../scripts/run-tests.mjs';
// @ts-expect-error: a list, without types
import { KNOWN_SKIPS } from '../known-skips.mjs';

interface KnownSkip {
  readonly reason: RegExp;
  readonly files: readonly string[];
  readonly lacks: string;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'hotrow-skips-'));
after(() => rmSync(root, { recursive: true }));

const KNOWN: readonly KnownSkip[] = [
  { reason: /^no tool \(tried \w+\)/, files: ['a.mjs', 'group.mjs'], lacks: 'the tool' },
];
const PASSES = "test('passes', () => {});";
const SKIPS = "test('tooled', { skip: 'no tool (tried x):\\n  at length' }, () => {});";

/** Runs test files of these texts. @returns the exit status, and what was printed. */
async function run(files: Readonly<Record<string, string>>) {
  const paths = new Map<string, string>();
  for (const [name, text] of Object.entries(files)) {
    paths.set(name, join(root, name));
    writeFileSync(join(root, name), `import { describe, test } from 'node:test';\n${text}\n`);
  }
  const lines: string[] = [];
  const print = (line: string) => lines.push(line);
  const { env } = process;
  const status: number = await runTests(paths, {
    root,
    env,
    folder: root,
    known: KNOWN,
    stdio: 'ignore',
    print,
  });
  return { status, text: lines.join('\n') };
}

describe('the runner', () => {
  test('known skips pass, and are counted by reason over all files', async () => {
    const { status, text } = await run({
      'a.mjs': `${PASSES}\n${SKIPS}\n${SKIPS.replace('\\n', '\\\\n')}`,
      'group.mjs': `describe('group', { skip: 'no tool (tried x):' }, () => { ${PASSES} });`,
      'plain.mjs': PASSES,
    });
    assert.equal(status, 0, text);
    assert.match(text, /a\.mjs: 1 passed, 2 skipped: no tool \(tried x\):$/m);
    assert.match(text, /plain\.mjs: 1 passed$/m);
    assert.match(text, /^ {4}3 in 2 files: no tool \(tried x\): \(the tool\)$/m);
    assert.match(text, /^3 files in \d+ s, 0 of them failed$/m);
    assert.match(text, /^ℹ skipped 2$/m);
  });

  test('a new reason, or a known one in another file, fails the run and is named', async () => {
    const { status, text } = await run({
      'a.mjs': "describe('outer', () => { test('inner', (t) => t.skip('too late in the day')); });",
      'other.mjs': `${PASSES}\n${SKIPS}`,
      'bare.mjs': "test('bare', { skip: true }, () => {});",
    });
    assert.equal(status, 1);
    assert.match(text, /^ {2}a\.mjs: outer › inner: too late in the day$/m);
    assert.match(text, /^ {2}other\.mjs: tooled: no tool/m);
    assert.match(text, /^ {2}bare\.mjs: bare: without a reason$/m);
    assert.match(text, /, 0 of them failed, 3 skips are new$/m);
  });

  test('one file alone, too', async () => {
    assert.equal((await run({ 'a.mjs': SKIPS })).status, 0);
    const { status, text } = await run({ 'other.mjs': SKIPS });
    assert.equal(status, 1);
    assert.match(text, /other\.mjs: tooled/);
  });

  test('a todo is never known, whether it passes or fails', async () => {
    const { status, text } = await run({
      'a.mjs': "test('later', { todo: 'no tool (tried x)' }, () => { throw new Error('not yet'); });",
      'group.mjs': "test.todo('some day');",
    });
    assert.equal(status, 1);
    assert.match(text, /^ {2}a\.mjs: later: todo: no tool/m);
    assert.match(text, /^ {2}group\.mjs: some day: todo: without a reason$/m);
    assert.match(text, /^ℹ todo 2$/m);
  });

  test('what fails or is cancelled fails the run, and is not lost among skips', async () => {
    const { status, text } = await run({
      'a.mjs': `${SKIPS}\ntest('fails', () => { throw new Error('wrong sum'); });`,
      'never.mjs': "test('never ends', () => new Promise(() => {}));",
      'ends.mjs': `${PASSES}\nprocess.exit(0);`,
    });
    assert.equal(status, 1);
    assert.match(text, /a\.mjs: FAILED/);
    assert.match(text, /wrong sum/);
    assert.match(text, /^ {4}1 in never\.mjs: cancelled: /m);
    assert.match(text, /^ℹ cancelled 1$/m);
    assert.match(text, /ends\.mjs: FAILED/);
    assert.match(text, /3 of them failed/);
  });
});

describe('known skips', () => {
  const known: readonly KnownSkip[] = KNOWN_SKIPS;

  test('name test files that there are', () => {
    const missing = known.flatMap(({ files }) => files).filter((file) => !existsSync(join(ROOT, file)));
    assert.deepEqual(missing, []);
    for (const { files, reason, lacks } of known) {
      assert.ok(files.length > 0 && lacks !== '', String(reason));
      assert.equal(new Set(files).size, files.length, String(reason));
    }
  });

  test('allow no skip without a reason, nor any reason whatever', () => {
    for (const { reason } of known) {
      assert.ok(reason.source.startsWith('^'), String(reason));
      for (const other of ['', 'for now', 'flaky']) assert.doesNotMatch(other, reason);
    }
  });

  /** What tests skip by, and a reason that it gives. */
  const REFUSALS = {
    refuseEmulation: 'no C++ compiler (tried $CXX, g++)',
    refuseGpu: 'the NVIDIA driver sees no GPU',
    refuseNvcc: 'no nvcc on the PATH',
    refuseStandIns: 'there is no python3',
  };
  for (const [refusal, reason] of Object.entries(REFUSALS)) {
    test(`have every test file that skips by ${refusal}, whatever this machine has`, () => {
      const skipping = (testFiles(ROOT) as string[]).filter(
        (file) =>
          // The reason is itself what this one tests.
          file !== 'test/scripts/skips.test.ts' &&
          new RegExp(`skip.*${refusal}\\b|= ${refusal}\\(`).test(readFileSync(join(ROOT, file), 'utf8')),
      );
      assert.ok(skipping.length > 0);
      const listed = known.filter((entry) => entry.reason.test(reason)).flatMap(({ files }) => files);
      // "There is a GPU" is a skip of its own.
      const missing = skipping.filter((file) => !listed.includes(file) && !/quantize\.rest/.test(file));
      assert.deepEqual(missing, []);
    });
  }
});
