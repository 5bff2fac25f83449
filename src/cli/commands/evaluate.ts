import { basename } from 'node:path';
import { Command, Option } from 'commander';
import { throwIfAborted } from '../../checks/abort.ts';
import { DENSE_PRECISIONS, type DensePrecision } from '../../device.ts';
import { fromFile, UsageError } from '../../errors.ts';
import { evaluate } from '../../evaluate/evaluate.ts';
import { readLabels } from '../../evaluate/labels.ts';
import { EVALUATE_VERSION, type EvaluateResults } from '../../evaluate/results.ts';
import { expectKind } from '../../formats/file-kind.ts';
import type { DlrmModel } from '../../model/dlrm.ts';
import { loadModel } from '../../model/load-model.ts';
import { type PlanChoice, planLabel } from '../../plan/plan.ts';
import { version } from '../../version.ts';
import { readRequestFile } from '../../workload/request-file.ts';
import { type Samples, samplesOf } from '../../workload/traffic/samples.ts';
import { type CategoryOptions, categoriesOf, withCategories } from '../category-options.ts';
import { evaluateText } from '../evaluate-text.ts';
import { interrupted } from '../interrupt.ts';
import {
  architectureOverrides,
  formatOption,
  integer,
  type ModelOptions,
  modelArgument,
  planOption,
  precisionOption,
  resolvePlan,
  withDevice,
  withModel,
} from '../options.ts';
import { type Format, formatCount, notice, printJson, printLine, progress } from '../print.ts';
import {
  checkResultFiles,
  commandLine,
  type ResultFiles,
  withResultFiles,
  writeResults,
} from '../result-files.ts';

interface Options extends ModelOptions, CategoryOptions, ResultFiles {
  readonly against: string;
  readonly requests: readonly string[];
  readonly labels?: string;
  readonly limit?: number;
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly referenceDevice?: string;
  readonly referencePrecision: DensePrecision;
  readonly batchSize: number;
  readonly seed: number;
  readonly format: Format;
}

export function evaluateCommand(): Command {
  const command = new Command('evaluate')
    .description(
      'how far scores of a model lie from those of a reference: errors, AUC, log loss, calibration',
    )
    .addArgument(modelArgument())
    .requiredOption('--against <reference>', 'the model to compare with, or the same in another precision')
    .requiredOption('--requests <files...>', 'samples to score, as `hotrow predict` takes them')
    .option(
      '--labels <file>',
      'safetensors with `labels` [N], 0 or 1 (Criteo rows have their own; else they are drawn)',
    )
    .option('--limit <n>', 'score the first rows of a Criteo file only', integer(1));
  return withResultFiles(withCategories(withModel(withDevice(command))))
    .addOption(precisionOption())
    .addOption(planOption())
    .option('--reference-device <device>', 'auto, cpu or cuda[:N] (default: --device)')
    .addOption(
      new Option('--reference-precision <precision>', "how the reference's dense layers multiply")
        .choices(DENSE_PRECISIONS)
        .default('float32'),
    )
    .option('--batch-size <n>', 'samples at once, at most', integer(1), 2048)
    .option('--seed <n>', 'of labels that are drawn', integer(0), 1)
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Without labels, they are drawn from the reference's probabilities: the reference is right by then, and what the model loses is what the
difference costs.

Examples:
  hotrow evaluate dlrm.int8.safetensors --against dlrm.safetensors --requests traffic/*.safetensors
  hotrow evaluate dlrm.pt --against dlrm.pt --precision float16 --requests day_23.gz --hash --report evaluation.html`,
    )
    .action(run);
}

async function run(modelFile: string, options: Options): Promise<void> {
  const { against, labels: labelsFile } = options;
  const files = [against, ...options.requests, labelsFile, options.vocabulary, options.plan];
  await checkResultFiles(options, { model: modelFile, files });
  const plan = await resolvePlan(options.plan);
  // Before models of any size are loaded for them.
  for (const file of options.requests) await expectKind(file, 'request');
  const given = labelsFile === undefined ? undefined : await readLabels(labelsFile);
  const load = (file: string, device: string, precision: DensePrecision | undefined, own?: PlanChoice) => {
    progress(`loading ${basename(file)}`);
    return loadModel(file, {
      architecture: architectureOverrides(options),
      device,
      onProgress: progress,
      signal: interrupted,
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      ...(precision === undefined ? {} : { precision }),
      ...(own === undefined ? {} : { plan: own }),
    });
  };
  await using model = await load(modelFile, options.device, options.precision, plan);
  await using reference = await load(
    against,
    options.referenceDevice ?? options.device,
    options.referencePrecision,
  );
  const read = await readSamples(model, options);
  for (const note of read.notes) notice(note);
  requireFit(model, reference);
  const samples = read.requests.reduce((sum, { count }) => sum + count, 0);
  const labels = labelsOf(given, read.labels, samples, options);
  const compared = await evaluate({
    model,
    reference,
    requests: read.requests,
    labels,
    seed: options.seed,
    batchSize: options.batchSize,
    onProgress: (done) => {
      throwIfAborted(interrupted, 'evaluate');
      progress(`scored ${formatCount(done)} of ${formatCount(samples)} samples`);
    },
  });
  progress('');
  const results: EvaluateResults = {
    version: EVALUATE_VERSION,
    kind: 'evaluate',
    createdAt: new Date().toISOString(),
    command: commandLine(),
    hotrow: version,
    model: sideOf(modelFile, model),
    reference: sideOf(against, reference),
    requests: {
      files: options.requests.map((file) => basename(file)),
      samples,
      batchSize: options.batchSize,
    },
    ...compared,
    notes: [...placingNotes('model', model), ...placingNotes('reference', reference), ...compared.notes],
  };
  await writeResults(results, options);
  if (options.format === 'json') printJson(results);
  else printLine(evaluateText(results));
}

interface ReadSamples {
  readonly requests: readonly Samples[];
  /** Of all samples, where every file has them. */
  readonly labels: Uint8Array | undefined;
  readonly notes: readonly string[];
}

