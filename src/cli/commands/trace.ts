import { Command } from 'commander';
import { throwIfAborted } from '../../checks/abort.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import { printable } from '../../text.ts';
import { type Hotness, measureHotness, nearestPattern } from '../../workload/hotness.ts';
import { trafficSources } from '../../workload/traffic/sources.ts';
import { type TableLookups, tableLookups } from '../../workload/traffic/table-lookups.ts';
import { type CategoryOptions, categoriesOf, withCategories } from '../category-options.ts';
import { interrupted } from '../interrupt.ts';
import { architectureOverrides, formatOption, integer, type ModelOptions, withModel } from '../options.ts';
import {
  type Format,
  formatCount,
  formatPercent,
  NOTE_CHARACTERS,
  printJson,
  printLine,
  progress,
  renderTable,
} from '../print.ts';

interface Options extends CategoryOptions, ModelOptions {
  readonly format: Format;
  readonly model?: string;
  readonly rows?: number;
  readonly limit: number;
}

/** Tables of some traffic that the table shows; JSON has all. */
const SHOWN_TABLES = 30;
/** Samples of requests; day files of Criteo's have two hundred times as many. */
const SAMPLES = 1_000_000;

interface TableReport extends Hotness {
  readonly table: number;
  readonly name?: string;
  readonly rows?: number;
  /** −1: none was looked up. */
  readonly highestRow: number;
  readonly nearestPattern?: string;
  readonly nearestDistance?: number;
}

interface TrafficReport {
  readonly file: string;
  readonly format: string;
  readonly tables: readonly TableReport[];
  readonly notes: readonly string[];
}

export function traceCommand(): Command {
  const command = new Command('trace')
    .description(
      'how hot traffic is, by table: distinct rows, coverage of the hottest, reuse, nearest access pattern',
    )
    .argument(
      '<traffic...>',
      'traces (one row index a line), dlrm_datasets, requests, folders of requests, Criteo rows; TABLE=FILE: a trace each; also gzipped',
    )
    .option('--model <model>', 'whose traffic it is: names and rows of tables, and which rows ids are');
  return withCategories(withModel(command))
    .option(
      '--rows <n>',
      "the table's rows, for the nearest pattern (default: the model's, else the highest row + 1)",
      integer(1),
    )
    .option('--limit <n>', 'samples of requests to read', integer(1), SAMPLES)
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Examples:
  hotrow trace lookups.txt --rows 500000
  hotrow trace day_0 --model dlrm.pt --hash
  hotrow trace ads=ads.txt users=users.txt --model dlrm.pt`,
    )
    .action(trace);
}

async function trace(files: readonly string[], options: Options): Promise<void> {
  const { model: modelFile, limit, format } = options;
  const sources = await trafficSources(files);
  const model =
    modelFile === undefined
      ? {}
      : {
          model: (await loadArchitecture(modelFile, architectureOverrides(options), interrupted))
            .architecture,
        };
  const reports: TrafficReport[] = [];
  for (const source of sources) {
    progress(`reading ${source.name}`);
    throwIfAborted(interrupted, 'trace');
    const { tables, ...rest } = await tableLookups(source, { ...categoriesOf(options), ...model, limit });
    const measured = tables.map((table) => {
      progress(`${source.name}: table ${table.table} of ${tables.length}`);
      return reportOf(table, options);
    });
    reports.push({ file: source.path, ...rest, tables: measured });
  }
  progress('');
  const [only] = reports as [TrafficReport];
  if (format === 'json') return printJson(reports.length === 1 ? only : reports);
  for (const [i, report] of reports.entries()) {
    if (i > 0) printLine();
    printTraffic(report);
  }
}

function reportOf({ indices = new Int32Array(), ...table }: TableLookups, { rows }: Options): TableReport {
  let highestRow = -1;
  for (let i = 0; i < indices.length; i++) highestRow = Math.max(highestRow, indices[i] as number);
  const report = { ...table, highestRow, ...measureHotness(indices) };
  if (indices.length === 0) return report;
  const nearest = nearestPattern(indices, rows ?? table.rows ?? highestRow + 1);
  return { ...report, nearestPattern: nearest.pattern, nearestDistance: nearest.distance };
}

function printTraffic({ file, tables, notes }: TrafficReport): void {
  const [first] = tables;
  if (tables.length === 1 && first !== undefined) printTable(file, first);
  else printTables(file, tables);
  for (const note of notes) printLine(`note: ${printable(note, NOTE_CHARACTERS)}`);
}

function printTable(file: string, report: TableReport): void {
  printLine(printable(file));
  if (report.name !== undefined) printLine(`table            ${report.table} (${printable(report.name)})`);
  printLine(`lookups          ${formatCount(report.lookups)}`);
  printLine(
    `distinct rows    ${formatCount(report.distinct)} (${formatPercent(report.distinctShare)} of the lookups)`,
  );
  if (report.lookups === 0) return;
  printLine(`highest row      ${formatCount(report.highestRow)}`);
  printLine(
    `nearest pattern  ${report.nearestPattern} (off by ${formatPercent(report.nearestDistance ?? 0)} on average)`,
  );
  printLine();
  printLine(
    renderTable(
      [{ title: 'hottest rows' }, { title: 'cover' }],
      report.coverage.map(({ k, share }) => [formatCount(k), formatPercent(share, 2)]),
    ),
  );
  printLine();
  printLine(
    renderTable(
      [{ title: 'looked up' }, { title: 'rows' }, { title: 'share of rows' }],
      report.reuse.map(({ from, to, rows }) => [
        from === to ? `${from}×` : `${from}–${to}×`,
        formatCount(rows),
        formatPercent(report.distinct === 0 ? 0 : rows / report.distinct),
      ]),
    ),
  );
}

function printTables(file: string, reports: readonly TableReport[]): void {
  printLine(`${printable(file)}: ${reports.length} tables`);
  printLine();
  const isNamed = reports.some(({ name, table }) => name !== undefined && name !== String(table));
  printLine(
    renderTable(
      [
        { title: 'table' },
        ...(isNamed ? [{ title: 'name', left: true }] : []),
        { title: 'lookups' },
        { title: 'distinct' },
        { title: 'share' },
        { title: 'top 1,000' },
        { title: 'nearest pattern', left: true },
      ],
      reports
        .slice(0, SHOWN_TABLES)
        .map((report) => [
          String(report.table),
          ...(isNamed ? [report.name ?? ''] : []),
          formatCount(report.lookups),
          formatCount(report.distinct),
          formatPercent(report.distinctShare),
          formatPercent(report.coverage.find(({ k }) => k === 1_000)?.share ?? 0),
          report.nearestPattern ?? '–',
        ]),
    ),
  );
  if (reports.length > SHOWN_TABLES)
    printLine(`… ${reports.length - SHOWN_TABLES} more: --format json gives all`);
}
