/** Compiles CUDA kernels with nvcc, where there is one, and reads what ptxas says of them. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { KernelSource } from '../src/backend/cuda/kernels/source.ts';

const KERNELS = fileURLToPath(new URL('../kernels/cuda', import.meta.url));
export const ARCHITECTURES = ['sm_80', 'sm_90', 'sm_100'] as const;

/** Why nothing can be compiled here; undefined: it can. */
export function refuseNvcc(): string | undefined {
  return spawnSync('nvcc', ['--version']).status === 0 ? undefined : 'no nvcc on the PATH';
}

export interface Resources {
  readonly registers: number;
  readonly stackBytes: number;
  readonly spilledBytes: number;
  readonly sharedBytes: number;
}

/**
 * Compiles kernels, those that share their options as one translation unit: nvcc takes a second to begin. Kernels that are given
 * more than once are compiled once.
 * @throws Error with the compiler's words, also where it says that it gave up products beside each other.
 */
export async function compileWithNvcc(
  kernels: readonly KernelSource[],
  architecture: string,
): Promise<ReadonlyMap<string, Resources>> {
  const distinct = [...new Map(kernels.map((source) => [source.kernel, source])).values()];
  const found = new Map<string, Resources>();
  for (const options of new Set(distinct.map(({ options: own }) => own.join(' ')))) {
    const unit = distinct.filter(({ options: own }) => own.join(' ') === options);
    for (const [kernel, resources] of await compileUnit(unit, architecture)) found.set(kernel, resources);
  }
  return found;
}

async function compileUnit(
  kernels: readonly KernelSource[],
  architecture: string,
): Promise<ReadonlyMap<string, Resources>> {
  const options = kernels[0]?.options ?? [];
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-nvcc-'));
  try {
    const unit = join(folder, 'unit.cu');
    writeFileSync(unit, kernels.map(({ source }) => source).join('\n'));
    const { stderr } = await promisify(execFile)(
      'nvcc',
      [
        ...['-cubin', `-arch=${architecture}`, '-std=c++17', '-Xptxas', '-v', '-Werror', 'all-warnings'],
        ...[`-I${KERNELS}`, ...options, unit, '-o', join(folder, 'unit.cubin')],
      ],
      { maxBuffer: 2 ** 26 },
    );
    const loss = /^.*Potential Performance Loss.*$/m.exec(stderr);
    if (loss !== null) throw new Error(loss[0]);
    return readResources(stderr);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readResources(log: string): ReadonlyMap<string, Resources> {
  const found = new Map<string, Resources>();
  for (const part of log.split("Compiling entry function '").slice(1)) {
    const number = (pattern: RegExp) => Number(pattern.exec(part)?.[1] ?? 0);
    found.set(part.slice(0, part.indexOf("'")), {
      registers: number(/Used (\d+) registers/),
      stackBytes: number(/(\d+) bytes stack frame/),
      spilledBytes: number(/(\d+) bytes spill stores/),
      sharedBytes: number(/(\d+) bytes smem/),
    });
  }
  return found;
}
