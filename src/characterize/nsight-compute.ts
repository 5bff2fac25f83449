/** Hardware counters of a program's kernels, by NVIDIA Nsight Compute (`ncu`). */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DeviceError } from '../errors.ts';
import { findToolkitProgram } from '../jit/nvcc.ts';

const STALL_REASONS = [
  ...['barrier', 'branch_resolving', 'dispatch_stall', 'drain', 'imc_miss', 'lg_throttle', 'long_scoreboard'],
  ...['math_pipe_throttle', 'membar', 'mio_throttle', 'misc', 'no_instruction', 'not_selected'],
  ...['short_scoreboard', 'sleeping', 'tex_throttle', 'wait'],
] as const;

/** The metric of a reason: warps that waited for it, for each instruction that was issued. */
export const stallMetric = (reason: string) =>
  `smsp__average_warps_issue_stalled_${reason}_per_issue_active.ratio`;

/** What is read of every kernel; names as in `ncu --query-metrics`. */
export const METRICS = {
  timeNs: 'gpu__time_duration.sum',
  registers: 'launch__registers_per_thread',
  achievedWarps: 'sm__warps_active.avg.per_cycle_active',
  issueSlotUse: 'smsp__issue_active.avg.per_cycle_active',
  l1HitPercent: 'l1tex__t_sector_hit_rate.pct',
  l2HitPercent: 'lts__t_sector_hit_rate.pct',
  dramBytes: 'dram__bytes.sum',
  dramPercent: 'gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed',
  l2Percent: 'lts__throughput.avg.pct_of_peak_sustained_elapsed',
  l1Percent: 'l1tex__throughput.avg.pct_of_peak_sustained_elapsed',
  smPercent: 'sm__throughput.avg.pct_of_peak_sustained_elapsed',
} as const;
export type Metric = keyof typeof METRICS;

/** One profiled launch, its metrics in base units (ns, bytes, percent). */
export interface ProfiledKernel {
  readonly name: string;
  readonly values: Readonly<Record<Metric, number>>;
  /** Warps that waited per issued instruction, by reason. */
  readonly stalls: Readonly<Record<string, number>>;
}

const NSIGHT_FOLDER = '/opt/nvidia/nsight-compute';

/** `ncu` on the PATH, in the toolkit, or where Nsight Compute's own packages put it; undefined: nowhere. */
export async function findNcu(environment: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const inToolkit = findToolkitProgram('ncu', environment);
  if (inToolkit !== undefined) return inToolkit;
  const versions = await readdir(NSIGHT_FOLDER).catch(() => []);
  const [newest] = versions.sort().toReversed();
  return newest === undefined ? undefined : join(NSIGHT_FOLDER, newest, 'ncu');
}

/**
 * Runs a program under `ncu` and reads the counters of its kernels whose names match `kernels`, in the order of their
 * launches. The program runs once for every pass that the counters take (application replay), so that caches hold what
 * they would without a profiler; it must launch the same every time. Clocks and caches are left alone.
 * @throws DeviceError DEVICE_UNAVAILABLE without permission for counters; KERNEL_FAILED when the program or ncu fails, or
 * the output is not what ncu writes.
 */
export async function profile(
  ncu: string,
  command: readonly string[],
  kernels: string,
): Promise<ProfiledKernel[]> {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-ncu-'));
  try {
    const log = join(folder, 'counters.csv');
    const metrics = [...Object.values(METRICS), ...STALL_REASONS.map(stallMetric)].join();
    const status = await run(ncu, [
      ...['--clock-control', 'none', '--cache-control', 'none', '--replay-mode', 'application'],
      ...['--csv', '--page', 'raw', '--print-units', 'base', '--metrics', metrics],
      ...['--kernel-name', `regex:${kernels}`, '--log-file', log, ...command],
    ]);
    const text = await readFile(log, 'utf8').catch(() => '');
    if (text.includes('ERR_NVGPUCTRPERM')) throw noPermission();
    if (status.code !== 0) {
      const lines = [...text.matchAll(/^==ERROR== (.*)$/gm)].map(([, line]) => line);
      const reason = lines.join('; ') || status.errors.trim().split('\n').at(-1);
      throw new DeviceError('KERNEL_FAILED', `ncu ended with ${status.code}: ${reason}`);
    }
    return readCounters(text);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function noPermission(): DeviceError {
  return new DeviceError('DEVICE_UNAVAILABLE', 'this user may not read the GPU’s counters', {
    hint: 'run as root (in a container: with --cap-add SYS_ADMIN), or load the driver with NVreg_RestrictProfilingToAdminUsers=0',
  });
}

function run(program: string, args: readonly string[]): Promise<{ code: number | null; errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, errors }));
  });
}

/** What `ncu --csv --page raw --print-units base` wrote. @throws DeviceError KERNEL_FAILED for anything else. */
export function readCounters(text: string): ProfiledKernel[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('=='));
  const [header, units, ...rows] = lines.map(cellsOf);
  if (header === undefined || units === undefined) throw unreadable('no table');
  const columnOf = (name: string) => {
    const column = header.indexOf(name);
    if (column < 0) throw unreadable(`no ${name}`);
    return column;
  };
  const nameColumn = columnOf('Kernel Name');
  const metrics = Object.entries(METRICS).map(([key, name]) => [key, columnOf(name)] as const);
  const stalls = STALL_REASONS.map((reason) => [reason, columnOf(stallMetric(reason))] as const);
  return rows.map((cells, row) => {
    if (cells.length !== header.length)
      throw unreadable(`row ${row} has ${cells.length} of ${header.length} cells`);
    const numbers = (columns: readonly (readonly [string, number])[]) =>
      Object.fromEntries(columns.map(([key, column]) => [key, numberOf(cells[column] as string)]));
    return {
      name: cells[nameColumn] as string,
      values: numbers(metrics) as Record<Metric, number>,
      stalls: numbers(stalls),
    };
  });
}

/** Every cell stands in quotes. */
function cellsOf(line: string): string[] {
  return [...line.matchAll(/"((?:[^"]|"")*)"(?:,|$)/g)].map(([, cell]) =>
    (cell as string).replaceAll('""', '"'),
  );
}

function numberOf(cell: string): number {
  const value = Number(cell.replaceAll(',', ''));
  if (cell === '' || !Number.isFinite(value)) throw unreadable(`${JSON.stringify(cell)} is no number`);
  return value;
}

function unreadable(what: string): DeviceError {
  return new DeviceError('KERNEL_FAILED', `ncu's counters cannot be read: ${what}`, {
    hint: 'Nsight Compute 2022.1 or newer is needed',
  });
}
