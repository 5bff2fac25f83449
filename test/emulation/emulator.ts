/**
 * Runs CUDA kernels on the host: compiles their sources against simt.h into a shared library and launches them with checked
 * memory. Libraries are kept in the folder for temporary files, by the hash of everything that went into them; simt.cpp is one of
 * its own, which those of kernels need.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import type { KernelSource } from '../../src/backend/cuda/kernels/source.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const KERNELS = fileURLToPath(new URL('../../kernels/cuda', import.meta.url));
const CACHE = join(tmpdir(), 'hotrow-emulation');
const FLAGS = [
  '-std=c++17',
  '-fPIC',
  '-ffp-contract=off',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-Wno-unknown-pragmas',
  '-Wno-unused-parameter',
  // A lookup that is skipped leaves its slot as it was; nobody adds it.
  '-Wno-maybe-uninitialized',
];
const INCLUDES = [`-I${HERE}`, `-I${KERNELS}`];
/** What makes a compiler take the kernels' headers for the host, behind ptx.h. */
export const HOST_FLAGS: readonly string[] = [...FLAGS, ...INCLUDES];

/** Characters of a unit from which compiling it faster is worth more than running it faster: kernels of many kinds of tables. */
const LONG_UNIT = 6000;
/** Compilations at once, each with its share of the kernels. */
const SHARES = 2;

export type HostArray = Float32Array | Int32Array | Uint32Array | Uint16Array | BigInt64Array;

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
  return spawnSync(compiler(), ['--version']).status === 0 ? undefined : 'no C++ compiler (tried $CXX, g++)';
}

export function compiler(): string {
  return process.env.CXX ?? 'g++';
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
function unitOf(kernels: readonly Pick<KernelSource, 'kernel' | 'source'>[]): string {
  const sources = kernels.map(({ kernel, source }) => {
    const params = /const (\S+) params\)/.exec(source)?.[1];
    if (params === undefined) throw new TypeError(`${kernel}: its source names no parameters`);
    return `${source}
extern "C" void run_${kernel}(const void *params) { ${kernel}(*static_cast<const ${params} *>(params)); }
extern "C" const long long bytes_${kernel} = sizeof(${params});
`;
  });
  return `#include "ptx.h"\n${sources.join('\n')}`;
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

/** The shared library with `kernels`. */
export async function build(kernels: readonly Pick<KernelSource, 'kernel' | 'source'>[]): Promise<string> {
  const shares = Array.from({ length: SHARES }, (_, share) => kernels.filter((_, i) => i % SHARES === share));
  const [first, ...others] = shares.filter((share) => share.length > 0).map(unitOf);
  const units = [`${first}\n${finderOf(kernels)}`, ...others];
  const simt = await emulatorCore();
  const headers = readdirSync(KERNELS).map((name) => join(KERNELS, name));
  return kept([simt, ...units], [...headers, join(HERE, 'ptx.h')], async (folder, library) => {
    const objects = units.map((_, i) => join(folder, `unit-${i}.o`));
    await Promise.all(
      units.map((unit, i) => {
        const file = join(folder, `unit-${i}.cpp`);
        writeFileSync(file, unit);
        const optimisation = unit.length > LONG_UNIT ? '-O0' : '-O1';
        return compile([...FLAGS, optimisation, ...INCLUDES, '-c', file, '-o', objects[i] as string]);
      }),
    );
    // The C and C++ libraries come with the emulator's: to read them takes a linker longer than all else.
    await compile(['-shared', '-nostdlib', '-o', library, ...objects, simt, '-lgcc']);
  });
}

let core: Promise<string> | undefined;

/** The shared library of simt.cpp. */
function emulatorCore(): Promise<string> {
  const source = join(HERE, 'simt.cpp');
  core ??= kept([], [source, join(HERE, 'simt.h')], (_, library) =>
    compile([...FLAGS, '-O2', ...INCLUDES, '-shared', source, '-o', library]),
  );
  return core;
}

/** The library that `make` makes of `texts` and `files`, unless it is there. */
async function kept(
  texts: readonly string[],
  files: readonly string[],
  make: (folder: string, library: string) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256');
  for (const part of [compiler(), ...FLAGS, ...texts]) hash.update(part);
  for (const file of files.toSorted()) hash.update(readFileSync(file));
  const library = join(CACHE, `${hash.digest('hex').slice(0, 32)}.so`);
  if (existsSync(library)) return library;

  mkdirSync(CACHE, { recursive: true });
  const folder = mkdtempSync(join(CACHE, 'build-'));
  try {
    await make(folder, join(folder, 'library.so'));
    renameSync(join(folder, 'library.so'), library);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return library;
}

function compile(args: readonly string[]): Promise<void> {
  return new Promise((fulfil, reject) => {
    const child = spawn(compiler(), args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let output = '';
    child.stderr.on('data', (chunk) => {
      output += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) fulfil();
      else reject(new Error(`${compiler()} ${args.join(' ')}\n${output.slice(0, 4000)}`));
    });
  });
}
