/** The figures of a benchmark's results. */
import {
  baselineName,
  byRole,
  compared,
  heading,
  launchPerTable,
  launchSpeedup,
  modelRole,
  peersOf,
  plainRows,
  planWords,
  techniques,
  unique,
  unpinned,
} from '../bench/comparison.ts';
import {
  type BenchResults,
  type EmbeddingRow,
  hasStages,
  type ModelRow,
  PLACES,
  type StagedModelRow,
} from '../bench/results.ts';
import { percent, significant, times } from '../numbers.ts';
import { type Bar, type BarChart, type Figure, number, text } from './figure.ts';
import { paperFigures } from './paper-section.ts';
import { sweepFigure, sweptTechniques } from './sweep-figures.ts';

/** Every figure that the results have the data for, in reading order. */
export function benchFigures(results: BenchResults): Figure[] {
  return [
    hotnessFigure(results),
    ...paperFigures(results),
    speedupFigure(results),
    launchFigure(results),
    pinningFigure(results),
    limitFigure(results),
    bandwidthFigure(results),
    ...sweptTechniques(results).map((name) => sweepFigure(results, name)),
    modelFigure(results.model),
    bestFigure(results),
  ].filter((figure) => figure !== undefined);
}

/** One panel per pattern, one bar per row. */
function panelsByPattern(
  rows: readonly EmbeddingRow[],
  bar: (row: EmbeddingRow) => Omit<Bar, 'label'>,
): BarChart['panels'] {
  return unique(rows.map(({ pattern }) => pattern)).map((pattern) => ({
    title: pattern,
    bars: rows
      .filter((row) => row.pattern === pattern)
      .map((row) => ({ label: heading(row), ...tone(row), ...bar(row) })),
  }));
}

function tone({ implementation, best }: EmbeddingRow): Pick<Bar, 'tone'> {
  if (implementation !== 'hotrow') return { tone: 'peer' };
  return best ? { tone: 'best' } : {};
}

function hotnessFigure({ hotness }: BenchResults): Figure | undefined {
  const curves = (hotness ?? []).filter(({ points }) => points.length > 0);
  if (curves.length === 0) return undefined;
  return {
    id: 'hotness',
    title: 'How hot the lookups are',
    note: 'Share of the lookups of one batch in the first table that its K hottest rows answer. The further left a curve rises, the more a cache can hold.',
    chart: {
      kind: 'lines',
      yTitle: 'share of the lookups (%)',
      yScale: 'share',
      legend: curves.map(({ pattern }) => pattern),
      panels: [
        {
          title: 'coverage',
          xTitle: 'K hottest rows (log scale)',
          lines: curves.map(({ points }, series) => ({ series, dashed: false, points })),
        },
      ],
    },
    table: {
      columns: [text('pattern'), number('hottest rows'), number('share of lookups')],
      rows: curves.flatMap(({ pattern, points }) =>
        points.map(([rows, share]) => [pattern, rows.toLocaleString('en-US'), percent(share, 2)]),
      ),
    },
  };
}

function speedupFigure(results: BenchResults): Figure | undefined {
  const rows = compared(results);
  if (rows.length === 0) return undefined;
  return {
    id: 'speedup',
    title: `Speed over the ${baselineName(results)}, whole embedding stage`,
    note: `Batches per second relative to the ${baselineName(results)} on the same pattern in the same run; index checks and pinning are counted in. More is better.`,
    chart: {
      kind: 'bars',
      axis: `speed over the ${baselineName(results)} (×)`,
      legend: [],
      references: [{ label: baselineName(results), value: 1 }],
      panels: panelsByPattern(rows, ({ speedup, timing }) => ({
        text: `${times(speedup)} · ${significant(timing.medianMs)} ms`,
        parts: [speedup],
      })),
    },
    table: {
      columns: [
        text('pattern'),
        text('variant'),
        number('median ms'),
        number('p10–p90 ms'),
        number('speed'),
        number('GB/s'),
      ],
      rows: rows.map((row) => [
        row.pattern,
        heading(row),
        significant(row.timing.medianMs),
        `${significant(row.timing.p10Ms)}–${significant(row.timing.p90Ms)}`,
        times(row.speedup),
        row.gigabytesPerSecond.toFixed(1),
      ]),
    },
  };
}

