import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { openBackend } from '../../backend/open-backend.ts';
import { PRESETS } from '../../bench/presets.ts';
import { BAG_KERNELS, type BatchLaunches, counterRows, runLaunches } from '../../characterize/counters.ts';
import { gpuLike } from '../../characterize/gpus.ts';
import { findNcu, profile } from '../../characterize/nsight-compute.ts';
import {
  CHARACTERIZE_VERSION,
  type Characterization,
  type CounterRow,
  type StaticRow,
} from '../../characterize/results.ts';
import { type StaticReport, staticReport } from '../../characterize/static-report.ts';
import type { DeviceDescription } from '../../device.ts';
import { DeviceError, fileError, HotrowError } from '../../errors.ts';
import type { DlrmArchitecture } from '../../model/architecture.ts';
import { percent, significant } from '../../numbers.ts';
import { checkReportFile, writeReport } from '../../report/write-report.ts';
import { median } from '../../tuner/quantile.ts';
import { version } from '../../version.ts';
import { formatOption, withModel } from '../options.ts';
import { emphasise, type Format, printJson, printLine, progress, renderTable } from '../output.ts';
import { architectureOf, readWorkloads, type WorkloadOptions, withWorkload } from '../workloads.ts';

interface Options extends WorkloadOptions {
  readonly static?: boolean;
  readonly device: string;
  readonly gpu: string;
  readonly json?: string;
  readonly report?: string;
  readonly launchList?: string;
  readonly format: Format;
}

export function characterizeCommand(): Command {
  const command = new Command('characterize')
    .description(
      'why the embedding stage takes what it takes: counters of the GPU, and what kernels take of one',
    )
    .argument('[model]', "a checkpoint; default: the preset's synthetic model");
  const preset = new Option('--preset <preset>', 'tables and batches')
    .choices(Object.keys(PRESETS))
    .default('paper');
  return withWorkload(withModel(command).addOption(preset))
    .option('--device <device>', 'cuda or cuda:N', 'cuda')
    .option('--static', "from the compiler's report alone, for GPUs that need not be here")
    .option('--gpu <list>', 'GPUs by name, with --static', 'A100,H100,H200')
    .option('--json <file>', 'write the results as JSON')
    .option('--report <file>', 'write the results as an HTML page')
    .addOption(formatOption())
    .addOption(new Option('--launch-list <file>', 'run the launches, and say which they were').hideHelp())
    .addHelpText(
      'after',
      `
Counters are read by NVIDIA Nsight Compute (ncu), which runs the launches several times over.

Examples:
  hotrow characterize --patterns random,high_hot --json counters.json
  hotrow characterize dlrm.safetensors --trace lookups.txt
  hotrow characterize dlrm.safetensors --static --gpu L40S,B200 --json static.json`,
    )
    .action(run);
}

async function run(model: string | undefined, options: Options): Promise<void> {
  if (options.report !== undefined) {
    const inputs = [model, options.json, ...(options.trace ?? [])].filter((file) => file !== undefined);
    await checkReportFile(options.report, inputs);
  }
  const architecture = await architectureOf(model, options);
  if (options.launchList !== undefined) {
    await writeLaunches(architecture, options, options.launchList);
    return;
  }
  const { tables } = architecture;
  const found: Found =
    options.static === true
      ? {
          ...(await staticReport({ tables, gpus: options.gpu.split(','), onProgress: progress })),
          counters: [],
        }
      : await readCounters(architecture, options);
  progress('');
  const { rows, tools, notes, counters, device } = found;
  const results: Characterization = {
    version: CHARACTERIZE_VERSION,
    kind: 'characterize',
    createdAt: new Date().toISOString(),
    command: ['hotrow', ...process.argv.slice(2)].join(' '),
    hotrow: version,
    ...(device === undefined ? {} : { device }),
    tools: { ...tools },
    static: rows,
    counters: [...counters],
    notes,
  };
  if (options.json !== undefined) {
    const { json } = options;
    await writeFile(json, `${JSON.stringify(results, null, 2)}\n`).catch((cause) => {
      throw fileError(json, cause);
    });
  }
  if (options.report !== undefined) await writeReport([results], options.report);
  if (options.format === 'json') printJson(results);
  else printReport(results);
}

