/** The figures of a characterization. */
import { unique, variantHeading } from '../bench/comparison.ts';
import {
  type Characterization,
  type CounterRow,
  groupLabel,
  type LaunchRow,
  type MeasuredGroup,
  type StaticRow,
} from '../characterize/results.ts';
import { percent, significant } from '../numbers.ts';
import { modelFigure } from './bench-figures.ts';
import { type BarChart, type Column, type Figure, number, text } from './figure.ts';

/** A chart's legend has this many entries at most; the rest is `other`. */
const MAX_PARTS = 7;

/** Every figure that the results have the data for, in reading order. */
export function characterizeFigures(results: Characterization): Figure[] {
  const { counters, launches = [], static: kernels, model = [] } = results;
  const whole = modelFigure(model);
  return [
    ...(counters.length > 0 ? counterFigures(counters) : []),
    ...(launches.length > 0 ? [launchFigure(launches)] : []),
    ...(kernels.length > 0 ? [staticFigure(kernels)] : []),
    ...instructionFigure(kernels),
    ...(whole === undefined ? [] : [whole]),
  ];
}

/** The variant, and which tables it was measured for where they were launched one by one. */
const label = ({
  variant,
  group,
}: {
  readonly variant: string;
  readonly group?: MeasuredGroup | undefined;
}) =>
  [variantHeading(variant).replaceAll(' + ', ', '), ...(group === undefined ? [] : [groupLabel(group)])].join(
    ', ',
  );

/** A column of a table, and its text on a row. */
type CellColumn<Row> = readonly [Column, (row: Row) => string];

/** A line per pattern and variant. */
function cellTable<Row extends CounterRow | LaunchRow>(
  rows: readonly Row[],
  columns: readonly CellColumn<Row>[],
): Figure['table'] {
  return {
    columns: [text('pattern'), text('variant'), ...columns.map(([column]) => column)],
    rows: rows.map((row) => [row.pattern, label(row), ...columns.map(([, cell]) => cell(row))]),
  };
}

/** What counters and events both tell of a launch. */
const LAUNCH_COLUMNS: readonly CellColumn<CounterRow | LaunchRow>[] = [
  [number('µs a launch'), (row) => significant(row.timeUs)],
  [number('tables'), (row) => String(row.tablesPerLaunch)],
];

function panelsByPattern(
  rows: readonly CounterRow[],
  bar: (row: CounterRow) => { text: string; parts: readonly number[]; target?: number },
): BarChart['panels'] {
  return unique(rows.map(({ pattern }) => pattern)).map((pattern) => ({
    title: pattern,
    bars: rows.filter((row) => row.pattern === pattern).map((row) => ({ label: label(row), ...bar(row) })),
  }));
}

function counterFigures(rows: readonly CounterRow[]): Figure[] {
  return [warpsFigure(rows), stallsFigure(rows), heatFigure(rows), limiterFigure(rows)];
}

function warpsFigure(rows: readonly CounterRow[]): Figure {
  return {
    id: 'warps',
    title: 'Warps: achieved against theoretical',
    note: 'Warps that lived on a multiprocessor, mean over its active cycles; the mark is what the occupancy calculator allows.',
    chart: {
      kind: 'bars',
      axis: 'warps per multiprocessor',
      legend: [],
      references: [],
      panels: panelsByPattern(rows, ({ achievedWarps, theoreticalWarps }) => ({
        text: `${significant(achievedWarps)} of ${theoreticalWarps}`,
        parts: [achievedWarps],
        target: theoreticalWarps,
      })),
    },
    table: cellTable(rows, [
      [number('achieved'), (row) => significant(row.achievedWarps)],
      [number('theoretical'), (row) => String(row.theoreticalWarps)],
      [number('issue slots used'), (row) => percent(row.issueSlotUse)],
    ]),
  };
}

/** The keys with the largest sums, largest first. */
function largest(entries: readonly (readonly [string, number])[]): string[] {
  const sums = new Map<string, number>();
  for (const [key, value] of entries) sums.set(key, (sums.get(key) ?? 0) + value);
  return [...sums].sort(([, a], [, b]) => b - a).map(([key]) => key);
}

/** Comparison by the order of `keys`; what is not among them comes last. */
function byRank(keys: readonly string[]): (a: string, b: string) => number {
  const rank = (key: string) => (keys.includes(key) ? keys.indexOf(key) : keys.length);
  return (a, b) => rank(a) - rank(b);
}

/** A value for every key. */
function values(entries: readonly (readonly [string, number])[], keys: readonly string[]): number[] {
  return keys.map((wanted) => entries.reduce((sum, [key, value]) => (key === wanted ? sum + value : sum), 0));
}

/** Entries of which a legend can name all keys: beyond the largest, they are `other`. */
function fold(entries: readonly (readonly [string, number])[], keys: readonly string[]): [string, number][] {
  const named = keys.length <= MAX_PARTS + 1 ? keys : keys.slice(0, MAX_PARTS);
  return entries.map(([key, value]) => [named.includes(key) ? key : 'other', value]);
}

