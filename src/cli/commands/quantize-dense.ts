/** `hotrow quantize --dense`: dense layers in 8 bits, chosen on requests. */
import { basename } from 'node:path';
import { type Command, Option } from 'commander';
import { openDevice } from '../../backend/open-backend.ts';
import { WEIGHT_SCALES, type WeightScales } from '../../backend/scaled-weight.ts';
import { type Calibration, calibrate } from '../../calibrate/calibrate.ts';
import { INPUT_SCALES, type InputScales } from '../../calibrate/scales.ts';
import { fromFile, UsageError } from '../../errors.ts';
import { expectKind } from '../../formats/file-kind.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { digits } from '../../numbers.ts';
import type { Tensor } from '../../tensor.ts';
import { readRequestFile } from '../../workload/request-file.ts';
import { type Samples, samplesOf } from '../../workload/traffic/samples.ts';
import { categoriesOf, withCategories } from '../category-options.ts';
import { interrupted } from '../interrupt.ts';
import { integer, percentage, withDevice } from '../options.ts';
import { notice, printLine, progress, renderTable } from '../print.ts';

export interface DenseOptions {
  readonly dense?: 'float8_e4m3';
  readonly calibrate?: readonly string[];
  /** A share. */
  readonly maxLoss: number;
  readonly inputScales: InputScales;
  readonly weightScales: WeightScales;
  readonly batchSize: number;
  readonly limit?: number;
  readonly device: string;
  readonly threads?: number;
  readonly vocabulary?: string;
  readonly hash?: boolean;
  readonly unknownRow?: number;
  readonly densePreprocessing?: NonNullable<Parameters<typeof categoriesOf>[0]['dense']>;
}

/** The options of dense layers. */
export function withDense(command: Command): Command {
  command
    .addOption(
      new Option('--dense <format>', 'in which dense layers are to multiply, with --calibrate').choices([
        'float8_e4m3',
      ]),
    )
    .option('--calibrate <files...>', 'requests, as `hotrow predict` takes them, on which layers are chosen')
    .option(
      '--max-loss <percent>',
      'by how much of itself the log loss may rise, labels being as the float32 model has them',
      percentage,
      0.001,
    )
    .addOption(
      new Option('--input-scales <scales>', "of a layer's inputs: one for the tensor, or one for each row")
        .choices(INPUT_SCALES)
        .default('tensor'),
    )
    .addOption(
      new Option(
        '--weight-scales <scales>',
        "of a layer's weight: one for the tensor, or one for each output",
      )
        .choices(WEIGHT_SCALES)
        .default('tensor'),
    )
    .option('--batch-size <n>', 'samples at once, at most', integer(1), 2048)
    .option('--limit <n>', 'calibrate with the first rows of a Criteo file only', integer(1));
  return withCategories(withDevice(command), '--dense-preprocessing');
}

/** @throws UsageError USAGE for one without the other. */
export function requireDense({ dense, calibrate: files }: DenseOptions): void {
  if ((dense === undefined) === (files === undefined)) return;
  throw new UsageError(
    'USAGE',
    dense === undefined ? '--calibrate is of --dense' : `--dense ${dense} needs --calibrate`,
    {
      hint: 'hotrow quantize MODEL --dense float8_e4m3 --calibrate REQUESTS --out FILE',
    },
  );
}

/** A calibration, with the layers' parameters by their names in the checkpoint. */
export interface NamedCalibration extends Calibration {
  readonly parameters: ReadonlyMap<Tensor, string>;
}

/** Calibrates a model; undefined where that was not asked for. */
export async function calibrated(
  architecture: ModelArchitecture,
  parameters: ReadonlyMap<Tensor, string>,
  options: DenseOptions,
): Promise<NamedCalibration | undefined> {
  const { calibrate: files, maxLoss, inputScales, weightScales, batchSize, device, threads } = options;
  if (files === undefined) return undefined;
  for (const file of files) await expectKind(file, 'request');
  const requests = await readSamples(architecture, files, options);
  const { backend } = openDevice({ device, ...(threads === undefined ? {} : { threads }) });
  await using _backend = backend;
  const calibration = await calibrate({
    ...{ backend, architecture, requests, mostLoss: maxLoss, inputScales, weightScales, batchSize },
    onProgress: progress,
    signal: interrupted,
  });
  return { ...calibration, parameters };
}

async function readSamples(
  architecture: ModelArchitecture,
  files: readonly string[],
  options: DenseOptions,
): Promise<Samples[]> {
  const { limit, densePreprocessing, vocabulary, hash, unknownRow } = options;
  const categories = categoriesOf({
    ...(vocabulary === undefined ? {} : { vocabulary }),
    ...(hash === undefined ? {} : { hash }),
    ...(unknownRow === undefined ? {} : { unknownRow }),
    ...(densePreprocessing === undefined ? {} : { dense: densePreprocessing }),
  });
  const requests: Samples[] = [];
  for (const file of files) {
    progress(`reading ${basename(file)}`);
    const read = await readRequestFile(file, architecture, {
      ...categories,
      ...(limit === undefined ? {} : { limit }),
    });
    for (const note of read.notes) notice(note);
    const samples = await fromFile(file, async () => samplesOf(read.request, architecture));
    if (samples.count > 0) requests.push(samples);
  }
  return requests;
}

/** What was chosen, as JSON. */
export function calibrationJson({ layers, loss, samples, parameters }: NamedCalibration, maxLoss: number) {
  return {
    format: 'float8_e4m3',
    samples,
    maxLoss,
    loss,
    layers: layers.map(({ name, weight, inputs, outputs, chosen, loss: alone, inputsReach, inputScale }) => ({
      parameter: parameters.get(weight) ?? name,
      ...{ inputs, outputs, inputsReach },
      chosen: chosen !== undefined,
      ...(alone === undefined ? {} : { loss: alone }),
      ...(inputScale === undefined ? {} : { inputScale }),
    })),
  };
}

/** A share of the log loss, as people read it. */
const share = (loss: number) => `${digits(100 * loss)} %`;

export function printCalibration(calibration: NamedCalibration, maxLoss: number): void {
  const { layers, loss, samples, parameters } = calibration;
  const chosen = layers.filter((layer) => layer.chosen !== undefined);
  const products = (of: typeof layers) => of.reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0);
  printLine(
    `dense layers: ${chosen.length} of ${layers.length} in float8_e4m3, ${digits((100 * products(chosen)) / products(layers))} % of the multiply-adds`,
  );
  printLine(
    `log loss rises by ${share(loss)} together, at most ${share(maxLoss)} were allowed (${samples.toLocaleString('en-US')} samples)`,
  );
  printLine();
  printLine(
    renderTable(
      [
        { title: 'layer', left: true },
        { title: 'inputs' },
        { title: 'outputs' },
        { title: 'multiplies in', left: true },
        { title: 'loss alone' },
        { title: 'inputs reach' },
        { title: 'input scale' },
      ],
      layers.map(({ name, weight, inputs, outputs, chosen: own, loss: alone, inputsReach, inputScale }) => [
        parameters.get(weight) ?? name,
        String(inputs),
        String(outputs),
        own === undefined ? 'float16' : 'float8_e4m3',
        alone === undefined ? 'too narrow' : share(alone),
        digits(inputsReach),
        own === undefined ? '–' : inputScale === undefined ? 'each row' : digits(inputScale),
      ]),
    ),
  );
}