interface Found extends StaticReport {
  readonly counters: readonly CounterRow[];
  readonly device?: DeviceDescription;
}

/** What runs under the profiler: the launches, and a file that says which they were. */
async function writeLaunches(architecture: DlrmArchitecture, options: Options, file: string): Promise<void> {
  await writeFile(file, JSON.stringify(await launches(architecture, options)));
}

async function launches(architecture: DlrmArchitecture, options: Options): Promise<BatchLaunches[]> {
  const { workloads } = await readWorkloads(architecture, options);
  using backend = openBackend(options).backend;
  return await runLaunches(
    backend,
    architecture.tables,
    workloads.map(({ embedding }) => embedding),
  );
}

/** Counters where they can be read; else the times of the same launches, and why there are no counters. */
async function readCounters(architecture: DlrmArchitecture, options: Options): Promise<Found> {
  // What is wrong with the lookups is said here, before anything runs: of one sample, they are cheap to read.
  await readWorkloads(architecture, { ...options, batch: 1 });
  const device = gpuAt(options.device);
  const { tables } = architecture;
  const compiled = await staticRows(device, architecture);
  const ncu = await findNcu();
  const list = join(tmpdir(), `hotrow-launches-${process.pid}.json`);
  try {
    if (ncu === undefined) {
      throw new DeviceError('CUDA_LIBRARY_MISSING', 'Nsight Compute (ncu) was not found', {
        hint: 'install it (NVIDIA: cuda-nsight-compute; Debian: nsight-compute), or put ncu on the PATH',
      });
    }
    progress('profiling');
    const worker = [process.execPath, ...process.execArgv, ...process.argv.slice(1), '--launch-list', list];
    const profiled = await profile(ncu, worker, BAG_KERNELS);
    const ran = JSON.parse(await readFile(list, 'utf8')) as BatchLaunches[];
    const counters = counterRows(ran, profiled, {
      tables: tables.length,
      computeCapability: capabilityOf(device),
    });
    const protocol =
      'counters: a batch to warm up and one that counts, of every variant in turns; the program ran once for every pass of counters, clocks and caches left alone';
    return { ...compiled, notes: [...compiled.notes, protocol], counters, device };
  } catch (error) {
    if (!(error instanceof HotrowError) || !UNREADABLE.includes(error.code)) throw error;
    const timed = await launches(architecture, options);
    const notes = [`no counters: ${error.message}; ${error.hint}`, ...timed.flatMap(timeNote)];
    return { ...compiled, notes: [...compiled.notes, ...notes], counters: [], device };
  } finally {
    await rm(list, { force: true });
  }
}

/** Codes of errors that leave the launches' times to be told. */
const UNREADABLE: readonly string[] = ['CUDA_LIBRARY_MISSING', 'DEVICE_UNAVAILABLE'];

function timeNote({ pattern, kernel, launchUs, warmUp }: BatchLaunches): string[] {
  return warmUp
    ? []
    : [`${pattern}, ${kernel}: ${significant(median([...launchUs]))} µs a launch, by events`];
}

/** @throws UsageError; DeviceError DEVICE_UNAVAILABLE without a GPU. */
function gpuAt(device: string): DeviceDescription {
  try {
    const { backend } = openBackend({ device });
    using _ = backend;
    if (backend.device.kind === 'cuda') return backend.device;
  } catch (cause) {
    if (!(cause instanceof DeviceError)) throw cause;
    throw noGpu(cause.message.split('\n')[0]?.replace(/;.*/, '') ?? '', cause);
  }
  throw noGpu(`${device} is not one`);
}

