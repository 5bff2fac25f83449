// Builds the CPU kernels (kernels/cpu) into one shared library that src/ffi loads.

import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const scriptPath = fileURLToPath(import.meta.url);
const rootDir = resolve(scriptPath, '../..');
const sourceDir = join(rootDir, 'kernels', 'cpu');
const libraryName = process.platform === 'darwin' ? 'libhotrow_cpu.dylib' : 'libhotrow_cpu.so';

/** A user's newer compiler may warn of more than ours: warnings stop a build in CI alone. */
const warningFlags = ['-Wall', '-Wextra', ...(process.env.CI ? ['-Werror'] : [])];
/** No contraction: a multiplication and an addition are one operation only where the source says so. */
const codeFlags = ['-O3', '-std=gnu11', '-ffp-contract=off', '-fPIC', '-fvisibility=hidden', '-pthread'];

/** A smashed stack, or a copy past a known end, ends the process. */
const hardeningFlags = ['-fstack-protector-strong', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2'];
/** Addresses of functions are written once, at loading; no stack holds code. */
const hardeningLinkFlags = process.platform === 'linux' ? ['-Wl,-z,relro,-z,now,-z,noexecstack'] : [];

/** Files with a copy per instruction set; the slowest to compile first. Every other .c file is compiled once. */
const perIsaFiles = [
  'embedding_bags.c',
  'linear.c',
  'dot_interaction.c',
  'row_functions.c',
  'check_bags.c',
  'operators.c',
];

/** HR_ISA_… of hotrow_cpu.h, and what the compiler needs for it. */
const isas = [
  { name: 'portable', define: '-DHR_ISA=0', flags: [], arch: 'any' },
  { name: 'avx2', define: '-DHR_ISA=1', flags: ['-mavx2', '-mfma', '-mf16c'], arch: 'x64' },
  {
    name: 'avx512',
    define: '-DHR_ISA=2',
    flags: ['-mavx2', '-mfma', '-mf16c', '-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl'],
    arch: 'x64',
  },
];

const noCompilerMessage = [
  'no C compiler found (tried $CC, cc, gcc, clang), and the CPU kernels have to be compiled. Install one:',
  '  Debian, Ubuntu  apt-get install gcc libc6-dev',
  '  Fedora, RHEL    dnf install gcc glibc-devel',
  '  Alpine          apk add gcc musl-dev',
  '  macOS           xcode-select --install',
  'or name one in the environment variable CC.',
].join('\n');

/** The command as words: CC may hold arguments too (`ccache gcc`). */
function findCompiler() {
  const named = process.env.CC?.trim();
  const candidates = [...(named ? [named] : []), 'cc', 'gcc', 'clang'];
  for (const candidate of candidates) {
    const command = candidate.split(/\s+/);
    const probe = spawnSync(command[0], [...command.slice(1), '--version'], { stdio: 'ignore' });
    if (probe.status === 0) return command;
  }
  throw new Error(noCompilerMessage);
}

function sourceFiles() {
  return readdirSync(sourceDir).filter((name) => /\.[ch]$/.test(name));
}

/** Whether `library` is newer than every source and than this script. */
function isUpToDate(library) {
  const built = statSync(library, { throwIfNoEntry: false });
  if (!built) return false;
  const inputs = [scriptPath, sourceDir, ...sourceFiles().map((name) => join(sourceDir, name))];
  return inputs.every((path) => statSync(path).mtimeMs < built.mtimeMs);
}

/** Runs a command to its end; rejects with what it printed. */
function run(command, args, verbose) {
  if (verbose) console.error([command, ...args].join(' '));
  return new Promise((fulfil, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) return fulfil();
      const how = signal ? `was ended by ${signal}` : `failed with exit code ${code}`;
      reject(new Error(`building the CPU kernels: ${[command, ...args].join(' ')} ${how}\n${output.trim()}`));
    });
  });
}

/** The compilations, as compiler arguments, each with the object it makes in `objectDir`. `extraFlags` come last. */
function planCompilations(objectDir, extraFlags) {
  const compile = (file, suffix, flags) => {
    const object = join(objectDir, `${basename(file, '.c')}${suffix}.o`);
    return {
      object,
      args: [
        ...warningFlags,
        ...codeFlags,
        ...hardeningFlags,
        ...flags,
        ...extraFlags,
        '-c',
        join(sourceDir, file),
        '-o',
        object,
      ],
    };
  };
  const present = isas.filter(({ arch }) => arch === 'any' || arch === process.arch);
  const perIsa = perIsaFiles.flatMap((file) =>
    present.map(({ name, define, flags }) => compile(file, `.${name}`, [define, ...flags])),
  );
  const once = sourceFiles()
    .filter((file) => file.endsWith('.c') && !perIsaFiles.includes(file))
    .map((file) => compile(file, '', []));
  return [...perIsa, ...once];
}

async function compileAll(compiler, compilations, verbose) {
  const queue = [...compilations];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      await run(compiler[0], [...compiler.slice(1), ...next.args], verbose);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: availableParallelism() }, worker));
  const failed = results.find(({ status }) => status === 'rejected');
  if (failed) throw failed.reason;
}

/**
 * Builds the library into `outputDir` unless the one there is newer than its sources.
 * Several processes may do so at once: each builds aside and renames its result into place.
 *
 * `flags`: more of them, for the compiler and the linker; by themselves they do not make a library older.
 *
 * @param {{ outputDir?: string, verbose?: boolean, flags?: readonly string[] }} [options]
 * @returns {Promise<{ library: string, built: boolean }>}
 */
export async function buildNative({
  outputDir = join(rootDir, 'dist', 'native'),
  verbose = false,
  flags = [],
} = {}) {
  const library = join(outputDir, libraryName);
  if (isUpToDate(library)) return { library, built: false };
  const compiler = findCompiler();
  mkdirSync(outputDir, { recursive: true });
  const objectDir = mkdtempSync(join(tmpdir(), 'hotrow-native-'));
  const unfinished = join(outputDir, `.${libraryName}.${process.pid}.${basename(objectDir)}`);
  try {
    const compilations = planCompilations(objectDir, flags);
    await compileAll(compiler, compilations, verbose);
    const link = [
      '-shared',
      '-pthread',
      ...hardeningLinkFlags,
      ...flags,
      '-o',
      unfinished,
      ...compilations.map(({ object }) => object),
      '-lm',
    ];
    await run(compiler[0], [...compiler.slice(1), ...link], verbose);
    renameSync(unfinished, library);
  } finally {
    rmSync(objectDir, { recursive: true, force: true });
    rmSync(unfinished, { force: true });
  }
  return { library, built: true };
}

if (process.argv[1] && realpathSync(process.argv[1]) === scriptPath) {
  try {
    const { library, built } = await buildNative({ verbose: process.argv.includes('--verbose') });
    console.error(`${built ? 'built' : 'up to date:'} ${library}`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