function launchFigure(results: BenchResults): Figure | undefined {
  const plain = plainRows(results);
  const rows = compared(results).flatMap((row) => {
    const speedup = launchSpeedup(row, plain.get(row.pattern));
    const launch = launchPerTable(row);
    return speedup === undefined || launch === undefined ? [] : [{ row, speedup, launch }];
  });
  if (rows.length === 0) return undefined;
  const speedups = new Map(rows.map(({ row, speedup }) => [row, speedup]));
  return {
    id: 'launch-speedup',
    title: `Speed over the ${baselineName(results)}, one launch`,
    note: 'One table by a pair of events around its launch, of a launch that serves all tables an equal share; the time to pin rows is left out, as the paper counts. More is better.',
    chart: {
      kind: 'bars',
      axis: `speed over the ${baselineName(results)} (×)`,
      legend: [],
      references: [{ label: baselineName(results), value: 1 }],
      panels: panelsByPattern(
        rows.map(({ row }) => row),
        (row) => ({
          text: `${times(speedups.get(row) as number)} · ${significant(launchPerTable(row)?.medianUs as number)} µs`,
          parts: [speedups.get(row) as number],
        }),
      ),
    },
    table: {
      columns: [
        text('pattern'),
        text('variant'),
        number('median µs'),
        number('p10–p90 µs'),
        number('speed'),
        number('launches'),
      ],
      rows: rows.map(({ row, speedup, launch }) => [
        row.pattern,
        heading(row),
        significant(launch.medianUs),
        `${significant(launch.p10Us)}–${significant(launch.p90Us)}`,
        times(speedup),
        String(launch.samples),
      ]),
    },
  };
}

function pinningFigure(results: BenchResults): Figure | undefined {
  const pinned = compared(results).filter(({ pin, launch }) => pin !== undefined && launch !== undefined);
  if (pinned.length === 0) return undefined;
  const rows = pinned.flatMap((row) => {
    const bare = unpinned(results, row);
    return bare === undefined ? [row] : [bare, row];
  });
  const parts = ({ launch, pin }: EmbeddingRow) => [launch?.medianUs ?? 0, pin?.medianUs ?? 0] as const;
  const words = (row: EmbeddingRow) => {
    const [kernel, pin] = parts(row);
    return pin === 0 ? `${significant(kernel)} µs` : `${significant(kernel)} + ${significant(pin)} µs`;
  };
  return {
    id: 'pinning',
    title: 'Pinning, with its own time',
    note: 'One table: the kernel by itself, and the bringing in of its pinned rows into L2. Pinning pays where both together are shorter than the kernel without it. Less is better.',
    chart: {
      kind: 'bars',
      axis: 'time of one table (µs)',
      legend: ['kernel', 'bringing pinned rows in'],
      references: [],
      panels: panelsByPattern(unique(rows), (row) => ({ text: words(row), parts: parts(row) })),
    },
    table: {
      columns: [text('pattern'), text('variant'), number('kernel µs'), number('pin µs'), number('both µs')],
      rows: unique(rows).map((row) => {
        const [kernel, pin] = parts(row);
        return [row.pattern, heading(row), ...[kernel, pin, kernel + pin].map(significant)];
      }),
    },
  };
}

function limitFigure(results: BenchResults): Figure | undefined {
  const rows = compared(results).filter(({ limitShare }) => limitShare !== undefined);
  if (rows.length === 0) return undefined;
  const share = ({ limitShare }: EmbeddingRow) => limitShare as number;
  return {
    id: 'limit',
    title: 'Share of the speed of light',
    note: 'What a batch takes at the ceilings of this run (distinct rows from memory, all lookups from the last cache) over what it took. Past 100 %, rows came from nearer caches. More is better.',
    chart: {
      kind: 'bars',
      axis: 'share of the limit (%)',
      legend: [],
      references: [{ label: 'limit', value: 100 }],
      panels: panelsByPattern(rows, (row) => ({ text: percent(share(row)), parts: [100 * share(row)] })),
    },
    table: {
      columns: [text('pattern'), text('variant'), number('limit ms'), number('median ms'), number('share')],
      rows: rows.map((row) => [
        row.pattern,
        heading(row),
        significant(row.limitMs ?? 0),
        significant(row.timing.medianMs),
        percent(share(row)),
      ]),
    },
  };
}