function noGpu(why: string, cause?: DeviceError): DeviceError {
  return new DeviceError('DEVICE_UNAVAILABLE', `counters need a GPU: ${why}`, {
    hint: 'pass --static for what the compiler says of GPUs that are not here',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** `sm_90` → [9, 0]. */
function capabilityOf({ architecture }: DeviceDescription): readonly [number, number] {
  const number = Number(architecture.replace('sm_', ''));
  return [Math.floor(number / 10), number % 10];
}

async function staticRows(device: DeviceDescription, { tables }: DlrmArchitecture): Promise<StaticReport> {
  const gpu = gpuLike(device.name);
  if (gpu === undefined)
    return { rows: [], tools: {}, notes: [`no static report: ${device.name} is not known`] };
  try {
    return await staticReport({ tables, gpus: [gpu], onProgress: progress });
  } catch (error) {
    if (!(error instanceof DeviceError) || error.code !== 'CUDA_LIBRARY_MISSING') throw error;
    return { rows: [], tools: {}, notes: [`no static report: ${error.message}`] };
  }
}

function printReport({ static: rows, counters, device, tools, notes }: Characterization): void {
  const compilers = Object.entries(tools).map(([name, number]) => `${name} ${number}`);
  const asked =
    device === undefined ? 'no GPU was asked' : `${device.id}: ${device.name}, ${device.architecture}`;
  printLine([...(compilers.length === 0 ? [] : [`compiled with ${compilers.join(', ')}`]), asked].join('; '));
  for (const pattern of new Set(counters.map((row) => row.pattern))) {
    printLine();
    printLine(emphasise(pattern));
    printLine(counterTable(counters.filter((row) => row.pattern === pattern)));
  }
  for (const gpu of new Set(rows.map((row) => row.gpu))) {
    const own = rows.filter((row) => row.gpu === gpu);
    printLine();
    printLine(emphasise(`${gpu} (${own[0]?.architecture})`));
    printLine(staticTable(own));
  }
  for (const note of notes) printLine(`\nnote: ${note}`);
}

const perTable = ({ timeUs, tablesPerLaunch }: CounterRow) => timeUs / tablesPerLaunch;

/** Variants of one pattern, and what each moved. */
function counterTable(rows: readonly CounterRow[]): string {
  const [plain] = rows;
  return renderTable(
    [
      { title: 'variant', left: true },
      ...['µs', 'speed', 'regs', 'warps', 'issue', 'load wait', 'L1 hit', 'L2 hit', 'DRAM', 'L2'].map(
        (title) => ({ title }),
      ),
      { title: 'limited by', left: true },
    ],
    rows.map((row) => [
      row.variant.replace(/^standard \+ /, '+ '),
      significant(perTable(row)),
      plain === undefined ? '–' : `${significant(perTable(plain) / perTable(row))}×`,
      String(row.registers),
      `${significant(row.achievedWarps)}/${row.theoreticalWarps}`,
      percent(row.issueSlotUse),
      significant(row.longScoreboardPerIssue),
      ...[row.l1HitRate, row.l2HitRate, row.dramShare, row.l2Share].map((share) => percent(share)),
      row.limiter,
    ]),
  );
}

function staticTable(rows: readonly StaticRow[]): string {
  return renderTable(
    [
      { title: 'variant', left: true },
      { title: 'registers' },
      { title: 'spilled' },
      { title: 'shared' },
      { title: 'warps' },
      { title: 'occupancy' },
      { title: 'limited by', left: true },
    ],
    rows.map(({ variant, registers, spillBytes, sharedBytes, warps, occupancy, limiter }) => [
      variant.replace(/^standard \+ /, '+ '),
      String(registers),
      spillBytes === 0 ? '–' : `${spillBytes} B`,
      sharedBytes === 0 ? '–' : `${sharedBytes} B`,
      String(warps),
      `${(100 * occupancy).toFixed(0)} %`,
      limiter,
    ]),
  );
}
