/** A server under load: latency against rate, the tail, what became of requests. */
import type { LoadResults, LoadRun } from '../load/results.ts';
import { percent, quantileName, significant } from '../numbers.ts';
import { type Bar, type Figure, number, text } from './figure.ts';

const rateName = ({ rate }: LoadRun) => `${significant(rate)}/s`;

/** Runs by rate, those of a search included; of several at one rate, each. */
const byRate = (runs: readonly LoadRun[]) => runs.toSorted((a, b) => a.rate - b.rate);

export function loadFigures(results: LoadResults): Figure[] {
  const runs = byRate(results.runs);
  if (runs.length === 0) return [];
  return [latencyFigure(runs), tailFigure(runs), outcomeFigure(runs)];
}

function latencyFigure(runs: readonly LoadRun[]): Figure {
  const names = (runs[0] as LoadRun).latency.quantiles.map(({ quantile }) => quantileName(quantile));
  const interval = ({ ms, lowMs, highMs }: LoadRun['latency']['quantiles'][number]) =>
    `${significant(ms)} (${lowMs === undefined ? '' : significant(lowMs)}–${highMs === undefined ? '' : significant(highMs)})`;
  return {
    id: 'latency',
    title: 'Latency against rate',
    note: 'From the scheduled arrival to the answer, over the arrivals per second that were asked for. In brackets: 95 % intervals.',
    chart: {
      kind: 'lines',
      yTitle: 'ms (log scale)',
      yScale: 'log',
      legend: names,
      panels: [
        {
          title: 'quantiles of latency',
          xTitle: 'arrivals per second',
          steps: runs.map(rateName),
          lines: names.map((_, series) => ({
            series,
            dashed: false,
            points: runs.map(({ latency }, i) => [i, latency.quantiles[series]?.ms ?? 0] as const),
          })),
        },
      ],
    },
    table: {
      columns: [
        number('rate/s'),
        number('answered/s'),
        number('samples/s'),
        ...names.map((name) => number(`${name} ms`)),
        number('max ms'),
        number('own lag p99 ms'),
        text('bound'),
      ],
      rows: runs.map((run) => [
        significant(run.rate),
        significant(run.answeredPerSecond),
        significant(run.samplesPerSecond),
        ...names.map((_, series) => {
          const quantile = run.latency.quantiles[series];
          return quantile === undefined ? '–' : interval(quantile);
        }),
        significant(run.latency.mostMs),
        significant(run.lag.p99Ms),
        run.held === undefined ? '–' : run.held ? 'held' : (run.because ?? 'missed'),
      ]),
    },
  };
}

/** More lines than these cannot be told apart. */
const MOST_LINES = 6;

function tailFigure(all: readonly LoadRun[]): Figure {
  const runs = all.filter(({ step }) => step === 'rate').slice(-MOST_LINES);
  const shown = runs.length > 0 ? runs : all.slice(-MOST_LINES);
  const numbers = [...new Set(shown.flatMap(({ latency }) => latency.slowest.map(([n]) => n)))].sort(
    (a, b) => a - b,
  );
  return {
    id: 'tail',
    title: 'The slowest requests',
    note: 'Of so many requests, one takes longer: 100 is the 99th percentile, 1,000 the 99.9th.',
    chart: {
      kind: 'lines',
      yTitle: 'ms (log scale)',
      yScale: 'log',
      legend: shown.map(rateName),
      panels: [
        {
          title: 'latency of one request in …',
          xTitle: 'one in (log scale)',
          lines: shown.map(({ latency }, series) => ({ series, dashed: false, points: latency.slowest })),
        },
      ],
    },
    table: {
      columns: [number('one in'), ...shown.map((run) => number(`ms at ${rateName(run)}`))],
      rows: numbers.map((n) => [
        n.toLocaleString('en-US'),
        ...shown.map(({ latency }) => {
          const found = latency.slowest.find(([own]) => own === n);
          return found === undefined ? '–' : significant(found[1]);
        }),
      ]),
    },
  };
}

const OUTCOMES = ['inTime', 'late', 'refused', 'dropped', 'failed', 'unanswered'] as const;
const WORDS = ['in time', 'late', 'refused (503)', 'dropped (504)', 'failed', 'unanswered'] as const;

function outcomeFigure(runs: readonly LoadRun[]): Figure {
  const perSecond = (run: LoadRun, count: number) => (run.seconds > 0 ? count / run.seconds : 0);
  return {
    id: 'outcomes',
    title: 'What became of requests',
    note: 'Per second of arrivals that count. Late and in time: answered, after and within the deadline.',
    chart: {
      kind: 'bars',
      axis: 'requests per second',
      legend: WORDS,
      references: [],
      panels: [
        {
          title: 'arrivals',
          bars: runs.map(
            (run): Bar => ({
              label: rateName(run),
              text: `${percent(run.inTime / run.scheduled, 1)} in time`,
              parts: OUTCOMES.map((name) => perSecond(run, run[name])),
            }),
          ),
        },
      ],
    },
    table: {
      columns: [
        number('rate/s'),
        number('arrivals'),
        ...WORDS.map(number),
        number('waited for a connection'),
        text('why'),
      ],
      rows: runs.map((run) => [
        significant(run.rate),
        String(run.scheduled),
        ...OUTCOMES.map((name) => String(run[name])),
        String(run.waited),
        run.why.map(({ what, count }) => `${count} × ${what}`).join('; ') || '–',
      ]),
    },
  };
}
