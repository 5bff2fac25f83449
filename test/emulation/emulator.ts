/**
 * Runs CUDA kernels on the host: compiles their sources against simt.h into a shared library and launches them with checked
 * memory. Libraries are kept between runs (compiled.ts); simt.cpp and hopper.cpp are one of their own, which those of kernels need.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import type { KernelSource } from '../../src/backend/cuda/kernels/source.ts';
import { collectHeaders } from '../../src/jit/headers.ts';
import { compilerVersion, keepLibrary, keptLibrary, shareLibrary } from '../support/compiled.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const KERNELS = fileURLToPath(new URL('../../kernels/cuda', import.meta.url));
const FLAGS = [
  '-std=c++17',
  '-fPIC',
  '-ffp-contract=off',
  // Nothing is thrown through kernels, and tables for that take compilers a tenth of their time.
  '-fno-exceptions',
  '-fno-asynchronous-unwind-tables',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-Wno-unknown-pragmas',
  '-Wno-unused-parameter',
  // A lookup that is skipped leaves its slot as it was; nobody adds it. clang knows no such warning.
  '-Wno-maybe-uninitialized',
  '-Wno-unknown-warning-option',
];
const INCLUDES = [`-I${HERE}`, `-I${KERNELS}`];
/** What makes a compiler take the kernels' headers for the host, behind ptx.h. */
export const HOST_FLAGS: readonly string[] = [...FLAGS, ...INCLUDES];

/** Characters of a kernel's source from which compiling it faster is worth more than running it faster: it has several kinds of tables. */
const LONG_KERNEL = 2500;
/** How long a request for kernels waits for others, which are then compiled with it. */
const GATHERING_MS = 10;

export type HostArray = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array | BigInt64Array;

export interface Launch {
  readonly grid: readonly [number, number?];
  readonly block: readonly [number, number?];
  readonly params: BigInt64Array;
  /** Memory that the kernel may read; everything else ends the launch with an error. */
  readonly reads: readonly HostArray[];
  /** … and write. */
  readonly writes: readonly HostArray[];
  /** Threads of a block in descending order. */
  readonly backwards?: boolean;
}

export interface LaunchCounts {
  readonly reads: number;
  readonly writes: number;
  readonly prefetches: number;
}

export interface Emulator {
  /** @throws Error saying what the kernel did that it must not. */
  launch(kernel: string, launch: Launch): LaunchCounts;
  /** Addresses of C functions for the fake driver. */
  readonly entryPoints: { readonly paramsBytes: bigint; readonly launch: bigint };
}

/** Why kernels cannot be emulated here; undefined: they can. */
export function refuseEmulation(): string | undefined {
  if (process.platform !== 'linux') return 'the emulator needs Linux (ucontext)';
  return versionOf(compiler()) === undefined ? 'no C++ compiler (tried $CXX, g++)' : undefined;
}

export function compiler(): string {
  return process.env.CXX ?? 'g++';
}

/** What compiles long kernels, where there is one: without optimisation clang takes half of g++'s time. */
const QUICK_COMPILER = 'clang++';

const isLong = ({ source }: Pick<KernelSource, 'source'>) => source.length > LONG_KERNEL;

function compilerOf(kernels: Kernels): string {
  const isQuick = process.env.CXX === undefined && kernels.some(isLong);
  return isQuick && versionOf(QUICK_COMPILER) !== undefined ? QUICK_COMPILER : compiler();
}

const versions = new Map<string, string | undefined>();

/** undefined: there is no such compiler. */
function versionOf(name: string): string | undefined {
  if (!versions.has(name)) versions.set(name, compilerVersion(name));
  return versions.get(name);
}

/** An array's address. Empty arrays have none of their own. */
export function addressOf(array: HostArray): bigint {
  return array.byteLength === 0 ? 0n : BigInt(koffi.address(array));
}

