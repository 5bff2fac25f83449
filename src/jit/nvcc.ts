/** nvcc as a compiler for reports, where NVRTC is not found: several kernels as one translation unit. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { throwIfAborted } from '../checks/abort.ts';
import { runProgram } from '../child-program.ts';
import { DeviceError } from '../errors.ts';
import { readWhole, writeWhole } from '../opened-file.ts';
import { temporaryFolder } from '../temporary-folder.ts';
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

/** @throws DeviceError KERNEL_COMPILE_FAILED with the compiler's words; AbortError once `signal` is aborted, which ends it. */
export async function compileUnit(
  nvcc: string,
  { kernels, options, includeFolder, architecture }: NvccUnit,
  signal?: AbortSignal,
): Promise<NvccResult> {
  throwIfAborted(signal, 'nvcc');
  await using folder = await temporaryFolder();
  const [unit, cubin] = [join(folder.path, 'unit.cu'), join(folder.path, 'unit.cubin')];
  await folder.fill(() => writeWhole(unit, kernels.map(({ source }) => source).join('\n')));
  const failed = (log: string, cause?: Error): never => {
    throw new DeviceError('KERNEL_COMPILE_FAILED', `nvcc failed for ${architecture}:`, { log, cause });
  };
  const { code, stderr } = await runProgram(
    nvcc,
    [
      ...['-cubin', `-arch=${architecture}`, '-std=c++17', '-Xptxas', '-v', `-I${includeFolder}`],
      ...[...options, unit, '-o', cubin],
    ],
    signal,
  ).catch((cause: Error) => failed(cause.message, cause));
  throwIfAborted(signal, 'nvcc');
  if (code !== 0) failed(stderr);
  const resources = kernels.flatMap(({ kernel }) => {
    const own = readResources(stderr, kernel);
    return own === undefined ? [] : [[kernel, own] as const];
  });
  return { cubin: await readWhole(cubin), resources: new Map(resources) };
}
