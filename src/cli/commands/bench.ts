import { writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import type { DensePrecision } from '../../backend/backend.ts';
import { openBackend } from '../../backend/open-backend.ts';
import { bench } from '../../bench/bench.ts';
import { PRESETS } from '../../bench/presets.ts';
import { INDEX_TYPES, type IndexType } from '../../bench/workload.ts';
import type { DeviceDescription } from '../../device.ts';
import { TECHNIQUES, techniquesOn } from '../../embedding/techniques/registry.ts';
import { fileError, UsageError } from '../../errors.ts';
import { checkReportFile, writeReport } from '../../report/write-report.ts';
import { benchText } from '../bench-text.ts';
import {
  formatOption,
  integer,
  planOption,
  precisionOption,
  resolvePlan,
  withDevice,
  withModel,
} from '../options.ts';
import { type Format, printJson, printLine, progress } from '../output.ts';
import { architectureOf, readWorkloads, type WorkloadOptions, withWorkload } from '../workloads.ts';

interface Options extends WorkloadOptions {
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly indexType: IndexType;
  readonly rounds?: number;
  readonly sweep?: readonly string[];
  readonly peers: boolean;
  readonly json?: string;
  readonly report?: string;
  readonly format: Format;
}

export function benchCommand(): Command {
  const command = new Command('bench')
    .description('compare the embedding stage under every technique, then time the whole model')
    .argument('[model]', "a checkpoint; default: the preset's synthetic model");
  const preset = new Option('--preset <preset>', 'what to run')
    .choices(Object.keys(PRESETS))
    .default('quick');
  return withWorkload(withModel(withDevice(command)).addOption(preset))
    .addOption(
      new Option('--index-type <type>', 'of indices and offsets').choices(INDEX_TYPES).default('int64'),
    )
    .option('--rounds <n>', 'timed rounds', integer(1))
    .addOption(precisionOption())
    .addOption(planOption().default('auto', 'only the techniques and the best found').argParser(String))
    .addOption(
      new Option('--sweep <technique...>', 'also run techniques over their whole range').choices(
        TECHNIQUES.map(({ name }) => name),
      ),
    )
    .option('--no-peers', 'do not measure PyTorch')
    .option('--json <file>', 'write the results as JSON')
    .option('--report <file>', 'write the results as an HTML page')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Presets:
${Object.entries(PRESETS)
  .map(([name, { title }]) => `  ${name.padEnd(7)} ${title}`)
  .join('\n')}

Examples:
  hotrow bench
  hotrow bench --trace med_hot.txt low_hot.txt --json results.json
  hotrow bench dlrm.safetensors --bag-lengths poisson:20`,
    )
    .action(run);
}

async function run(modelFile: string | undefined, options: Options): Promise<void> {
  const preset = PRESETS[options.preset];
  if (options.report !== undefined) await checkReportFile(options.report, reportInputs(modelFile, options));
  const plan = await resolvePlan(options.plan);
  const architecture = await architectureOf(modelFile, options);
  const { backend, reason } = openBackend(options);
  using _ = backend;
  checkSweeps(options.sweep ?? [], backend.device);

  const { workloads, bagLengths } = await readWorkloads(architecture, options, options.indexType);
  const results = await bench({
    backend,
    architecture,
    preset: options.preset,
    command: ['hotrow', ...process.argv.slice(2)].join(' '),
    workloads,
    bagLengths,
    seed: options.seed,
    indexType: options.indexType,
    embeddingRounds: preset.embeddingRounds === 0 ? 0 : (options.rounds ?? preset.embeddingRounds),
    modelRounds: preset.modelRounds === 0 ? 0 : (options.rounds ?? preset.modelRounds),
    sweeps: options.sweep ?? [],
    peers: options.peers,
    onProgress: progress,
    ...(plan === undefined || plan === 'plain' ? {} : { plan }),
  });
  progress('');
  if (options.json !== undefined) {
    const { json } = options;
    await writeFile(json, `${JSON.stringify(results, null, 2)}\n`).catch((cause) => {
      throw fileError(json, cause);
    });
  }
  if (options.report !== undefined) await writeReport([results], options.report);
  if (options.format === 'json') printJson(results);
  else printLine(benchText(results, reason));
}

/** Files that the report must not take the place of. */
function reportInputs(modelFile: string | undefined, { json, trace, plan }: Options): string[] {
  return [modelFile, json, plan, ...(trace ?? [])].filter((file) => file !== undefined);
}

/** @throws UsageError for a technique that the device does not have. */
function checkSweeps(sweeps: readonly string[], { kind, id }: DeviceDescription): void {
  const names = techniquesOn(kind).map(({ technique }) => technique.name);
  const unknown = sweeps.find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new UsageError('USAGE', `--sweep ${unknown}: ${id} has no such technique`, {
    hint: `its techniques are ${names.join(', ')}`,
  });
}