/** Compiles `kernels`. */
export async function emulate(kernels: readonly KernelSource[]): Promise<Emulator> {
  const library = koffi.load(await build(kernels));
  const forget = library.func('void simt_forget_regions()');
  const addRegion = library.func('void simt_add_region(uintptr_t address, int64_t bytes, int64_t writable)');
  const run = library.func(
    'const char *simt_launch(uintptr_t kernel, void *shape, void *params, void *counts)',
  );
  const find = library.func('uintptr_t simt_find(const char *kernel)');
  return {
    entryPoints: {
      paramsBytes: library.symbol('simt_params_bytes') as bigint,
      launch: library.symbol('simt_launch_named') as bigint,
    },
    launch(kernel, { grid, block, params, reads, writes, backwards }) {
      const entry = BigInt(find(kernel));
      if (entry === 0n) throw new TypeError(`no kernel ${kernel} was compiled`);
      forget();
      for (const array of reads) addRegion(addressOf(array), array.byteLength, 0);
      for (const array of writes) addRegion(addressOf(array), array.byteLength, 1);
      const shape = [grid[0], grid[1] ?? 1, block[0], block[1] ?? 1, backwards ? 1 : 0];
      const counts = new BigInt64Array(3);
      const error: string | null = run(entry, BigInt64Array.from(shape, BigInt), params, counts);
      if (error !== null) throw new Error(`${kernel}: ${error}`);
      const [readCount, writeCount, prefetches] = Array.from(counts, Number) as [number, number, number];
      return { reads: readCount, writes: writeCount, prefetches };
    },
  };
}

/** One translation unit: kernels, and a wrapper for each that unpacks its parameters. */
function unitOf(kernels: Kernels): string {
  const sources = kernels.map(({ kernel, source }) => {
    const params = /const (\S+) params\)/.exec(source)?.[1];
    if (params === undefined) throw new TypeError(`${kernel}: its source names no parameters`);
    return `${source}
extern "C" void run_${kernel}(const void *params) { ${kernel}(*static_cast<const ${params} *>(params)); }
extern "C" const long long bytes_${kernel} = sizeof(${params});
`;
  });
  return `#include "ptx.h"\n#include "hopper.h"\n${sources.join('\n')}`;
}

function finderOf(kernels: readonly Pick<KernelSource, 'kernel'>[]): string {
  const declarations = kernels.map(
    ({ kernel }) =>
      `extern "C" void run_${kernel}(const void *);\nextern "C" const long long bytes_${kernel};`,
  );
  const entries = kernels.map(({ kernel }) => `  {"${kernel}", run_${kernel}, &bytes_${kernel}},`);
  return `#include <cstring>
${declarations.join('\n')}
static const struct { const char *name; void (*run)(const void *); const long long *bytes; } kernels[] = {
${entries.join('\n')}
};
extern "C" void (*simt_find(const char *name))(const void *) {
  for (const auto &kernel : kernels)
    if (std::strcmp(kernel.name, name) == 0) return kernel.run;
  return nullptr;
}
extern "C" long long simt_params_bytes(const char *name) {
  for (const auto &kernel : kernels)
    if (std::strcmp(kernel.name, name) == 0) return *kernel.bytes;
  return 0;
}
extern "C" const char *simt_launch_within(void (*)(const void *), const std::int64_t *, const void *, const std::int64_t *, std::int64_t);
extern "C" const char *simt_launch_named(const char *name, const std::int64_t *shape, const void *params,
                                         const std::int64_t *memory, std::int64_t count) {
  return simt_launch_within(simt_find(name), shape, params, memory, count);
}
`;
}

type Kernels = readonly Pick<KernelSource, 'kernel' | 'source'>[];

