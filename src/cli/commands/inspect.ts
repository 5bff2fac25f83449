import { Command } from 'commander';
import { type EmbeddingTable, rowBytes } from '../../embedding/bag.ts';
import { distinctTables, tableNumbers } from '../../embedding/shared-tables.ts';
import type { DlrmArchitecture, LinearLayer } from '../../model/architecture.ts';
import { bottomWidth } from '../../model/dlrm.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import {
  architectureOverrides,
  formatOption,
  type ModelOptions,
  modelArgument,
  withModel,
} from '../options.ts';
import { type Format, formatBytes, formatCount, printJson, printLine, renderTable } from '../output.ts';

interface Options extends ModelOptions {
  readonly format: Format;
}

export function inspectCommand(): Command {
  const command = new Command('inspect')
    .description('a model: its architecture, its tables, and the memory it needs')
    .addArgument(modelArgument());
  return withModel(command)
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  hotrow inspect dlrm.safetensors')
    .action(async (model: string, options: Options) => {
      const { architecture } = await loadArchitecture(model, architectureOverrides(options));
      const summary = summarise(model, architecture);
      if (options.format === 'json') printJson(summary);
      else printSummary(summary);
    });
}

type Summary = ReturnType<typeof summarise>;

function summarise(model: string, architecture: DlrmArchitecture) {
  const { naming, denseFeatures, bottom, top, interaction } = architecture;
  const distinct = distinctTables(architecture.tables);
  const numbers = tableNumbers(architecture.tables);
  const tables = architecture.tables.map((table, t) => ({
    name: table.name,
    ...sharing(table, distinct[numbers[t] as number]),
    rows: table.rows,
    dim: table.dim,
    rowFormat: table.rowFormat,
    mode: table.mode,
    learnedPoolingWeights: table.rowWeights !== undefined,
    bytes: table.rows * rowBytes(table),
  }));
  const denseParameters = [...bottom, ...top].reduce(
    (sum, layer) => sum + layer.inputs * layer.outputs + layer.outputs,
    0,
  );
  const crossParameters =
    interaction.kind === 'cross'
      ? interaction.layers.reduce((sum, { width, rank }) => sum + 2 * width * rank + width, 0)
      : 0;
  const tableBytes = distinct.reduce((sum, table) => sum + table.rows * rowBytes(table), 0);
  const denseBytes = (denseParameters + crossParameters) * 4;
  return {
    model,
    naming,
    denseFeatures,
    bottom: widths(denseFeatures, bottom),
    interaction: describeInteraction(architecture),
    interactionWidth: top[0]?.inputs ?? 0,
    top: widths(top[0]?.inputs ?? 0, top),
    tables,
    parameters:
      distinct.reduce((sum, table) => sum + table.rows * table.dim, 0) + denseParameters + crossParameters,
    bytes: { tables: tableBytes, dense: denseBytes, total: tableBytes + denseBytes },
  };
}

/** The table's first feature, where that is another. */
function sharing(table: EmbeddingTable, first: EmbeddingTable | undefined): { sharesTableOf?: string } {
  return first === undefined || first === table ? {} : { sharesTableOf: first.name };
}

function widths(inputs: number, layers: readonly LinearLayer[]): number[] {
  return [inputs, ...layers.map((layer) => layer.outputs)];
}

function describeInteraction({ interaction, tables, ...architecture }: DlrmArchitecture): string {
  const vectors = `${tables.length + 1} vectors of ${bottomWidth({ interaction, tables, ...architecture })}`;
  switch (interaction.kind) {
    case 'dot':
      return `dot of ${vectors}, ${interaction.diagonal ? `${interaction.order} triangle with the diagonal` : `strict ${interaction.order} triangle`}`;
    case 'cat':
      return 'cat';
    case 'cross':
      return `DCNv2 cross, ${interaction.layers.length} layers of rank ${interaction.layers.map((layer) => layer.rank).join(', ')}`;
    default:
      return interaction satisfies never;
  }
}

function printSummary({ model, naming, bottom, interaction, top, tables, parameters, bytes }: Summary): void {
  printLine(`${model}: ${naming === 'torchrec' ? 'TorchRec' : 'facebookresearch/dlrm'} parameter names`);
  printLine();
  printLine(`bottom MLP    ${bottom.join(' → ')}`);
  printLine(`interaction   ${interaction}`);
  printLine(`top MLP       ${top.join(' → ')}`);
  const count = tables.filter(({ sharesTableOf }) => sharesTableOf === undefined).length;
  const features = count < tables.length ? ` of ${tables.length} features` : '';
  printLine(`tables        ${count}${features}, ${formatBytes(bytes.tables)}`);
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