function bandwidthFigure(results: BenchResults): Figure | undefined {
  const rows = compared(results);
  if (rows.length === 0) return undefined;
  const { readGigabytesPerSecond: memory, cacheReadGigabytesPerSecond: cache } = results.ceilings;
  return {
    id: 'bandwidth',
    title: 'Row bytes per second against the ceilings',
    note: 'Rows asked for, repeats included, times row bytes, over the median; the lines are what this device reads at best. Hot rows come from caches, so hot patterns pass the line of the memory.',
    chart: {
      kind: 'bars',
      axis: 'row bytes asked for (GB/s)',
      legend: [],
      references: [
        { label: 'memory', value: memory },
        ...(cache === undefined ? [] : [{ label: 'L2', value: cache }]),
      ],
      panels: panelsByPattern(rows, ({ gigabytesPerSecond }) => ({
        text: `${significant(gigabytesPerSecond)} GB/s`,
        parts: [gigabytesPerSecond],
      })),
    },
    table: {
      columns: [text('pattern'), text('variant'), number('GB/s'), number('of the memory ceiling')],
      rows: rows.map((row) => [
        row.pattern,
        heading(row),
        significant(row.gigabytesPerSecond),
        percent(row.gigabytesPerSecond / memory),
      ]),
    },
  };
}

const STAGES = ['embedding', 'bottom', 'interaction', 'top', 'copy', 'host'] as const;

export const stageTimes = (row: StagedModelRow) => STAGES.map((stage) => row[`${stage}Ms`]);

/** Its pattern, and where its inputs were when that differs among the rows. */
function modelLabel(row: ModelRow, rows: readonly ModelRow[]): string {
  const several = new Set(rows.map(({ inputs }) => inputs)).size > 1;
  return several && row.inputs !== undefined
    ? `${row.pattern}, inputs in ${PLACES[row.inputs]}`
    : row.pattern;
}

function modelPlan(row: ModelRow): string {
  if (row.implementation !== 'hotrow') return `${row.implementation} ${row.variant}`;
  const role = modelRole(row);
  if (role === 'plain') return 'plain kernel';
  return role === 'artifact' ? "paper's kernel" : `${role}: ${techniques(row.variant)}`;
}

function stageChart(staged: readonly StagedModelRow[]): BarChart {
  return {
    kind: 'bars',
    axis: 'time of a batch (ms)',
    legend: [...STAGES],
    references: [],
    panels: byRole(staged).map(({ plans, words, rows }) => ({
      title: `under ${words}`,
      bars: rows.map((row) => ({
        label: `${modelLabel(row, staged)}${plans.length > 1 ? `: ${techniques(row.variant)}` : ''}`,
        text: `${significant(row.timing.medianMs)} ms · ${percent(row.embeddingShare)}`,
        parts: stageTimes(row),
      })),
    })),
  };
}

/** Where the time of the whole model goes; a table alone where stages were not timed. Undefined: it was not run. */
export function modelFigure(model: readonly ModelRow[]): Figure | undefined {
  const staged = model.filter(hasStages);
  if (model.length === 0) return undefined;
  return {
    id: 'model',
    title: 'Whole model: where the time goes',
    note: 'Median device time of the stages of one batch, and the host time around them; beside the bars the latency and the share of the embedding stage. Less is better.',
    ...(staged.length === 0 ? {} : { chart: stageChart(staged) }),
    table: {
      columns: [
        text('plan'),
        text('pattern'),
        number('median ms'),
        ...STAGES.map((stage) => number(`${stage} ms`)),
        number('ms in flight'),
        number('samples/s'),
        number('speed'),
      ],
      rows: model.map((row) => [
        modelPlan(row),
        modelLabel(row, model),
        significant(row.timing.medianMs),
        ...(hasStages(row) ? stageTimes(row).map(significant) : STAGES.map(() => '–')),
        row.batchMs === undefined ? '–' : significant(row.batchMs),
        Math.round(row.samplesPerSecond).toLocaleString('en-US'),
        times(row.speedup),
      ]),
    },
  };
}

function bestFigure(results: BenchResults): Figure | undefined {
  const best = results.embedding.filter((row) => row.best);
  if (best.length === 0) return undefined;
  const peers = peersOf(results);
  return {
    id: 'best',
    title: 'Best plan found',
    note: 'What the search over all techniques ended with on each pattern.',
    table: {
      columns: [
        text('pattern'),
        number('distinct rows'),
        number('median ms'),
        number('speed'),
        ...peers.map(({ name }) => number(`over ${name}`)),
        text('techniques'),
      ],
      rows: best.map((row) => [
        row.pattern,
        percent(row.distinctShare, 1),
        significant(row.timing.medianMs),
        times(row.speedup),
        ...peers.map(({ rows }) => {
          const peer = rows.get(row.pattern);
          return peer === undefined ? '–' : times(peer.timing.medianMs / row.timing.medianMs);
        }),
        planWords(row),
      ]),
    },
  };
}
