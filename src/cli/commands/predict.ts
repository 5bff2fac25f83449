import { basename } from 'node:path';
import { Command } from 'commander';
import { at } from '../../at.ts';
import { openDevice } from '../../backend/open-backend.ts';
import type { DensePrecision } from '../../device.ts';
import type { IndexChecking } from '../../embedding/bag.ts';
import { fromFile } from '../../errors.ts';
import { expectKind } from '../../formats/file-kind.ts';
import { writeSafetensors } from '../../formats/safetensors.ts';
import type { DlrmArchitecture } from '../../model/architecture.ts';
import { DlrmModel, type StagedPrediction } from '../../model/dlrm.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { placementLabel } from '../../plan/placement.ts';
import { type PlanChoice, planLabel } from '../../plan/plan.ts';
import { savedPlans } from '../../plan/saved-plans.ts';
import type { HostTensor } from '../../tensor.ts';
import { printable } from '../../text.ts';
import { planTrafficOf } from '../../workload/batch-traffic.ts';
import { readRequestFile } from '../../workload/request-file.ts';
import { type CategoryOptions, categoriesOf, withCategories } from '../category-options.ts';
import { checkOutputs } from '../check-outputs.ts';
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
import {
  type Format,
  formatCount,
  formatMs,
  NOTE_CHARACTERS,
  notice,
  printJson,
  printLine,
  progress,
  renderTable,
} from '../print.ts';

interface Options extends ModelOptions, CategoryOptions {
  readonly format: Format;
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly indexChecking: IndexChecking;
  readonly out?: string;
  readonly limit?: number;
}

/** Probabilities that the table shows before it refers to --format json and --out. */
const SHOWN = 20;

export function predictCommand(): Command {
  const command = new Command('predict')
    .description('score a request')
    .addArgument(modelArgument())
    .argument(
      '<request>',
      'a request (safetensors, JSON, JSON Lines), or Criteo rows (text with tabs or commas); text also gzipped',
    );
  return withCategories(withModel(withDevice(command)))
    .addOption(precisionOption())
    .addOption(planOption())
    .addOption(indexCheckingOption())
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
  const inputs = { model: modelFile, files: [requestFile, options.vocabulary, options.plan] };
  await checkOutputs([{ option: '--out', file: options.out }], inputs);
  const plan = await resolvePlan(options.plan);
  // Before a model of any size is loaded for it.
  await expectKind(requestFile, 'request');
  progress(`reading ${basename(modelFile)}`);
  const { architecture } = await loadArchitecture(modelFile, architectureOverrides(options));
  progress(`reading ${basename(requestFile)}`);
  const { request, notes } = await readRequestFile(requestFile, architecture, {
    ...categoriesOf(options),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
  });
  for (const note of notes) notice(note);
  await using model = await placeModel(architecture, request, plan, options);
  progress(`scoring ${formatCount(request.batchSize)} samples`);
  const prediction = await fromFile(requestFile, () => model.predict(request, { stages: true }));
  progress('');
  const { badIndices, badOffsets, first } = prediction.findings;
  if (first !== undefined) {
    notice(
      `warning: ${badIndices} bad indices read row 0, ${badOffsets} bad offsets were clamped; first: ${first.message}`,
    );
  }
  if (options.out !== undefined) {
    const { probabilities, logits } = prediction;
    const column = (data: Float32Array): HostTensor => ({
      dtype: 'float32',
      shape: [request.batchSize, 1],
      data,
    });
    const columns = new Map([['probability', column(probabilities)]]);
    if (logits !== undefined) columns.set('logit', column(logits));
    await writeSafetensors(options.out, columns);
  }
  if (options.format === 'json') printJson(asJson(modelFile, model, request, prediction));
  else printPrediction(model, request, prediction);
}

/** Opens the device and places the model, under the saved plan that fits this request best where none is given. */
async function placeModel(
  architecture: DlrmArchitecture,
  request: DlrmRequest,
  plan: PlanChoice | undefined,
  { indexChecking, precision, ...device }: Options,
): Promise<DlrmModel> {
  const { backend } = openDevice(device);
  try {
    const context = { device: backend.device, tables: architecture.tables };
    const plans = plan === undefined ? (await savedPlans(context)).plans : [];
    return await DlrmModel.create(backend, architecture, {
      closesBackend: true,
      indexChecking,
      onProgress: progress,
      ...(plan === undefined ? {} : { plan }),
      ...(precision === undefined ? {} : { precision }),
      ...(plans.length > 1 ? { traffic: planTrafficOf(request, architecture.tables) } : {}),
    });
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}

function asJson(
  model: string,
  { device, precision, plan, planSource, placement, architecture }: DlrmModel,
  { batchSize }: DlrmRequest,
  prediction: StagedPrediction,
) {
  const { probabilities, logits, latencyMs, stages, findings } = prediction;
  return {
    model,
    device: device.id,
    precision,
    plan: planLabel(plan),
    planSource,
    placement: placementLabel(placement),
    notes: architecture.notes ?? [],
    batchSize,
    probabilities: Array.from(probabilities),
    ...(logits === undefined ? {} : { logits: Array.from(logits) }),
    latencyMs,
    stages,
    badIndices: findings.badIndices,
    badOffsets: findings.badOffsets,
  };
}

function printPrediction(
  { device, precision, plan, planSource, placement, notes, architecture }: DlrmModel,
  { batchSize }: DlrmRequest,
  prediction: StagedPrediction,
): void {
  const { probabilities, logits, latencyMs, stages } = prediction;
  for (const note of architecture.notes ?? []) printLine(`model   ${printable(note, NOTE_CHARACTERS)}`);
  const { id, name, threads } = device;
  printLine(printable(`device  ${id}: ${name}, ${device.architecture}, ${threads} threads`));
  printLine(`dense   ${precision}`);
  printLine(printable(`plan    ${planLabel(plan)} (${planSource})`, NOTE_CHARACTERS));
  for (const note of notes) printLine(`        ${printable(note, NOTE_CHARACTERS)}`);
  printLine(`rows    ${placementLabel(placement)}`);
  printLine(
    `scored  ${batchSize} samples in ${formatMs(latencyMs)} ms (embedding ${formatMs(stages.embeddingMs)} ms)`,
  );
  if (batchSize === 0) return;
  printLine();
  const rows = Array.from(probabilities.subarray(0, SHOWN), (probability, i) => [
    String(i),
    probability.toFixed(6),
    ...(logits === undefined ? [] : [at(logits, i).toFixed(6)]),
  ]);
  const heads = ['sample', 'probability', ...(logits === undefined ? [] : ['logit'])];
  printLine(
    renderTable(
      heads.map((title) => ({ title })),
      rows,
    ),
  );
  if (batchSize > SHOWN) printLine(`… ${batchSize - SHOWN} more: --format json or --out FILE gives all`);
}
