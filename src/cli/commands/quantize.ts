import { basename } from 'node:path';
import { Command, Option } from 'commander';
import type { EmbeddingTable } from '../../embedding/bag.ts';
import { relativeRmsError } from '../../embedding/quantize.ts';
import { ROW_FORMATS, type RowFormat } from '../../embedding/row-format.ts';
import { fromFile, UsageError, unwritable } from '../../errors.ts';
import { openFile } from '../../input-file.ts';
import { modelNotes } from '../../model/architecture.ts';
import { lossWarnings } from '../../model/checkpoint/quantization-loss.ts';
import { type QuantizedTable, quantizeCheckpoint } from '../../model/checkpoint/quantize-checkpoint.ts';
import { DESCRIPTION_SUFFIX, type FoundDescription } from '../../model/description/description.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import { checkOutputFile, writeOutputFile } from '../../output-file.ts';
import type { Tensor } from '../../tensor.ts';
import { printable } from '../../text.ts';
import { checkOutputs } from '../check-outputs.ts';
import { interrupted } from '../interrupt.ts';
import {
  architectureOverrides,
  formatOption,
  type ModelOptions,
  modelArgument,
  percentage,
  withModel,
} from '../options.ts';
import {
  type Format,
  formatBytes,
  formatCount,
  notice,
  printJson,
  printLine,
  progress,
  renderTable,
} from '../print.ts';
import {
  calibrated,
  calibrationJson,
  type DenseOptions,
  printCalibration,
  requireDense,
  withDense,
} from './quantize-dense.ts';

interface Options extends ModelOptions, DenseOptions {
  readonly rows?: RowFormat;
  readonly out: string;
  readonly tables?: string;
  /** A share. */
  readonly warnAbove?: number;
  readonly format: Format;
}

export function quantizeCommand(): Command {
  const command = new Command('quantize')
    .description(
      "convert a checkpoint's tables to another row format, its dense layers to 8 bits, and say what it costs in accuracy",
    )
    .addArgument(modelArgument());
  return withDense(withModel(command))
    .addOption(new Option('--rows <format>', 'how rows are to be stored').choices(ROW_FORMATS))
    .requiredOption('--out <file>', 'the checkpoint to write, .safetensors')
    .option('--tables <list>', 'tables by number or name: 0,3-5,emb_l.7 (default: all)')
    .option(
      '--warn-above <percent>',
      'warn of tables that lose more, as relative RMS error (default: by format)',
      percentage,
    )
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Examples:
  hotrow quantize dlrm.pt --rows int8 --out dlrm-int8.safetensors
  hotrow quantize dlrm.safetensors --rows int4 --tables 0,9-11 --out mixed.safetensors
  hotrow quantize dlrm.pt --dense float8_e4m3 --calibrate traffic/*.safetensors --out dlrm-8bit.safetensors`,
    )
    .action(run);
}

async function run(model: string, options: Options): Promise<void> {
  const { rows, out, tables, warnAbove, format, maxLoss } = options;
  requireDense(options);
  if (rows === undefined && options.dense === undefined)
    throw new UsageError('USAGE', 'nothing is to be converted', { hint: 'give --rows, --dense, or both' });
  const files = [...(options.calibrate ?? []), options.vocabulary];
  await checkOutputs([{ option: '--out', file: out }], { model, files });
  progress(`reading ${basename(model)}`);
  const { tensors, architecture, description } = await loadArchitecture(
    model,
    architectureOverrides(options),
    interrupted,
  );
  const described = description === undefined ? undefined : await describedOutput(out, description);
  const all = tables === undefined ? architecture.tables : chooseTables(architecture.tables, tables);
  const parameters = new Map<Tensor, string>([...tensors].map(([name, tensor]) => [tensor, name]));
  const calibration = await calibrated(architecture, parameters, options);
  const layers = new Map(
    calibration?.layers.flatMap(({ weight, chosen }) =>
      chosen === undefined ? [] : [[parameters.get(weight) as string, chosen] as const],
    ),
  );
  const converted = await fromFile(model, () =>
    quantizeCheckpoint({
      tensors,
      ...(rows === undefined ? {} : { tables: all, rows }),
      layers,
      out,
      onProgress: progress,
      signal: interrupted,
      ...(architecture.tableOrder === undefined ? {} : { tableOrder: architecture.tableOrder.names }),
    }),
  );
  progress('');
  for (const note of modelNotes(architecture)) notice(note);
  if (described !== undefined) await writeDescription(described);
  const told = converted.map((table) => ({ ...table, warnings: lossWarnings(table, warnAbove) }));
  if (format === 'json') {
    const dense = calibration === undefined ? {} : { dense: calibrationJson(calibration, maxLoss) };
    printJson({ model, out, ...(rows === undefined ? {} : { rows }), tables: told.map(asJson), ...dense });
  } else {
    if (rows !== undefined) printConverted(out, told);
    if (rows !== undefined && calibration !== undefined) printLine();
    if (calibration !== undefined) printCalibration(calibration, maxLoss);
  }
  for (const warning of told.flatMap(({ warnings }) => warnings)) notice(`warning: ${warning}`);
}

interface DescribedOutput {
  readonly file: string;
  readonly text: string;
  /** Whether it lies there already. */
  readonly isThere: boolean;
}

