import { writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { PRESETS, type PresetName } from '../../bench/presets.ts';
import { CHARACTERIZE_VERSION, type Characterization, type StaticRow } from '../../characterize/results.ts';
import { staticReport } from '../../characterize/static-report.ts';
import { fileError, fromFile, UsageError } from '../../errors.ts';
import { loadCheckpoint } from '../../model/checkpoint.ts';
import { type ArchitectureOverrides, inferArchitecture } from '../../model/infer-architecture.ts';
import { checkReportFile, writeReport } from '../../report/write-report.ts';
import { version } from '../../version.ts';
import { formatOption, withModel } from '../options.ts';
import { emphasise, type Format, printJson, printLine, progress, renderTable } from '../output.ts';

interface Options {
  readonly static?: boolean;
  readonly preset: PresetName;
  readonly gpu: string;
  readonly json?: string;
  readonly report?: string;
  readonly format: Format;
  readonly interaction?: NonNullable<ArchitectureOverrides['interaction']>;
}

export function characterizeCommand(): Command {
  const command = new Command('characterize')
    .description('what the kernels of every technique take of a GPU, and what keeps their occupancy down')
    .argument('[model]', "a checkpoint; default: the preset's synthetic model");
  return withModel(command)
    .option('--static', "from the compiler's report alone, for GPUs that need not be here")
    .addOption(new Option('--preset <preset>', 'tables').choices(Object.keys(PRESETS)).default('paper'))
    .option('--gpu <list>', 'GPUs by name', 'A100,H100,H200')
    .option('--json <file>', 'write the results as JSON')
    .option('--report <file>', 'write the results as an HTML page')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Examples:
  hotrow characterize --static
  hotrow characterize dlrm.safetensors --static --gpu L40S,B200 --json static.json`,
    )
    .action(run);
}

async function run(model: string | undefined, options: Options): Promise<void> {
  if (options.static !== true) {
    throw new UsageError('USAGE', 'this version reports what the compiler says; it reads no counters', {
      hint: 'pass --static; for counters, run `hotrow bench` under Nsight Compute (ncu)',
    });
  }
  if (options.report !== undefined) {
    const inputs = [model, options.json].filter((file) => file !== undefined);
    await checkReportFile(options.report, inputs);
  }
  const { tables } =
    model === undefined ? PRESETS[options.preset].architecture({}) : await load(model, options);
  const report = await staticReport({ tables, gpus: options.gpu.split(','), onProgress: progress });
  progress('');
  const results: Characterization = {
    version: CHARACTERIZE_VERSION,
    kind: 'characterize',
    createdAt: new Date().toISOString(),
    command: ['hotrow', ...process.argv.slice(2)].join(' '),
    hotrow: version,
    tools: report.tools,
    static: report.rows,
    counters: [],
    notes: report.notes,
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

async function load(file: string, { interaction }: Options) {
  const { tensors } = await loadCheckpoint(file);
  const overrides = interaction === undefined ? {} : { interaction };
  return fromFile(file, () => inferArchitecture(tensors, overrides));
}

function printReport({ static: rows, tools, notes }: Characterization): void {
  const compilers = Object.entries(tools).map(([name, number]) => `${name} ${number}`);
  printLine(`compiled with ${compilers.join(', ')}; no GPU was asked`);
  for (const gpu of new Set(rows.map((row) => row.gpu))) {
    const own = rows.filter((row) => row.gpu === gpu);
    printLine();
    printLine(emphasise(`${gpu} (${own[0]?.architecture})`));
    printLine(staticTable(own));
  }
  for (const note of notes) printLine(`\nnote: ${note}`);
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