function stallsFigure(rows: readonly CounterRow[]): Figure {
  const entries = ({ stalls }: CounterRow) =>
    stalls.map(({ reason, perIssue }) => [reason, perIssue] as const);
  const reasons = largest(rows.flatMap(entries));
  const folded = (row: CounterRow) => fold(entries(row), reasons);
  const shown = unique(rows.flatMap(folded).map(([key]) => key)).toSorted(byRank(reasons));
  const total = (row: CounterRow) => entries(row).reduce((sum, [, value]) => sum + value, 0);
  return {
    id: 'stalls',
    title: 'Why warps wait',
    note: 'Warp cycles per issued instruction by reason. The longest part is what to hide or to avoid.',
    chart: {
      kind: 'bars',
      axis: 'warp cycles per issued instruction',
      legend: shown,
      references: [],
      panels: panelsByPattern(rows, (row) => ({
        text: `${significant(total(row))} cycles`,
        parts: values(folded(row), shown),
      })),
    },
    table: {
      columns: [text('pattern'), text('variant'), ...reasons.map(number)],
      rows: rows.map((row) => [row.pattern, label(row), ...values(entries(row), reasons).map(significant)]),
    },
  };
}

const SHARES = [
  ['L1 hits', 'l1HitRate'],
  ['L2 hits', 'l2HitRate'],
  ['DRAM', 'dramShare'],
  ['L2', 'l2Share'],
  ['fabric', 'fabricShare'],
  ['L1', 'l1Share'],
  ['SM', 'smShare'],
] as const;

const shareText = (share: number | undefined) => (share === undefined ? '–' : percent(share, 1));

function heatFigure(rows: readonly CounterRow[]): Figure {
  return {
    id: 'shares',
    title: 'Hit rates and shares of peak throughput',
    note: 'Hits: share of the sectors asked of L1 and L2. DRAM, L2, L1, SM: share of what the memory, the caches and the multiprocessors do at most; fabric: of what the halves of L2 can send each other, where L2 has halves.',
    chart: {
      kind: 'heat',
      panels: unique(rows.map(({ pattern }) => pattern)).map((pattern) => ({
        title: pattern,
        columns: SHARES.map(([title]) => title),
        rows: rows
          .filter((row) => row.pattern === pattern)
          .map((row) => ({ label: label(row), shares: SHARES.map(([, key]) => row[key]) })),
      })),
    },
    table: cellTable(rows, [
      ...SHARES.map(([title, key]): CellColumn<CounterRow> => [number(title), (row) => shareText(row[key])]),
      [number('DRAM MB a launch'), (row) => (row.dramBytes / 1e6).toFixed(1)],
    ]),
  };
}

function limiterFigure(rows: readonly CounterRow[]): Figure {
  return {
    id: 'limiters',
    title: 'What bounds each kernel',
    note: 'By the counters; times are the profiler’s.',
    table: cellTable(rows, [
      ...LAUNCH_COLUMNS,
      [number('µs by events'), ({ pairUs }) => (pairUs === undefined ? '–' : significant(pairUs))],
      [text('bound by'), (row) => row.limiter],
      [text('because'), (row) => row.because],
    ]),
  };
}

function launchFigure(rows: readonly LaunchRow[]): Figure {
  return {
    id: 'launches',
    title: 'Times of launches',
    note: 'By events, where no counters were read.',
    table: cellTable(rows, LAUNCH_COLUMNS),
  };
}

function staticFigure(rows: readonly StaticRow[]): Figure {
  return {
    id: 'static',
    title: 'Compiled kernels',
    note: 'By the compiler and the occupancy calculator; no GPU is needed for these.',
    table: {
      columns: [
        text('variant'),
        text('GPU'),
        number('registers'),
        number('spilled B'),
        number('stack B'),
        number('shared B'),
        number('block'),
        number('blocks'),
        number('warps'),
        number('occupancy'),
        text('limited by'),
        text('kernel'),
      ],
      rows: rows.map((row) => [
        label(row),
        `${row.gpu}, ${row.architecture}`,
        ...[
          row.registers,
          row.spillBytes,
          row.stackBytes,
          row.sharedBytes,
          row.blockThreads,
          row.blocksPerMultiprocessor,
          row.warps,
        ].map(String),
        percent(row.occupancy),
        row.limiter,
        row.kernel,
      ]),
    },
  };
}

function instructionFigure(rows: readonly StaticRow[]): Figure[] {
  const disassembled = rows.flatMap((row) =>
    row.instructions === undefined ? [] : [{ row, entries: Object.entries(row.instructions) }],
  );
  if (disassembled.length === 0) return [];
  const classes = largest(disassembled.flatMap(({ entries }) => entries));
  const shown = unique(
    disassembled.flatMap(({ entries }) => fold(entries, classes)).map(([key]) => key),
  ).toSorted(byRank(classes));
  const gpu = ({ gpu: name, architecture }: StaticRow) => `${name}, ${architecture}`;
  const gpus = unique(disassembled.map(({ row }) => gpu(row)));
  return [
    {
      id: 'instructions',
      title: 'Instruction mix',
      note: 'Instructions of each kernel’s machine code by class, counted once each whatever loops they stand in.',
      chart: {
        kind: 'bars',
        axis: 'instructions in the machine code',
        legend: shown,
        references: [],
        panels: gpus.map((name) => ({
          title: name,
          bars: disassembled
            .filter(({ row }) => gpu(row) === name)
            .map(({ row, entries }) => ({
              label: label(row),
              text: String(entries.reduce((sum, [, count]) => sum + count, 0)),
              parts: values(fold(entries, classes), shown),
            })),
        })),
      },
      table: {
        columns: [text('variant'), text('GPU'), ...classes.map(number)],
        rows: disassembled.map(({ row, entries }) => [
          label(row),
          gpu(row),
          ...values(entries, classes).map(String),
        ]),
      },
    },
  ];
}