interface Request {
  readonly kernels: Kernels;
  /** What the library is kept for. */
  readonly inputs: readonly string[];
  readonly fulfil: (library: string) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests for what is not compiled yet. */
let waiting: Request[] = [];

/**
 * A shared library with `kernels`, and with those of other requests of about the same time: to start a compiler and have it read
 * the headers takes as long as a small kernel.
 */
export async function build(kernels: Kernels): Promise<string> {
  const inputs = inputsOf(compilerOf(kernels), [await emulatorCore(), ...FLAGS, unitOf(kernels)]);
  const found = keptLibrary(inputs);
  if (found !== undefined) return found;
  return new Promise((fulfil, reject) => {
    if (waiting.length === 0) setTimeout(buildWaiting, GATHERING_MS);
    waiting.push({ kernels, inputs, fulfil, reject });
  });
}

/** Builds what was asked for; kernels of one name are built one after the other, and so are those of different compilers. */
async function buildWaiting(): Promise<void> {
  const names = new Set<string>();
  const own = compilerOf((waiting[0] as Request).kernels);
  const isNew = ({ kernels }: Request) =>
    compilerOf(kernels) === own && kernels.every(({ kernel }) => !names.has(kernel));
  const together: Request[] = [];
  const later: Request[] = [];
  for (const request of waiting) {
    (isNew(request) ? together : later).push(request);
    for (const { kernel } of request.kernels) names.add(kernel);
  }
  waiting = [];
  const [first, ...others] = together as [Request, ...Request[]];
  try {
    const kept = await buildTogether(
      together.flatMap(({ kernels }) => kernels),
      first.inputs,
    );
    first.fulfil(kept);
    for (const { inputs, fulfil } of others) fulfil(shareLibrary(inputs, kept));
  } catch (error) {
    for (const { reject } of together) reject(error);
  }
  for (const { kernels, fulfil, reject } of later) build(kernels).then(fulfil, reject);
}

function buildTogether(kernels: Kernels, inputs: readonly string[]): Promise<string> {
  const text = `${unitOf(kernels)}\n${finderOf(kernels)}`;
  return keep(inputs, async (folder, library) => {
    const unit = join(folder, 'unit.cpp');
    writeFileSync(unit, text);
    const flags = [...FLAGS, kernels.some(isLong) ? '-O0' : '-O1', ...INCLUDES];
    // The C and C++ libraries come with the emulator's: to read them takes a linker longer than all else.
    const links = ['-shared', '-nostdlib', await emulatorCore(), '-lgcc'];
    await compile(compilerOf(kernels), [...flags, unit, '-o', library, ...links]);
  });
}

let core: Promise<string> | undefined;

/** The shared library of simt.cpp and hopper.cpp. */
function emulatorCore(): Promise<string> {
  core ??= buildCore();
  return core;
}

async function buildCore(): Promise<string> {
  const sources = ['simt.cpp', 'hopper.cpp'].map((file) => join(HERE, file));
  const flags = [...FLAGS, '-O2', '-shared'];
  const inputs = inputsOf(compiler(), [...sources.map((source) => readFileSync(source, 'utf8')), ...flags]);
  const make = (_: string, library: string) =>
    compile(compiler(), [...flags, ...INCLUDES, ...sources, '-o', library]);
  return keptLibrary(inputs) ?? keep(inputs, make);
}

/** `texts`, the headers that they include and the compiler. */
function inputsOf(name: string, texts: readonly string[]): readonly string[] {
  const headers = [HERE, KERNELS].flatMap((folder) => [...collectHeaders(texts.join('\n'), folder)]).flat();
  return [name, versionOf(name) ?? '', ...texts, ...headers];
}

/** Makes a library, and keeps it for `inputs`. */
async function keep(
  inputs: readonly string[],
  make: (folder: string, library: string) => Promise<void>,
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-emulation-'));
  try {
    const library = join(folder, 'library.so');
    await make(folder, library);
    return keepLibrary(inputs, library);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function compile(name: string, args: readonly string[]): Promise<void> {
  return new Promise((fulfil, reject) => {
    const child = spawn(name, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let output = '';
    child.stderr.on('data', (chunk) => {
      output += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) fulfil();
      else reject(new Error(`${name} ${args.join(' ')}\n${output.slice(0, 4000)}`));
    });
  });
}
