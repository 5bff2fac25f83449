/** Models and lookups that commands measure: their options, and how they are read. */
import { basename } from 'node:path';
import { type Command, Option } from 'commander';
import { type ModelShape, PRESETS, type PresetName } from '../bench/presets.ts';
import { type BenchWorkload, type IndexType, patternWorkload, traceWorkload } from '../bench/workload.ts';
import { ROW_FORMATS, type RowFormat } from '../embedding/bag.ts';
import { fromFile, UsageError } from '../errors.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import { type ArchitectureOverrides, inferArchitecture } from '../model/infer-architecture.ts';
import { ACCESS_PATTERNS, type AccessPatternName, accessPattern } from '../workload/access-patterns.ts';
import { integer } from './options.ts';
import { notice, progress } from './output.ts';

export interface WorkloadOptions {
  readonly preset: PresetName;
  readonly interaction?: NonNullable<ArchitectureOverrides['interaction']>;
  readonly patterns?: string;
  readonly trace?: readonly string[];
  readonly tables?: number;
  readonly rows?: number;
  readonly dim?: number;
  readonly rowFormat?: RowFormat;
  readonly batch?: number;
  readonly bagLengths?: string;
  readonly seed: number;
}

/** The options that describe a workload, but for the preset. */
export function withWorkload(command: Command): Command {
  return command
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
    .option('--seed <n>', 'seed of rows and lookups', integer(0), 1);
}

/** The model in the file, else the preset's. @throws UsageError, FormatError, ModelError. */
export async function architectureOf(
  file: string | undefined,
  options: WorkloadOptions,
): Promise<DlrmArchitecture> {
  if (file === undefined) return PRESETS[options.preset].architecture(shapeOf(options));
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

/** The lookups that the options ask for. @throws UsageError, WorkloadError. */
export async function readWorkloads(
  architecture: DlrmArchitecture,
  options: WorkloadOptions,
  indexType: IndexType = 'int64',
): Promise<{ readonly workloads: BenchWorkload[]; readonly bagLengths: string }> {
  const preset = PRESETS[options.preset];
  const bagLengths = options.bagLengths ?? preset.bagLengths(shapeOf(options));
  const shape = {
    architecture,
    batchSize: options.batch ?? preset.batchSize,
    bagLengths,
    batches: preset.batches,
    seed: options.seed,
    indexType,
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
  return { workloads, bagLengths };
}

/** What the options change of the preset's model. */
function shapeOf({ tables, rows, dim, rowFormat }: WorkloadOptions): ModelShape {
  const given = Object.entries({ tables, rows, dim, rowFormat }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

function parsePatterns(text: string | undefined): AccessPatternName[] {
  if (text === undefined) return Object.keys(ACCESS_PATTERNS) as AccessPatternName[];
  return text.split(',').map((name) => accessPattern(name.trim()));
}
