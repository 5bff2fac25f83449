/** nvcc as a compiler for reports, where NVRTC is not found: several kernels as one translation unit. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DeviceError } from '../errors.ts';
import { type CompiledResources, readResources } from './ptxas-log.ts';

/** Where the toolkit's programs are: on the PATH, under CUDA_HOME, in the toolkit's default prefix, in `folders`. */
export function findToolkitProgram(
  name: string,
  environment: NodeJS.ProcessEnv = process.env,
  folders: readonly string[] = [],
): string | undefined {
  const { CUDA_HOME: home } = environment;
  const places = [
    name,
    ...(home === undefined ? [] : [join(home, 'bin', name)]),
    join('/usr/local/cuda/bin', name),
    ...folders.map((folder) => join(folder, name)),
  ];
  return places.find((program) => spawnSync(program, ['--version'], { env: environment }).status === 0);
}

/** `13.0`, of a program of the toolkit. */
export function toolkitVersion(program: string): string {
  const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return /release (\d+\.\d+)/.exec(stdout)?.[1] ?? 'unknown';
}

export interface NvccUnit {
  readonly kernels: readonly { readonly kernel: string; readonly source: string }[];
  readonly options: readonly string[];
  readonly includeFolder: string;
  /** `sm_90`. */
  readonly architecture: string;
}

export interface NvccResult {
  readonly cubin: Uint8Array;
  readonly resources: ReadonlyMap<string, CompiledResources>;
}

/** @throws DeviceError KERNEL_COMPILE_FAILED with the compiler's words. */
export async function compileUnit(
  nvcc: string,
  { kernels, options, includeFolder, architecture }: NvccUnit,
): Promise<NvccResult> {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-nvcc-'));
  try {
    const [unit, cubin] = [join(folder, 'unit.cu'), join(folder, 'unit.cubin')];
    await writeFile(unit, kernels.map(({ source }) => source).join('\n'));
    const { stderr } = await promisify(execFile)(
      nvcc,
      [
        ...['-cubin', `-arch=${architecture}`, '-std=c++17', '-Xptxas', '-v', `-I${includeFolder}`],
        ...[...options, unit, '-o', cubin],
      ],
      { maxBuffer: 2 ** 26 },
    ).catch((cause: Error) => {
      const message = `nvcc failed for ${architecture}:`;
      throw new DeviceError('KERNEL_COMPILE_FAILED', message, { log: cause.message, cause });
    });
    const resources = kernels.flatMap(({ kernel }) => {
      const own = readResources(stderr, kernel);
      return own === undefined ? [] : [[kernel, own] as const];
    });
    return { cubin: await readFile(cubin), resources: new Map(resources) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
