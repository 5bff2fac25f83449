import { basename, dirname, relative, resolve, sep } from 'node:path';
import { Command } from 'commander';
import { at } from '../../at.ts';
import { kindOf } from '../../dense/blocks.ts';
import { type EmbeddingTable, rowBytes } from '../../embedding/bag.ts';
import { distinctTables, tableNumbers } from '../../embedding/shared-tables.ts';
import {
  bottomWidth,
  type DlrmArchitecture,
  type LinearLayer,
  type ModelArchitecture,
} from '../../model/architecture.ts';
import { describeModel } from '../../model/description/describe-model.ts';
import type { FoundDescription } from '../../model/description/description.ts';

import { blocksOf, headOf } from '../../model/head.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import { writeOutputFile } from '../../output-file.ts';
import { printable } from '../../text.ts';
import { checkOutputs } from '../check-outputs.ts';
import { interrupted } from '../interrupt.ts';
import {
  architectureOverrides,
  formatOption,
  type ModelOptions,
  modelArgument,
  withModel,
} from '../options.ts';
import {
  type Format,
  formatBytes,
  formatCount,
  NOTE_CHARACTERS,
  notice,
  printJson,
  printLine,
  progress,
  renderTable,
} from '../print.ts';

interface Options extends ModelOptions {
  readonly format: Format;
  readonly writeDescription?: string;
}

