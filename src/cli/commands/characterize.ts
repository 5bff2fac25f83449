import { dirname } from 'node:path';
import { Command, Option } from 'commander';
import { CudaBackend } from '../../backend/cuda/cuda-backend.ts';
import { PRESETS } from '../../bench/presets.ts';
import { Budget } from '../../characterize/budget.ts';
import { runCells } from '../../characterize/cells.ts';
import { characterize } from '../../characterize/characterize.ts';
import { describeGpu } from '../../characterize/gpus.ts';
import { keptLookups } from '../../characterize/kept-lookups.ts';
import { findNcu } from '../../characterize/ncu.ts';
import { CHARACTERIZE_VERSION, type Characterization } from '../../characterize/results.ts';
import { staticReport } from '../../characterize/static-report.ts';
import { parseVariants, VARIANTS, type VariantName } from '../../characterize/variants.ts';
import { cudaDevices } from '../../cuda/discover.ts';
import type { DeviceDescription } from '../../device.ts';
import { DeviceError, UsageError } from '../../errors.ts';
import { version } from '../../version.ts';
import { characterizeText } from '../characterize-text.ts';
import { endsWithWhatItHas, interrupted } from '../interrupt.ts';
import { duration, formatOption } from '../options.ts';
import { type Format, printJson, printLine, progress } from '../print.ts';
import {
  checkResultFiles,
  commandLine,
  type ResultFiles,
  withResultFiles,
  writeResults,
} from '../result-files.ts';
import {
  bagLengthsOf,
  presetLines,
  readWorkloads,
  type WorkloadOptions,
  withWorkload,
  workloadInputs,
  workloadShape,
} from '../workload-options.ts';

interface Options extends WorkloadOptions, ResultFiles {
  readonly static?: boolean;
  readonly gpu?: string;
  readonly device: string;
  readonly variants?: string;
  readonly budget?: number;
  readonly cells?: string;
  readonly format: Format;
}

const STATIC_GPUS = 'A100,H100,H200';

/** Seconds. */
const DEFAULT_BUDGET = 120;

/** Timed predictions of a model whose preset times none. */
const MODEL_ROUNDS = 20;

export function characterizeCommand(): Command {
  const command = new Command('characterize').description(
    'what bounds the kernels of every technique on a GPU, by its counters',
  );
  return withResultFiles(withWorkload(command, 'paper'))
    .option('--device <device>', 'cuda[:N]', 'cuda')
    .option('--variants <list>', `whose counters are read, of ${VARIANTS.join(',')} (default: all)`)
    .option('--budget <time>', 'time to spend: 60s, 5m (default: 2m)', duration)
    .option('--static', "from the compiler's report alone, for GPUs that need not be here")
    .option('--gpu <list>', `GPUs by name, with --static (default: ${STATIC_GPUS})`)
    .addOption(formatOption())
    .addOption(new Option('--cells <file>', 'run what a profiler is to record, and list it').hideHelp())
    .addHelpText(
      'after',
      `
Presets:
${presetLines()}

Examples:
  hotrow characterize --report counters.html
  hotrow characterize --tables 4 --patterns random,med_hot
  hotrow characterize --row-format int8 --variants fused
  hotrow characterize dlrm.safetensors --budget 5m
  hotrow characterize --static
  hotrow characterize dlrm.safetensors --static --gpu L40S,B200 --json static.json`,
    )
    .action(run);
}

async function run(modelFile: string | undefined, options: Options): Promise<void> {
  if (options.cells !== undefined) return runProfiled(modelFile, options, options.cells);
  await checkResultFiles(options, workloadInputs(modelFile, options));
  const results = await (options.static === true ? compile : measure)(modelFile, options);
  progress('');
  await writeResults(results, options);
  if (options.format === 'json') printJson(results);
  else printLine(characterizeText(results));
}

