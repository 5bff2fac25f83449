import { Command } from 'commander';
import { type Hotness, measureHotness, nearestPattern } from '../../workload/hotness.ts';
import { readTrace } from '../../workload/trace.ts';
import { formatOption, integer } from '../options.ts';
import { type Format, formatCount, formatPercent, printJson, printLine, renderTable } from '../output.ts';

interface Options {
  readonly format: Format;
  readonly rows?: number;
}

/** Tables of a trace that the table shows; JSON has all. */
const SHOWN_TABLES = 20;

interface StreamReport extends Hotness {
  readonly table: number;
  readonly highestRow: number;
  readonly nearestPattern: string;
  readonly nearestDistance: number;
}

export function traceCommand(): Command {
  return new Command('trace')
    .description('how hot a trace is: distinct rows, coverage of the hottest, reuse, nearest access pattern')
    .argument('<file>', 'one row index a line, or dlrm_datasets .pt; also gzipped')
    .option(
      '--rows <n>',
      "the table's rows, for the nearest pattern (default: the highest row + 1)",
      integer(1),
    )
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  hotrow trace lookups.txt --rows 500000')
    .action(async (file: string, { format, rows }: Options) => {
      const trace = await readTrace(file);
      const reports = trace.streams.map((stream, table): StreamReport => {
        let highestRow = 0;
        for (let i = 0; i < stream.length; i++) highestRow = Math.max(highestRow, Number(stream[i]));
        const nearest = nearestPattern(stream, rows ?? highestRow + 1);
        return {
          table,
          highestRow,
          ...measureHotness(stream),
          nearestPattern: nearest.pattern,
          nearestDistance: nearest.distance,
        };
      });
      if (format === 'json') return printJson({ file, format: trace.format, tables: reports });
      const [first] = reports as [StreamReport];
      if (reports.length === 1) printStream(file, first);
      else printStreams(file, reports);
    });
}

function printStream(file: string, report: StreamReport): void {
  printLine(file);
  printLine(`lookups          ${formatCount(report.lookups)}`);
  printLine(
    `distinct rows    ${formatCount(report.distinct)} (${formatPercent(report.distinctShare)} of the lookups)`,
  );
  printLine(`highest row      ${formatCount(report.highestRow)}`);
  printLine(
    `nearest pattern  ${report.nearestPattern} (off by ${formatPercent(report.nearestDistance)} on average)`,
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

function printStreams(file: string, reports: readonly StreamReport[]): void {
  printLine(`${file}: ${reports.length} tables`);
  printLine();
  printLine(
    renderTable(
      [
        { title: 'table' },
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
          formatCount(report.lookups),
          formatCount(report.distinct),
          formatPercent(report.distinctShare),
          formatPercent(report.coverage.find(({ k }) => k === 1_000)?.share ?? 0),
          report.nearestPattern,
        ]),
    ),
  );
  if (reports.length > SHOWN_TABLES)
    printLine(`… ${reports.length - SHOWN_TABLES} more: --format json gives all`);
}
