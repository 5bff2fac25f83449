// Runs the CPU operators' conformance suite under the address and undefined-behaviour sanitizers, and programs of
// test/native under the thread sanitizer. Needs gcc with its sanitizers' libraries (Debian, Ubuntu: part of gcc), on Linux.
//
//   node scripts/sanitize.mjs [address] [thread] [-- TEST FILE...]     default: both, test/conformance/cpu.rest.test.ts

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildNative } from './build-native.mjs';

const rootDir = resolve(fileURLToPath(import.meta.url), '../..');
const separator = process.argv.indexOf('--');
const named = process.argv.slice(2, separator < 0 ? undefined : separator);
const tests = separator < 0 ? ['test/conformance/cpu.rest.test.ts'] : process.argv.slice(separator + 1);
const unknown = named.find((name) => name !== 'address' && name !== 'thread');
if (unknown !== undefined) {
  console.error(`${unknown} is no sanitizer of this script: address, thread`);
  process.exit(2);
}
const asked = (name) => named.length === 0 || named.includes(name);

/** Runs a command to its end, its output shown; whether it went well. */
function run(command, args, env = {}) {
  console.error(`> ${[command, ...args].join(' ')}`);
  const { status } = spawnSync(command, args, {
    cwd: rootDir,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  return status === 0;
}

/** The sanitizers' own library, which must be loaded before the process's. */
function runtime(name) {
  return spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout.trim();
}

/** Node is not built for sanitizers: leaks of its own are not looked for, and handlers of faults stay. */
async function addressAndUndefined(folder) {
  process.env.CC = 'gcc';
  const flags = [
    '-g',
    '-O1',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
    '-U_FORTIFY_SOURCE',
  ];
  const { library } = await buildNative({ outputDir: folder, flags });
  return run(process.execPath, ['--import', 'tsx', '--test', '--test-reporter', 'dot', ...tests], {
    HOTROW_CPU_LIBRARY: library,
    LD_PRELOAD: runtime('libasan.so'),
    ASAN_OPTIONS: 'detect_leaks=0:allow_user_segv_handler=1:handle_segv=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  });
}

/** Programs of C alone: what Node's own threads do is not looked at. */
function thread(folder) {
  const sources = readdirSync(join(rootDir, 'kernels', 'cpu')).filter((name) => name.endsWith('.c'));
  const library = sources.map((name) => join('kernels', 'cpu', name));
  // One instruction set, whose tables alone are linked.
  const flags = ['-g', '-O1', '-std=gnu11', '-pthread', '-fsanitize=thread', '-DHR_ISA=0', '-DHR_ONE_ISA'];
  return readdirSync(join(rootDir, 'test', 'native')).every((file) => {
    const program = join(folder, basename(file, '.c'));
    const built = run('gcc', [
      ...flags,
      '-o',
      program,
      ...library,
      join('test', 'native', file),
      '-lm',
      '-ldl',
    ]);
    return built && run(program, [], { TSAN_OPTIONS: 'halt_on_error=1' });
  });
}

const folder = mkdtempSync(join(tmpdir(), 'hotrow-sanitize-'));
try {
  const passed = [
    ...(asked('thread') ? [['thread', thread(folder)]] : []),
    ...(asked('address') ? [['address and undefined behaviour', await addressAndUndefined(folder)]] : []),
  ];
  for (const [name, good] of passed) console.error(`${name}: ${good ? 'nothing found' : 'FAILED'}`);
  if (!passed.every(([, good]) => good)) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