async function readSamples({ architecture }: DlrmModel, options: Options): Promise<ReadSamples> {
  const requests: Samples[] = [];
  const labels: Float32Array[] = [];
  const notes = new Set<string>();
  for (const file of options.requests) {
    progress(`reading ${basename(file)}`);
    const limit = options.limit === undefined ? {} : { limit: options.limit };
    const read = await readRequestFile(file, architecture, { ...categoriesOf(options), ...limit });
    const samples = await fromFile(file, async () => samplesOf(read.request, architecture));
    for (const note of read.notes) notes.add(note);
    if (samples.count === 0) continue;
    requests.push(samples);
    if (read.labels !== undefined) labels.push(read.labels);
  }
  if (requests.length === 0)
    throw new UsageError('USAGE', '--requests: the files hold no samples', {
      hint: 'at least one is needed',
    });
  const all = labels.length === requests.length ? labels.flatMap((own) => [...own]) : undefined;
  return { requests, labels: all && Uint8Array.from(all), notes: [...notes] };
}

/** @throws UsageError USAGE for tables or dense features that differ: the same requests are no requests of both. */
function requireFit(model: DlrmModel, reference: DlrmModel): void {
  const said = ({ architecture: { tables, denseFeatures } }: DlrmModel) =>
    `${tables.length} tables of ${tables.map(({ rows }) => rows).join(', ')} rows, ${denseFeatures} dense features`;
  if (said(model) === said(reference)) return;
  throw new UsageError('USAGE', 'the model and the reference do not take the same requests', {
    hint: `the model has ${said(model)}; the reference ${said(reference)}`,
  });
}

/** @throws UsageError USAGE where there are not as many labels as samples. */
function labelsOf(
  given: Uint8Array | undefined,
  own: Uint8Array | undefined,
  samples: number,
  { labels: file }: Options,
): Uint8Array | undefined {
  if (given === undefined) return own;
  if (given.length === samples) return given;
  throw new UsageError('USAGE', `${file} has ${given.length} labels, the requests have ${samples} samples`);
}

/** What placing brought about on a side. */
function placingNotes(side: string, { notes }: DlrmModel): string[] {
  return notes.map((note) => `${side}: ${note}`);
}

function sideOf(
  file: string,
  { device, precision, architecture, plan }: DlrmModel,
): EvaluateResults['model'] {
  return {
    file: basename(file),
    device: `${device.id}: ${device.name}`,
    precision,
    rowFormats: [...new Set(architecture.tables.map(({ rowFormat = 'float32' }) => rowFormat))].join(', '),
    plan: planLabel(plan),
  };
}