async function compile(modelFile: string | undefined, options: Options): Promise<Characterization> {
  const { patterns, trace, batch, bagLengths } = options;
  const lookups = { '--patterns': patterns, '--trace': trace, '--batch': batch, '--bag-lengths': bagLengths };
  const [given] = Object.entries(lookups).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (given !== undefined)
    throw new UsageError('USAGE', `--static looks nothing up: ${given} has no meaning`);
  if (options.budget !== undefined)
    throw new UsageError('USAGE', '--static measures nothing: --budget has no meaning');
  if (options.variants !== undefined) {
    throw new UsageError(
      'USAGE',
      '--variants chooses what runs on a GPU; --static reports all that there are',
    );
  }
  const { tables } = (await workloadShape(modelFile, options)).architecture;
  const gpus = (options.gpu ?? STATIC_GPUS).split(',').map(describeGpu);
  const report = await staticReport({ tables, gpus, onProgress: progress, signal: interrupted });
  return {
    version: CHARACTERIZE_VERSION,
    kind: 'characterize',
    createdAt: new Date().toISOString(),
    command: commandLine(),
    hotrow: version,
    tools: report.tools,
    static: report.rows,
    counters: [],
    notes: report.notes,
  };
}

async function measure(modelFile: string | undefined, options: Options): Promise<Characterization> {
  if (options.gpu !== undefined) {
    throw new UsageError('USAGE', '--gpu names GPUs for --static; counters are read on --device');
  }
  const id = gpuId(options.device);
  const variants = chosenVariants(options);
  const preset = PRESETS[options.preset];
  const shape = await workloadShape(modelFile, options);
  const { architecture, seed, indexType } = shape;
  const draw = await readWorkloads(shape, options);
  const device = findGpu(id);
  const workloads = draw();
  return characterize({
    ...{ device, architecture, workloads, variants, seed, indexType },
    bagLengths: bagLengthsOf(workloads, shape),
    open: () => openGpu(device),
    ncu: findNcu(),
    cellsCommand,
    preset: options.preset,
    command: commandLine(),
    embedding: preset.embeddingRounds > 0,
    modelRounds: preset.modelRounds || (modelFile === undefined ? 0 : MODEL_ROUNDS),
    budget: new Budget({ seconds: options.budget ?? DEFAULT_BUDGET, signal: endsWithWhatItHas() }),
    onProgress: progress,
  });
}

/** What `measure` has profiled: the lookups alone, without a word. */
async function runProfiled(modelFile: string | undefined, options: Options, file: string): Promise<void> {
  const { tables } = (await workloadShape(modelFile, options)).architecture;
  const workloads = await keptLookups(dirname(file));
  using backend = openGpu(findGpu(gpuId(options.device)));
  await runCells({ backend, tables, workloads }, file);
}

function chosenVariants({ variants }: Options): readonly VariantName[] {
  return variants === undefined ? VARIANTS : parseVariants(variants);
}

/** This command line again, so that the profiled program has the same tables. */
function cellsCommand(file: string): string[] {
  const [, main, verb, ...rest] = process.argv as [string, string, string];
  return [process.execPath, ...process.execArgv, main, verb, '--cells', file, ...rest];
}

/** `cuda:N` of what `--device` names. @throws UsageError for a name of no GPU. */
function gpuId(name: string): string {
  const ordinal = /^cuda(?::(\d+))?$/.exec(name);
  if (ordinal === null) {
    throw new UsageError('USAGE', `--device ${name}: counters are those of a GPU`, {
      hint: 'devices are cuda and cuda:N; without a GPU, pass --static',
    });
  }
  return `cuda:${ordinal[1] ?? 0}`;
}

/** @throws DeviceError DEVICE_UNAVAILABLE. */
function findGpu(id: string): DeviceDescription {
  const found = cudaDevices();
  const device = 'reason' in found ? undefined : found.devices.find((known) => known.id === id);
  if (device !== undefined) return device;
  const why = 'reason' in found ? found.reason : `there is no ${id}`;
  throw new DeviceError('DEVICE_UNAVAILABLE', `no counters without a GPU: ${why}`, {
    hint: 'pass --static for what the compiler says of GPUs that need not be here',
  });
}

function openGpu({ id }: DeviceDescription): CudaBackend {
  return new CudaBackend({ ordinal: Number(id.replace('cuda:', '')) });
}
