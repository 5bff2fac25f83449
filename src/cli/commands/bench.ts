import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { Command, Option } from 'commander';
import type { DensePrecision } from '../../backend/backend.ts';
import { openBackend } from '../../backend/open-backend.ts';
import { bench } from '../../bench/bench.ts';
import { type ModelShape, PRESETS, type PresetName } from '../../bench/presets.ts';
import {
  type BenchWorkload,
  INDEX_TYPES,
  type IndexType,
  patternWorkload,
  traceWorkload,
} from '../../bench/workload.ts';
import type { DeviceDescription } from '../../device.ts';
import { ROW_FORMATS, type RowFormat } from '../../embedding/bag.ts';
import { TECHNIQUES, techniquesOn } from '../../embedding/techniques/registry.ts';
import { fileError, fromFile, UsageError } from '../../errors.ts';
import type { DlrmArchitecture } from '../../model/architecture.ts';
import { loadCheckpoint } from '../../model/checkpoint.ts';
import { type ArchitectureOverrides, inferArchitecture } from '../../model/infer-architecture.ts';
import { checkReportFile, writeReport } from '../../report/write-report.ts';
import { ACCESS_PATTERNS, type AccessPatternName, accessPattern } from '../../workload/access-patterns.ts';
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
import { type Format, notice, printJson, printLine, progress } from '../output.ts';

interface Options {
  readonly preset: PresetName;
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly interaction?: NonNullable<ArchitectureOverrides['interaction']>;
  readonly patterns?: string;
  readonly trace?: readonly string[];
  readonly tables?: number;
  readonly rows?: number;
  readonly dim?: number;
  readonly rowFormat?: RowFormat;
  readonly batch?: number;
  readonly bagLengths?: string;
  readonly indexType: IndexType;
  readonly rounds?: number;
  readonly seed: number;
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
  return withModel(withDevice(command))
    .addOption(new Option('--preset <preset>', 'what to run').choices(Object.keys(PRESETS)).default('quick'))
    .option(
      '--patterns <list>',
      `access patterns, of ${Object.keys(ACCESS_PATTERNS).join(',')} (default: all)`,
    )
    .option('--trace <file...>', 'run traces of row indices instead of the access patterns')
    .option('--tables <n>', 'number of tables', integer(1))
    .option('--rows <n>', 'rows of a table', integer(1))
    .option('--dim <n>', 'embedding dim', integer(1))
    .addOption(new Option('--row-format <format>', 'how rows are stored').choices(ROW_FORMATS))
    .option('--batch <n>', 'samples of a batch', integer(1))
    .option(
      '--bag-lengths <spec>',
      'lookups of a bag: 150, uniform:1:300, poisson:20, …; 3/2/1: of each table',
    )
    .addOption(
      new Option('--index-type <type>', 'of indices and offsets').choices(INDEX_TYPES).default('int64'),
    )
    .option('--rounds <n>', 'timed rounds', integer(1))
    .option('--seed <n>', 'seed of rows and lookups', integer(0), 1)
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
  const architecture =
    modelFile === undefined
      ? preset.architecture(shapeOf(options))
      : await loadArchitecture(modelFile, options);
  const bagLengths = options.bagLengths ?? preset.bagLengths(shapeOf(options));
  const { backend, reason } = openBackend(options);
  using _ = backend;
  checkSweeps(options.sweep ?? [], backend.device);

  const shape = {
    architecture,
    batchSize: options.batch ?? preset.batchSize,
    bagLengths,
    batches: preset.batches,
    seed: options.seed,
    indexType: options.indexType,
  };
  const workloads: BenchWorkload[] = [];
  for (const file of options.trace ?? []) {
    progress(`reading ${basename(file)}`);
    const { workload, note } = await traceWorkload(file, shape);
    if (note !== undefined) notice(note);
    workloads.push(workload);
  }
  if (options.trace === undefined) {
    for (const pattern of parsePatterns(options.patterns)) {
      progress(`drawing ${pattern}`);
      workloads.push(patternWorkload(pattern, shape));
    }
  }

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

/** What the options change of the preset's model. */
function shapeOf({ tables, rows, dim, rowFormat }: Options): ModelShape {
  const given = Object.entries({ tables, rows, dim, rowFormat }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

async function loadArchitecture(file: string, options: Options): Promise<DlrmArchitecture> {
  const shaping = Object.keys(shapeOf(options));
  if (shaping.length > 0) {
    throw new UsageError(
      'USAGE',
      `${shaping.join(', ')} shape a synthetic model, and ${file} has its own tables`,
    );
  }
  const { tensors } = await loadCheckpoint(file);
  const overrides = options.interaction === undefined ? {} : { interaction: options.interaction };
  return fromFile(file, () => inferArchitecture(tensors, overrides));
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

function parsePatterns(text: string | undefined): AccessPatternName[] {
  if (text === undefined) return Object.keys(ACCESS_PATTERNS) as AccessPatternName[];
  return text.split(',').map((name) => accessPattern(name.trim()));
}