/** What a file holds; undefined where there is none that can be read. */
async function textOf(file: string): Promise<string | undefined> {
  await using opened = await openFile(file).catch(() => undefined);
  return (await opened?.readAll())?.toString('utf8');
}

/**
 * The description that will lie beside `out`: names stand without a prefix there.
 * @throws UsageError FILE_UNWRITABLE, also where another one lies there: a description is people's work.
 */
async function describedOutput(out: string, { description }: FoundDescription): Promise<DescribedOutput> {
  const { prefix: _, ...rest } = description;
  const file = `${out.replace(/\.[^./]*$/, '')}${DESCRIPTION_SUFFIX}`;
  const text = `${JSON.stringify({ ...rest, checkpoint: basename(out) }, null, 2)}\n`;
  const there = await textOf(file);
  if (there === text) return { file, text, isThere: true };
  if (there === undefined) {
    await checkOutputFile(file, { isNew: true });
    return { file, text, isThere: false };
  }
  throw unwritable(file, undefined, {
    why: `it is there already, and would describe ${out}`,
    hint: 'name another file with --out, or take the description away first',
  });
}

async function writeDescription({ file, text, isThere }: DescribedOutput): Promise<void> {
  if (!isThere) await writeOutputFile(file, text, { isNew: true });
  notice(`wrote ${file}, the model's description`);
}

/** @throws UsageError USAGE for a table that is not there. */
export function chooseTables(tables: readonly EmbeddingTable[], list: string): EmbeddingTable[] {
  const chosen = new Set<EmbeddingTable>();
  for (const part of list.split(',').map((text) => text.trim())) {
    const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    const found =
      first === undefined
        ? tables.filter(({ name }) => name === part || `${name}.weight` === part)
        : tables.slice(Number(first), Number(last ?? first) + 1);
    const missing = first !== undefined && Number(last ?? first) >= tables.length;
    if (found.length === 0 || missing) {
      throw new UsageError('USAGE', `--tables ${part}: the model has no such table`, {
        hint: `its ${tables.length} tables are 0 to ${tables.length - 1}, ${tables[0]?.name} to ${tables.at(-1)?.name}`,
      });
    }
    for (const table of found) chosen.add(table);
  }
  return tables.filter((table) => chosen.has(table));
}

interface ToldTable extends QuantizedTable {
  readonly warnings: readonly string[];
}

function asJson({ error, ...table }: ToldTable) {
  const { maxAbsolute, saturated } = error;
  return { ...table, maxAbsoluteError: maxAbsolute, relativeRmsError: relativeRmsError(error), saturated };
}

function printConverted(out: string, tables: readonly QuantizedTable[]): void {
  const total = (key: 'bytesBefore' | 'bytesAfter') => tables.reduce((sum, table) => sum + table[key], 0);
  printLine(
    `${printable(out)}: ${tables.length} tables, ${formatBytes(total('bytesBefore'))} → ${formatBytes(total('bytesAfter'))}`,
  );
  printLine();
  printLine(
    renderTable(
      [
        { title: 'table', left: true },
        { title: 'rows' },
        { title: 'dim' },
        { title: 'rows are', left: true },
        { title: 'bytes' },
        { title: 'max error' },
        { title: 'RMS error' },
      ],
      tables.map(({ name, rows, dim, from, to, bytesAfter, error }) => [
        name,
        formatCount(rows),
        String(dim),
        `${from} → ${to}`,
        formatBytes(bytesAfter),
        error.maxAbsolute.toExponential(1),
        `${(100 * relativeRmsError(error)).toFixed(2)} %`,
      ]),
    ),
  );
}
