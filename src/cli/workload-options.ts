/** Options that describe tables and lookups, for the commands that measure, and what they come to. */
import { basename } from 'node:path';
import { type Command, Option } from 'commander';
import { type ModelShape, PRESETS, type PresetName } from '../bench/presets.ts';
import {
  type BenchWorkload,
  INDEX_TYPES,
  type IndexType,
  patternWorkload,
  trafficWorkload,
  type WorkloadShape,
} from '../bench/workload.ts';
import { ROW_FORMATS, type RowFormat } from '../embedding/bag.ts';
import { UsageError } from '../errors.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import { loadArchitecture } from '../model/load-model.ts';
import { ACCESS_PATTERNS, type AccessPatternName, accessPattern } from '../workload/access-patterns.ts';
import { parseTableBagLengths } from '../workload/bag-lengths.ts';
import { trafficSources } from '../workload/traffic/sources.ts';
import { type CategoryOptions, categoriesOf, withCategories } from './category-options.ts';
import type { Inputs } from './check-outputs.ts';
import { interrupted } from './interrupt.ts';
import { architectureOverrides, integer, type ModelOptions, withModel } from './options.ts';
import { progress } from './print.ts';

export interface ShapeOptions extends ModelOptions {
  readonly preset: PresetName;
  readonly tables?: number;
  readonly rows?: number;
  readonly dim?: number;
  readonly rowFormat?: RowFormat;
  readonly batch?: number;
  readonly bagLengths?: string;
  readonly indexType: IndexType;
  readonly seed: number;
}

export interface LookupOptions extends CategoryOptions {
  readonly patterns?: string;
  readonly trace?: readonly string[];
  /** Samples of a batch, where that was asked for. */
  readonly batch?: number;
  /** Of drawn bags, where they were asked for. */
  readonly bagLengths?: string;
}

export interface WorkloadOptions extends ShapeOptions, LookupOptions {}

/** A model, or a preset and what changes it; and the shape of the lookups. */
export function withShape(command: Command, preset: PresetName): Command {
  return withModel(command.argument('[model]', "a checkpoint; default: the preset's synthetic model"))
    .addOption(new Option('--preset <preset>', 'what to run').choices(Object.keys(PRESETS)).default(preset))
    .option('--tables <n>', 'number of tables', integer(1))
    .option('--rows <n>', 'rows of a table', integer(1))
    .option('--dim <n>', 'embedding dim', integer(1))
    .addOption(new Option('--row-format <format>', 'how rows are stored').choices(ROW_FORMATS))
    .option('--batch <n>', "samples of a batch (default: a request's own, else the preset's)", integer(1))
    .option(
      '--bag-lengths <spec>',
      'lookups of a bag: 150, uniform:1:300, poisson:20, …; 3/2/1: of each table',
    )
    .addOption(
      new Option('--index-type <type>', 'of indices and offsets').choices(INDEX_TYPES).default('int64'),
    )
    .option('--seed <n>', 'seed of rows and lookups', integer(0), 1);
}

/** As withShape, and `--patterns` and `--trace`. */
export function withWorkload(command: Command, preset: PresetName): Command {
  return withTrace(
    withShape(command, preset).option(
      '--patterns <list>',
      `access patterns, of ${Object.keys(ACCESS_PATTERNS).join(',')} (default: all)`,
    ),
  );
}

/** `--trace`, and what raw requests in it become. */
export function withTrace(command: Command): Command {
  return withCategories(
    command.option(
      '--trace <traffic...>',
      'your own traffic: traces, dlrm_datasets, requests, folders of requests, Criteo rows; TABLE=FILE: a trace each',
    ),
  );
}

/** The presets, a line each, for help. */
export function presetLines(): string {
  return Object.entries(PRESETS)
    .map(([name, { title }]) => `  ${name.padEnd(7)} ${title}`)
    .join('\n');
}

/** What the options name to be read. */
export function workloadInputs(
  model: string | undefined,
  { trace = [], vocabulary }: LookupOptions,
  ...others: readonly string[]
): Inputs {
  const traces = trace.flatMap((text) => [text, text.slice(text.indexOf('=') + 1)]);
  return { model, files: [...traces, vocabulary, ...others] };
}

/** The tables, and the shape of the lookups. @throws UsageError for options that do not go together; as a checkpoint does. */
export async function workloadShape(
  modelFile: string | undefined,
  options: ShapeOptions,
): Promise<WorkloadShape & { readonly indexType: IndexType }> {
  const preset = PRESETS[options.preset];
  const architecture =
    modelFile === undefined
      ? preset.architecture(shapeOf(options))
      : await modelArchitecture(modelFile, options);
  return {
    architecture,
    batchSize: options.batch ?? preset.batchSize,
    bagLengths: options.bagLengths ?? preset.bagLengths(shapeOf(options)),
    batches: preset.batches,
    seed: options.seed,
    indexType: options.indexType,
  };
}

/**
 * The lookups of every trace or access pattern: validates the inputs; returns a function that draws the batches (slow, cannot
 * fail).
 * @throws WorkloadError, UsageError.
 */
export async function readWorkloads(
  shape: WorkloadShape,
  options: LookupOptions,
): Promise<() => BenchWorkload[]> {
  const { trace, patterns } = options;
  if (trace === undefined) {
    const names = parsePatterns(patterns);
    parseTableBagLengths(shape.bagLengths, shape.architecture.tables.length);
    return () =>
      names.map((name, n) => {
        progress('drawing patterns', n + 1, names.length);
        return patternWorkload(name, shape);
      });
  }
  const workloads: BenchWorkload[] = [];
  for (const source of await trafficSources(trace)) {
    progress(`reading ${source.name}`);
    const batch = options.batch === undefined ? {} : { batchSize: options.batch };
    const workload = await trafficWorkload(source, shape, { ...categoriesOf(options), ...batch });
    const aside = `${source.path}: bags are as they were recorded; --bag-lengths is left aside`;
    const notes =
      workload.recorded && options.bagLengths !== undefined ? [...workload.notes, aside] : workload.notes;
    workloads.push({ ...workload, notes });
  }
  return () => workloads;
}

/** What results say of the bags. */
export function bagLengthsOf(workloads: readonly BenchWorkload[], { bagLengths }: WorkloadShape): string {
  const recorded = workloads.filter((workload) => workload.recorded).length;
  if (recorded === 0) return bagLengths;
  return recorded === workloads.length ? 'recorded lengths' : `${bagLengths}, or recorded lengths`;
}

/** What the options change of the preset's model. */
function shapeOf({ tables, rows, dim, rowFormat }: ShapeOptions): ModelShape {
  const given = Object.entries({ tables, rows, dim, rowFormat }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

async function modelArchitecture(file: string, options: ShapeOptions): Promise<ModelArchitecture> {
  const shaping = Object.keys(shapeOf(options));
  if (shaping.length > 0) {
    throw new UsageError(
      'USAGE',
      `${shaping.join(', ')} shape a synthetic model, and ${file} has its own tables`,
    );
  }
  progress(`reading ${basename(file)}`);
  return (await loadArchitecture(file, architectureOverrides(options), interrupted)).architecture;
}

function parsePatterns(text: string | undefined): AccessPatternName[] {
  if (text === undefined) return Object.keys(ACCESS_PATTERNS) as AccessPatternName[];
  return text.split(',').map((name) => accessPattern(name.trim()));
}
