/** Nsight Compute's command line, `ncu`. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type ProgramEnd, runProgram } from '../child-program.ts';
import { DeviceError } from '../errors.ts';
import { findToolkitProgram } from '../jit/nvcc.ts';
import { textIfThere } from '../opened-file.ts';
import { METRIC_NAMES } from './metrics.ts';
import { type ProfiledLaunch, parseRawPage } from './ncu-csv.ts';

export interface Ncu {
  readonly program: string;
  readonly version: string;
}

/** Where NVIDIA's packages put versions of it, a folder each. */
const PACKAGES = '/opt/nvidia/nsight-compute';

/** On the PATH, in the CUDA toolkit, or the newest of NVIDIA's packages; undefined: there is none. */
export function findNcu(environment: NodeJS.ProcessEnv = process.env): Ncu | undefined {
  const program = findToolkitProgram('ncu', environment, packageFolders());
  if (program === undefined) return undefined;
  const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8', env: environment });
  return { program, version: /Version (\d+(?:\.\d+)*)/.exec(stdout)?.[1] ?? 'unknown' };
}

function packageFolders(): string[] {
  try {
    const versions = readdirSync(PACKAGES).sort((a, b) => b.localeCompare(a, undefined, { numeric: true }));
    return versions.map((version) => join(PACKAGES, version));
  } catch {
    return [];
  }
}

/**
 * The whole program runs anew for every pass over the counters, and kernels are recorded where it says so. Replaying single
 * kernels would be quicker, but each pass would find in the caches what the last one left there, not what the launches
 * before it leave. Clocks and caches stay as they are in use.
 */
const PROTOCOL = [
  ...['--replay-mode', 'application', '--target-processes', 'application-only'],
  ...['--profile-from-start', 'off', '--cache-control', 'none', '--clock-control', 'none'],
  ...['--kernel-name', 'regex:^hotrow_(standard_bag|fused_bags).*$'],
];

/** Says that the user may not read counters. */
const REFUSED = 'ERR_NVGPUCTRPERM';

/** How much is told of what a failed run printed. */
const TAIL_CHARACTERS = 2000;

export interface ProfileOptions {
  readonly command: readonly string[];
  /** Metrics beside METRIC_NAMES. */
  readonly extra: readonly string[];
  /** An empty one, for its files. */
  readonly folder: string;
  /** Ends it at once. */
  readonly signal: AbortSignal;
}

/**
 * Profiles a command. Returns its recorded launches in their order, `refused` when the user may not read counters, or
 * `stopped` when the signal ended it.
 * @throws DeviceError PROFILER_FAILED with what was printed, when the command or the profiler fails.
 */
export async function profile(
  { program }: Ncu,
  { command, extra, folder, signal }: ProfileOptions,
): Promise<readonly ProfiledLaunch[] | 'refused' | 'stopped'> {
  const [log, report] = [join(folder, 'ncu.log'), join(folder, 'launches.ncu-rep')];
  const files = ['--log-file', log, '--export', report];
  const metrics = ['--metrics', [...METRIC_NAMES, ...extra].join(',')];
  const run = await spawned(program, [...PROTOCOL, ...metrics, ...files, ...command], signal);
  if (signal.aborted) return 'stopped';
  const logged = await textIfThere(log);
  const printed = [run.stdout, run.stderr, logged].filter((text) => text !== '').join('\n');
  if (printed.includes(REFUSED)) return 'refused';
  if (run.code !== 0) throw failed(`${program} ended with ${run.code}`, printed);
  const page = ['--import', report, '--page', 'raw', '--csv', '--print-units', 'base'];
  const imported = await spawned(program, page, signal);
  if (signal.aborted) return 'stopped';
  if (imported.code !== 0) {
    throw failed(`${program} wrote no report`, [printed, imported.stdout, imported.stderr].join('\n'));
  }
  return parseRawPage(imported.stdout, METRIC_NAMES, extra);
}

function failed(what: string, printed: string): DeviceError {
  return new DeviceError('PROFILER_FAILED', `${what}:`, { log: printed.trim().slice(-TAIL_CHARACTERS) });
}

/** @throws DeviceError PROFILER_FAILED where it cannot be started. */
async function spawned(program: string, args: readonly string[], signal: AbortSignal): Promise<ProgramEnd> {
  return runProgram(program, args, signal).catch((cause: Error) => {
    throw new DeviceError('PROFILER_FAILED', `${program}: ${cause.message}`, { cause });
  });
}
