import { Command, Option } from 'commander';
import type { DensePrecision } from '../../backend/backend.ts';
import type { IndexChecking } from '../../embedding/bag.ts';
import { planLabel } from '../../embedding/plan.ts';
import { fromFile, UsageError } from '../../errors.ts';
import { writeSafetensors } from '../../formats/safetensors.ts';
import type { DlrmModel, StagedPrediction } from '../../model/dlrm.ts';
import { loadModel } from '../../model/load-model.ts';
import { type DlrmRequest, readRequest } from '../../model/request.ts';
import { readCriteo } from '../../workload/criteo.ts';
import {
  architectureOverrides,
  formatOption,
  indexCheckingOption,
  integer,
  type ModelOptions,
  modelArgument,
  planOption,
  precisionOption,
  resolvePlan,
  withDevice,
  withModel,
} from '../options.ts';
import { type Format, formatMs, notice, printJson, printLine, renderTable } from '../output.ts';

interface Options extends ModelOptions {
  readonly format: Format;
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly indexChecking: IndexChecking;
  readonly out?: string;
  readonly vocabulary?: string;
  readonly hash?: boolean;
  readonly unknownRow?: number;
  readonly limit?: number;
}

/** Probabilities that the table shows before it refers to --format json and --out. */
const SHOWN = 20;

export function predictCommand(): Command {
  const command = new Command('predict')
    .description('score a request')
    .addArgument(modelArgument())
    .argument('<request>', 'a request (.safetensors), or Criteo rows (.csv, .tsv, .txt, also gzipped)');
  return withModel(withDevice(command))
    .addOption(precisionOption())
    .addOption(planOption())
    .addOption(indexCheckingOption())
    .addOption(
      new Option(
        '--vocabulary <file>',
        'JSON: per Criteo category field, its strings in row order',
      ).conflicts('hash'),
    )
    .option('--hash', 'Criteo categories by hashing to the table size')
    .option(
      '--unknown-row <row>',
      'the row of categories that the vocabulary lacks (default: an error)',
      integer(0),
    )
    .option('--limit <n>', 'score the first rows of a Criteo file only', integer(1))
    .option('--out <file>', 'also write `probability` [B, 1] to a safetensors file')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Examples:
  hotrow predict dlrm.pt request.safetensors
  hotrow predict dlrm.pt day_0.csv --vocabulary vocabulary.json --format json`,
    )
    .action(predict);
}

async function predict(modelFile: string, requestFile: string, options: Options): Promise<void> {
  const { device, threads, precision, indexChecking } = options;
  const plan = await resolvePlan(options.plan);
  await using model = await loadModel(modelFile, {
    device,
    indexChecking,
    architecture: architectureOverrides(options),
    ...(threads === undefined ? {} : { threads }),
    ...(precision === undefined ? {} : { precision }),
    ...(plan === undefined ? {} : { plan }),
  });
  const request = await loadRequest(requestFile, model, options);
  const prediction = await fromFile(requestFile, () => model.predict(request, { stages: true }));
  const { badIndices, badOffsets, first } = prediction.findings;
  if (first !== undefined) {
    notice(
      `warning: ${badIndices} bad indices read row 0, ${badOffsets} bad offsets were clamped; first: ${first.message}`,
    );
  }
  if (options.out !== undefined) {
    const probability = {
      dtype: 'float32',
      shape: [request.batchSize, 1],
      data: prediction.probabilities,
    } as const;
    await writeSafetensors(options.out, new Map([['probability', probability]]));
  }
  if (options.format === 'json') printJson(asJson(modelFile, model, request, prediction));
  else printPrediction(model, request, prediction);
}

/** A safetensors request, or Criteo rows. */
async function loadRequest(
  file: string,
  model: DlrmModel,
  { vocabulary, hash, unknownRow, limit }: Options,
): Promise<DlrmRequest> {
  if (!/\.(csv|tsv|txt)(\.gz)?$/i.test(file)) return readRequest(file);
  const tableRows = model.architecture.tables.map((table) => table.rows);
  const bound = limit === undefined ? {} : { limit };
  if (vocabulary !== undefined) {
    const unknown = unknownRow === undefined ? {} : { unknownRow };
    return (await readCriteo(file, { vocabulary, ...unknown, ...bound })).request;
  }
  if (hash === true) return (await readCriteo(file, { tableRows, ...bound })).request;
  throw new UsageError('USAGE', `${file} holds category strings, and nothing says which rows they are`, {
    hint: 'pass --vocabulary FILE, or --hash if the model was trained on hashed categories',
  });
}

function asJson(
  model: string,
  { device, precision, plan, planSource }: DlrmModel,
  { batchSize }: DlrmRequest,
  prediction: StagedPrediction,
) {
  const { probabilities, latencyMs, stages, findings } = prediction;
  return {
    model,
    device: device.id,
    precision,
    plan: planLabel(plan),
    planSource,
    batchSize,
    probabilities: Array.from(probabilities),
    latencyMs,
    stages,
    badIndices: findings.badIndices,
    badOffsets: findings.badOffsets,
  };
}

function printPrediction(
  { device, precision, plan, planSource, notes }: DlrmModel,
  { batchSize }: DlrmRequest,
  prediction: StagedPrediction,
): void {
  const { probabilities, latencyMs, stages } = prediction;
  printLine(`device  ${device.id}: ${device.name}, ${device.architecture}, ${device.threads} threads`);
  printLine(`dense   ${precision}`);
  printLine(`plan    ${planLabel(plan)} (${planSource})`);
  for (const note of notes) printLine(`        ${note}`);
  printLine(
    `scored  ${batchSize} samples in ${formatMs(latencyMs)} ms (embedding ${formatMs(stages.embeddingMs)} ms)`,
  );
  if (batchSize === 0) return;
  printLine();
  const rows = Array.from(probabilities.subarray(0, SHOWN), (probability, i) => [
    String(i),
    probability.toFixed(6),
  ]);
  printLine(renderTable([{ title: 'sample' }, { title: 'probability' }], rows));
  if (batchSize > SHOWN) printLine(`… ${batchSize - SHOWN} more: --format json or --out FILE gives all`);
}