export function inspectCommand(): Command {
  const command = new Command('inspect')
    .description('a model: its architecture, its tables, and the memory it needs')
    .addArgument(modelArgument());
  return withModel(command)
    .option(
      '--write-description <file>',
      'write what was inferred as a model description, each guess marked as one',
    )
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Examples:
  hotrow inspect dlrm.safetensors
  hotrow inspect dlrm.safetensors --write-description dlrm.hotrow.json`,
    )
    .action(async (model: string, options: Options) => {
      const { writeDescription: file } = options;
      await checkOutputs([{ option: '--write-description', file, isNew: true }], { model });
      const guesses: Record<string, string> = {};
      progress(`reading ${basename(model)}`);
      const { architecture, description } = await loadArchitecture(
        model,
        {
          ...architectureOverrides(options),
          ...(file === undefined ? {} : { guesses }),
        },
        interrupted,
      );
      progress('');
      if (file !== undefined) await writeDescription(file, model, { architecture, description, guesses });
      const summary = summarise(model, architecture);
      if (options.format === 'json') printJson(summary);
      else printSummary(summary);
    });
}

type Summary = ReturnType<typeof summarise>;

interface Inferred {
  readonly architecture: ModelArchitecture;
  readonly description: FoundDescription | undefined;
  readonly guesses: Readonly<Record<string, string>>;
}

/** @throws UsageError FILE_UNWRITABLE, also for a file that is there: a description is people's work. */
async function writeDescription(
  file: string,
  model: string,
  { architecture, description, guesses }: Inferred,
): Promise<void> {
  const checkpoint = description?.checkpoint ?? resolve(model);
  const described = describeModel(architecture, {
    checkpoint: relative(dirname(resolve(file)), checkpoint)
      .split(sep)
      .join('/'),
    guesses,
    ...(description === undefined ? {} : { given: description.description }),
  });
  await writeOutputFile(file, `${JSON.stringify(described, null, 2)}\n`, { isNew: true });
  const marked = Object.entries(described.guesses ?? {});
  notice(`wrote ${file}${marked.length === 0 ? '' : `; guessed, to be confirmed in it:`}`);
  for (const [member, why] of marked) notice(`  ${member}: ${why}`);
}

function summarise(model: string, architecture: ModelArchitecture) {
  const { naming, denseFeatures, tableOrder, notes = [] } = architecture;
  const distinct = distinctTables(architecture.tables);
  const numbers = tableNumbers(architecture.tables);
  const tables = architecture.tables.map((table, t) => ({
    name: table.name,
    ...sharing(table, distinct[at(numbers, t)]),
    rows: table.rows,
    dim: table.dim,
    rowFormat: table.rowFormat,
    mode: table.mode,
    learnedPoolingWeights: table.rowWeights !== undefined,
    bytes: table.rows * rowBytes(table),
  }));
  const denseParameters = blocksOf(architecture).blocks.reduce(
    (sum, block) => sum + kindOf(block).parameters(block),
    0,
  );
  const tableBytes = distinct.reduce((sum, table) => sum + table.rows * rowBytes(table), 0);
  const denseBytes = denseParameters * 4;
  return {
    model,
    naming,
    denseFeatures,
    ...summariseHead(architecture),
    tableOrder: tableOrder?.source ?? 'unknown',
    notes,
    tables,
    parameters: distinct.reduce((sum, table) => sum + table.rows * table.dim, 0) + denseParameters,
    bytes: { tables: tableBytes, dense: denseBytes, total: tableBytes + denseBytes },
  };
}

/** What is said of the head: of a DLRM its parts, of other models all blocks. */
function summariseHead(architecture: ModelArchitecture) {
  if ('blocks' in architecture) {
    const { blocks, outputs, answer } = headOf(architecture);
    return {
      blocks: blocks.map(({ block, vectors, output }) => ({
        name: block.name,
        kind: block.kind,
        inputs: block.inputs,
        width: output.width,
        what: kindOf(block).title(block, vectors),
      })),
      outputs: outputs.map(({ name, width }) => ({ name, width })),
      ...(answer === 'probabilities' ? { output: architecture.output ?? 'probability' } : {}),
    };
  }
  const { denseFeatures, bottom, top, output = 'probability' } = architecture;
  return {
    bottom: widths(denseFeatures, bottom),
    interaction: describeInteraction(architecture),
    interactionWidth: top[0]?.inputs ?? 0,
    top: widths(top[0]?.inputs ?? 0, top),
    output,
  };
}

/** The table's first feature, where that is another. */
function sharing(table: EmbeddingTable, first: EmbeddingTable | undefined): { sharesTableOf?: string } {
  return first === undefined || first === table ? {} : { sharesTableOf: first.name };
}

function widths(inputs: number, layers: readonly LinearLayer[]): number[] {
  return [inputs, ...layers.map((layer) => layer.outputs)];
}

function describeInteraction(architecture: DlrmArchitecture): string {
  const { interaction, tables } = architecture;
  if (interaction.kind === 'cat') return 'cat';
  const vectors = [bottomWidth(architecture), ...tables.map(({ dim }) => dim)];
  return kindOf(interaction).title(interaction, vectors);
}

const NAMING_TITLES: Readonly<Record<ModelArchitecture['naming'], string>> = {
  dlrm: 'facebookresearch/dlrm',
  torchrec: 'TorchRec',
  hotrow: "Hotrow's own, or described",
  synthetic: 'synthetic',
};

/** The head, line by line. */
function headLines(head: ReturnType<typeof summariseHead>): (readonly [string, string])[] {
  if (head.bottom !== undefined)
    return [
      ['bottom MLP', head.bottom.join(' → ')],
      ['interaction', head.interaction],
      ['top MLP', head.top.join(' → ')],
      ['output', head.output],
    ];
  const { blocks, outputs, output } = head;
  return [
    ...blocks.map(({ name, inputs, what }) => [name, `${what}, of ${inputs.join(', ')}`] as const),
    [
      outputs.length === 1 ? 'output' : 'outputs',
      output ?? outputs.map(({ name, width }) => `${name} [B, ${width}]`).join(', '),
    ],
  ];
}

function printSummary(summary: Summary): void {
  const { model, naming, tables, parameters, bytes, notes } = summary;
  printLine(`${printable(model)}: ${NAMING_TITLES[naming]} parameter names`);
  for (const note of notes) printLine(`note: ${printable(note, NOTE_CHARACTERS)}`);
  printLine();
  for (const [title, text] of headLines(summary)) printLine(printable(`${title.padEnd(13)} ${text}`));
  const count = tables.filter(({ sharesTableOf }) => sharesTableOf === undefined).length;
  const features = count < tables.length ? ` of ${tables.length} features` : '';
  printLine(`tables        ${count}${features}, ${formatBytes(bytes.tables)}; order: ${summary.tableOrder}`);
  printLine(`parameters    ${formatCount(parameters)}`);
  printLine(`on a device   ${formatBytes(bytes.total)} of weights (${formatBytes(bytes.dense)} dense)`);
  printLine();
  printLine(
    renderTable(
      [
        { title: 'table', left: true },
        { title: 'rows' },
        { title: 'dim' },
        { title: 'rows are', left: true },
        { title: 'pooling', left: true },
        { title: 'bytes' },
      ],
      tables.map(
        ({ name, sharesTableOf, rows, dim, rowFormat, mode, learnedPoolingWeights, bytes: size }) => [
          name,
          formatCount(rows),
          String(dim),
          rowFormat,
          learnedPoolingWeights ? `${mode}, learned weights` : mode,
          sharesTableOf === undefined ? formatBytes(size) : `in ${sharesTableOf}`,
        ],
      ),
    ),
  );
}
