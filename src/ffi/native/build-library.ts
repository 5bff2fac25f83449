/** Builds the CPU kernels (kernels/cpu) into one shared library. Needs Node alone and a C compiler: it runs where the package is installed. */
import { accessSync, constants, mkdirSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { runProgram } from '../../child-program.ts';
import { DeviceError, unwritable } from '../../errors.ts';
import { temporaryFolder } from '../../temporary-folder.ts';
import { keepLibrary } from './library-file.ts';
import type { Target } from './target.ts';

/** A user's newer compiler may warn of more than ours: warnings stop a build in CI alone. */
const WARNINGS = ['-Wall', '-Wextra', ...(process.env.CI === undefined ? [] : ['-Werror'])];
/** No contraction: a multiplication and an addition are one operation only where the source says so. */
const CODE = ['-O3', '-std=gnu11', '-ffp-contract=off', '-fPIC', '-fvisibility=hidden', '-pthread'];
/** A smashed stack, or a copy past a known end, ends the process. */
const HARDENING = ['-fstack-protector-strong', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2'];
/** Addresses of functions are written once, at loading; no stack holds code. */
const LINK_HARDENING = ['-Wl,-z,relro,-z,now,-z,noexecstack'];
/** Nobody looks into a library that is shipped with a debugger. */
const SMALL = ['-fno-asynchronous-unwind-tables', '-fno-unwind-tables'];
const SMALL_LINK = ['-Wl,-s'];

/** Files with a copy per instruction set; the slowest to compile first. Every other .c file is compiled once. */
const PER_ISA = [
  'embedding_bags.c',
  'linear.c',
  'dot_interaction.c',
  'row_functions.c',
  'check_bags.c',
  'operators.c',
];

/** HR_ISA_… of hotrow_cpu.h, and what the compiler needs for it. */
const ISAS = [
  // Its vectors are written out: -O3 makes it half as large again, for nothing.
  { name: 'portable', define: '-DHR_ISA=0', flags: ['-O2'], arch: 'any' },
  { name: 'avx2', define: '-DHR_ISA=1', flags: ['-mavx2', '-mfma', '-mf16c'], arch: 'x64' },
  {
    name: 'avx512',
    define: '-DHR_ISA=2',
    flags: ['-mavx2', '-mfma', '-mf16c', '-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl'],
    arch: 'x64',
  },
];

export interface BuildOptions {
  /** kernels/cpu. */
  readonly sources: string;
  /** Where the library goes. */
  readonly library: string;
  readonly target: Target;
  /** As words. */
  readonly compiler: readonly string[];
  /** More of them, for the compiler and the linker. */
  readonly flags?: readonly string[];
  /** Without what only debuggers read. Default: false. */
  readonly isShipped?: boolean;
  /** Told of the files that are compiled. */
  readonly onCompiled?: (n: number, of: number) => void;
}

interface Compilation {
  readonly object: string;
  readonly args: readonly string[];
}

function compilations(options: BuildOptions, objects: string): readonly Compilation[] {
  const { sources, target, flags = [], isShipped = false } = options;
  const compile = (file: string, suffix: string, own: readonly string[]): Compilation => {
    const object = join(objects, `${basename(file, '.c')}${suffix}.o`);
    const all = [...WARNINGS, ...CODE, ...HARDENING, ...(isShipped ? SMALL : []), ...own, ...flags];
    return { object, args: [...all, '-c', join(sources, file), '-o', object] };
  };
  const present = ISAS.filter(({ arch }) => arch === 'any' || arch === target.arch);
  const perIsa = PER_ISA.flatMap((file) =>
    present.map(({ name, define, flags: own }) => compile(file, `.${name}`, [define, ...own])),
  );
  const once = readdirSync(sources)
    .filter((file) => file.endsWith('.c') && !PER_ISA.includes(file))
    .map((file) => compile(file, '', []));
  return [...perIsa, ...once];
}

/**
 * Builds the library aside and puts it into its place whole: any number of processes may do so at once.
 * @throws DeviceError NATIVE_LIBRARY_MISSING with what the compiler said; UsageError FILE_UNWRITABLE.
 */
export async function buildLibrary(options: BuildOptions): Promise<void> {
  const { library, target, flags = [], isShipped = false, onCompiled } = options;
  makeFolder(dirname(library));
  await using folder = await temporaryFolder();
  const waiting = [...compilations(options, folder.path)];
  const all = waiting.map(({ object }) => object);
  let compiled = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      await run(options, next.args);
      compiled += 1;
      onCompiled?.(compiled, all.length);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: availableParallelism() }, worker));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  const made = join(folder.path, basename(library));
  await run(options, [
    '-shared',
    '-pthread',
    ...(target.platform === 'linux' ? LINK_HARDENING : []),
    ...(isShipped ? SMALL_LINK : []),
    ...flags,
    '-o',
    made,
    ...all,
    '-lm',
    '-ldl',
  ]);
  keepLibrary(made, library, target);
}

/** @throws UsageError FILE_UNWRITABLE, before any work. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw unwritable(folder, cause, {
      hint: 'the CPU kernels are built into it: make it writable, or name another cache folder in XDG_CACHE_HOME',
    });
  }
}

/** Runs the compiler to its end. @throws DeviceError NATIVE_LIBRARY_MISSING with what it printed. */
async function run({ compiler }: BuildOptions, args: readonly string[]): Promise<void> {
  const [program = '', ...first] = compiler;
  const command = [program, ...first, ...args];
  const fail = (how: string, log?: string): never => {
    const hint = 'a C11 compiler with POSIX threads is needed: gcc 9 or clang 11, or newer';
    const message = `the CPU kernels could not be compiled: \`${command.join(' ')}\` ${how}`;
    throw new DeviceError('NATIVE_LIBRARY_MISSING', message, { hint, ...(log === undefined ? {} : { log }) });
  };
  const { code, stdout, stderr } = await runProgram(program, [...first, ...args]).catch((error: Error) =>
    fail(`did not start: ${error.message}`),
  );
  if (code === 0) return;
  fail(
    code === null ? 'was ended by a signal' : `failed with exit code ${code}`,
    `${stdout}${stderr}`.trim(),
  );
}
