/** A technique over its whole range: lines per pattern. */
import { launchPerTable, techniques, unique } from '../bench/comparison.ts';
import type { BenchResults, EmbeddingRow } from '../bench/results.ts';
import { significant } from '../numbers.ts';
import { type Plan, planLabel, withTechniques } from '../plan/plan.ts';
import { type Figure, type Line, type LinePanel, number, text } from './figure.ts';

/** Techniques that were run over their whole range. */
export function sweptTechniques({ embedding }: BenchResults): string[] {
  return unique(embedding.flatMap(({ sweep }) => (sweep === undefined ? [] : [sweep])));
}

/** Where one row of a sweep stands: what it stands on, its non-numeric parameters, and the number that is varied. */
export interface SweepPoint {
  readonly row: EmbeddingRow;
  /** Plan without the technique. */
  readonly base: string;
  /** The technique's parameters without the number; undefined: the technique is off. */
  readonly settings: string | undefined;
  /** The number's name and value. */
  readonly parameter: string;
  readonly value: number | undefined;
  /** Of a launch in µs where launches were timed, else of a batch in ms. */
  readonly time: number;
  /** With the time to bring pinned rows in, where they are. */
  readonly timeWithPin: number | undefined;
}

export function sweepPoints(results: BenchResults, technique: string): SweepPoint[] {
  const rows = results.embedding.filter(({ sweep, plan }) => sweep === technique && plan !== undefined);
  return rows.map((row) => {
    const plan = row.plan as Plan;
    const parameters = (plan.techniques as Record<string, Record<string, unknown> | undefined>)[technique];
    const entries = Object.entries(parameters ?? {});
    const numeric = entries.find(([, value]) => typeof value === 'number');
    const words = entries.filter((entry) => entry !== numeric).map(([, value]) => String(value));
    const time = launchPerTable(row)?.medianUs ?? row.timing.medianMs;
    return {
      row,
      base: planLabel(withTechniques(plan, { [technique]: undefined })),
      settings: parameters === undefined ? undefined : words.join(', '),
      parameter: numeric?.[0] ?? technique,
      value: numeric?.[1] as number | undefined,
      time,
      timeWithPin: row.pin === undefined ? undefined : time + row.pin.medianUs,
    };
  });
}

/** The figure of one technique's sweep. */
export function sweepFigure(results: BenchResults, technique: string): Figure {
  const points = sweepPoints(results, technique);
  const patterns = unique(points.map(({ row }) => row.pattern));
  const inMicroseconds = points.some(({ row }) => row.launch !== undefined);
  const withPin = points.some(({ timeWithPin }) => timeWithPin !== undefined);
  const panels = unique(points.map(({ base }) => base)).flatMap((base) =>
    sweepPanels(points, base, technique),
  );
  const unit = inMicroseconds ? 'µs per table' : 'ms per batch';
  return {
    id: `sweep-${technique}`,
    title: `Sweep: ${technique}`,
    note: `${inMicroseconds ? 'One table by a pair of events around its launch' : 'One batch'}, over the technique's range; “off” is the same plan without it. Less is better.`,
    chart: {
      kind: 'lines',
      yTitle: `${unit} (log scale)`,
      yScale: 'log',
      legend: patterns,
      ...(withPin ? { dashed: 'with the time to bring pinned rows in' } : {}),
      panels,
    },
    table: {
      columns: [
        text('plan'),
        text('pattern'),
        number(unit),
        ...(withPin ? [number('pin µs'), number('both µs')] : []),
        number('ms per batch'),
      ],
      rows: points.map(({ row, time, timeWithPin }) => [
        row.variant,
        row.pattern,
        significant(time),
        ...(withPin
          ? [
              row.pin === undefined ? '–' : significant(row.pin.medianUs),
              timeWithPin === undefined ? '–' : significant(timeWithPin),
            ]
          : []),
        significant(row.timing.medianMs),
      ]),
    },
  };
}

/** Panels of what stands on one base: one for each of the technique's settings. */
function sweepPanels(points: readonly SweepPoint[], base: string, technique: string): LinePanel[] {
  const own = points.filter((point) => point.base === base);
  const off = own.filter(({ settings }) => settings === undefined);
  const on = own.filter(({ settings }) => settings !== undefined);
  const key = ({ settings, parameter }: SweepPoint) => JSON.stringify([settings, parameter]);
  const patterns = unique(points.map(({ row }) => row.pattern));
  return unique(on.map(key)).map((group): LinePanel => {
    const varied = on.filter((point) => key(point) === group);
    const [{ settings, parameter }] = varied as [SweepPoint];
    const steps = unique(varied.toSorted((a, b) => (a.value ?? 0) - (b.value ?? 0)).map(stepLabel));
    const shown = [...off, ...varied];
    const placed = off.length > 0 ? ['off', ...steps] : steps;
    const lines = (time: (point: SweepPoint) => number | undefined, dashed: boolean): Line[] =>
      patterns.flatMap((pattern, series) => {
        const line = shown
          .filter(({ row }) => row.pattern === pattern)
          .flatMap((point): [number, number][] => {
            const y = time(point);
            return y === undefined ? [] : [[placed.indexOf(stepLabel(point)), y]];
          })
          .sort(([a], [b]) => a - b);
        return line.length === 0 ? [] : [{ series, dashed, points: line }];
      });
    const words = techniques(base) === 'none' ? 'plain kernel' : techniques(base);
    return {
      title: [words, `${technique}${settings ? `: ${settings}` : ''}`].join(' + '),
      xTitle: `${parameter.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)} (steps as tried)`,
      steps: placed,
      lines: [...lines(({ time }) => time, false), ...lines(({ timeWithPin }) => timeWithPin, true)],
    };
  });
}

/** Where a point stands on the x axis. */
function stepLabel({ settings, value }: SweepPoint): string {
  if (settings === undefined) return 'off';
  if (value === undefined) return 'on';
  return value >= 1e6 ? `${(value / 1e6).toFixed(0)} M` : String(value);
}
