import { basename } from 'node:path';
import { Command } from 'commander';
import { at } from '../../at.ts';
import { openDevice } from '../../backend/open-backend.ts';
import { throwIfAborted } from '../../checks/abort.ts';
import type { DensePrecision } from '../../device.ts';
import type { IndexChecking } from '../../embedding/bag.ts';
import { fromFile } from '../../errors.ts';
import { expectKind } from '../../formats/file-kind.ts';
import { writeSafetensors } from '../../formats/safetensors.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { DlrmModel } from '../../model/dlrm.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import { namedOutputs, outputArrays, type StagedPrediction } from '../../model/prediction.ts';
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
import { interrupted } from '../interrupt.ts';
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

/** Samples that the table shows before it refers to --format json and --out. */
const SHOWN = 20;
/** Columns, the same. */
const SHOWN_COLUMNS = 8;

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
    .option(
      '--out <file>',
      'also write `probability` [B, 1] to a safetensors file; of other models `pooled`, or each output by its name',
    )
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
  const { architecture } = await loadArchitecture(modelFile, architectureOverrides(options), interrupted);
  progress(`reading ${basename(requestFile)}`);
  const { request, notes } = await readRequestFile(requestFile, architecture, {
    ...categoriesOf(options),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
  });
  for (const note of notes) notice(note);
  await using model = await placeModel(architecture, request, plan, options);
  progress(`scoring ${formatCount(request.batchSize)} samples`);
  const prediction = await fromFile(requestFile, () => model.predict(request, { stages: true }));
  throwIfAborted(interrupted, 'predict');
  progress('');
  const { badIndices, badOffsets, first } = prediction.findings;
  if (first !== undefined) {
    notice(
      `warning: ${badIndices} bad indices read row 0, ${badOffsets} bad offsets were clamped; first: ${first.message}`,
    );
  }
  const columns = columnsOf(model, request, prediction);
  if (options.out !== undefined) await writeSafetensors(options.out, columns);
  if (options.format === 'json') printJson(asJson(modelFile, model, request, prediction, columns));
  else printPrediction(model, request, prediction, columns);
}

/** What predictions give, as `--out` names it: [batchSize, columns] each. */
type Columns = ReadonlyMap<string, HostTensor & { readonly data: Float32Array }>;

function columnsOf(
  { head, architecture }: DlrmModel,
  { batchSize }: DlrmRequest,
  prediction: StagedPrediction,
): Columns {
  const named = namedOutputs(head, architecture.output);
  const arrays = outputArrays(prediction, named);
  return new Map(
    named.map(({ name, width }, i) => [
      name,
      { dtype: 'float32', shape: [batchSize, width], data: at(arrays, i) },
    ]),
  );
}

/** Opens the device and places the model, under the saved plan that fits this request best where none is given. */
async function placeModel(
  architecture: ModelArchitecture,
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
      signal: interrupted,
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
  columns: Columns,
) {
  const { latencyMs, stages, findings } = prediction;
  return {
    model,
    device: device.id,
    precision,
    plan: planLabel(plan),
    planSource,
    placement: placementLabel(placement),
    notes: architecture.notes ?? [],
    batchSize,
    ...valuesAsJson(prediction, columns),
    latencyMs,
    stages,
    badIndices: findings.badIndices,
    badOffsets: findings.badOffsets,
  };
}

/** One number a sample as a list, several as a list of lists. */
function valuesAsJson({ outputs, pooled, logits }: StagedPrediction, columns: Columns) {
  const values = (name: string): number[] | number[][] => {
    const { data, shape } = columns.get(name) as HostTensor & { readonly data: Float32Array };
    const [rows = 0, width = 0] = shape;
    if (width === 1) return Array.from(data);
    return Array.from({ length: rows }, (_, b) => Array.from(data.subarray(b * width, (b + 1) * width)));
  };
  if (pooled !== undefined) return { pooled: values('pooled') };
  if (outputs !== undefined)
    return { outputs: Object.fromEntries(Object.keys(outputs).map((name) => [name, values(name)])) };
  return {
    probabilities: values('probability'),
    ...(logits === undefined ? {} : { logits: values('logit') }),
  };
}

function printPrediction(
  { device, precision, plan, planSource, placement, notes, architecture }: DlrmModel,
  { batchSize }: DlrmRequest,
  { latencyMs, stages }: StagedPrediction,
  columns: Columns,
): void {
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
  // One column is called as it is, several are numbered.
  const shown = [...columns].flatMap(([name, { data, shape }]) => {
    const width = at(shape, 1);
    return Array.from({ length: width }, (_, c) => ({
      title: printable(width === 1 ? name : `${name}[${c}]`),
      of: (sample: number) => at(data, sample * width + c).toFixed(6),
    }));
  });
  const first = shown.slice(0, SHOWN_COLUMNS);
  const rows = Array.from({ length: Math.min(SHOWN, batchSize) }, (_, b) => [
    String(b),
    ...first.map(({ of }) => of(b)),
  ]);
  printLine(renderTable([{ title: 'sample' }, ...first.map(({ title }) => ({ title }))], rows));
  if (shown.length > SHOWN_COLUMNS)
    printLine(`… ${shown.length - SHOWN_COLUMNS} more columns: --format json or --out FILE gives all`);
  if (batchSize > SHOWN) printLine(`… ${batchSize - SHOWN} more: --format json or --out FILE gives all`);
}
