/** What `hotrow load` prints. */
import { loadFacts } from '../load/facts.ts';
import type { LoadResults, LoadRun } from '../load/results.ts';
import { percent, quantileName, significant } from '../numbers.ts';
import { emphasise, formatMs, renderTable } from './print.ts';

const STEPS: Readonly<Record<LoadRun['step'], string>> = { rate: 'run', bracket: 'search', confirm: 'again' };

/** A run on a line, as it ends. */
export function runLine(run: LoadRun): string {
  const quantiles = run.latency.quantiles.map(
    ({ quantile, ms }) => `${quantileName(quantile)} ${formatMs(ms)}`,
  );
  const held = run.held === undefined ? '' : run.held ? ': held' : `: ${run.because}`;
  return `${significant(run.rate)}/s: ${quantiles.join(', ')} ms, ${inTime(run)} in time${held}`;
}

function inTime({ inTime: count, scheduled }: LoadRun): string {
  return percent(count / scheduled, 1);
}

/** Tables of latencies, with 95 % intervals, and of what became of requests; then the facts. */
export function loadText(results: LoadResults): string {
  const { runs, search, notes } = results;
  const quantiles = runs[0]?.latency.quantiles ?? [];
  const latencies = renderTable(
    [
      { title: 'rate/s' },
      { title: 'answered/s' },
      { title: 'samples/s' },
      ...quantiles.map(({ quantile }) => ({ title: `${quantileName(quantile)} ms` })),
      { title: 'max ms' },
      { title: 'of', left: true },
      { title: '', left: true },
    ],
    runs.map((run) => [
      significant(run.rate),
      significant(run.answeredPerSecond),
      significant(run.samplesPerSecond),
      ...run.latency.quantiles.map(interval),
      formatMs(run.latency.mostMs),
      STEPS[run.step],
      run.held === undefined ? '' : run.held ? 'held' : (run.because ?? ''),
    ]),
  );
  const outcomes = renderTable(
    [
      { title: 'rate/s' },
      ...['arrivals', 'in time', 'late', 'refused', 'dropped', 'failed', 'unanswered', 'waited'].map(
        (title) => ({
          title,
        }),
      ),
      { title: 'own lag p50, p99, max ms' },
    ],
    runs.map((run) => [
      significant(run.rate),
      String(run.scheduled),
      inTime(run),
      ...[run.late, run.refused, run.dropped, run.failed, run.unanswered, run.waited].map(String),
      [run.lag.p50Ms, run.lag.p99Ms, run.lag.mostMs].map(formatMs).join(', '),
    ]),
  );
  const why = runs.flatMap(({ rate, why }) =>
    why.map(({ what, count }) => `${significant(rate)}/s: ${count} × ${what}`),
  );
  const found =
    search === undefined
      ? []
      : [
          '',
          emphasise(
            search.rate === undefined
              ? `no rate holds ${quantileName(search.quantile)} ≤ ${search.boundMs} ms`
              : `${significant(search.rate)} requests/s hold ${quantileName(search.quantile)} ≤ ${search.boundMs} ms and ${percent(search.inTimeShare)} in time`,
          ),
        ];
  return [
    emphasise('Latency from the scheduled arrival (95 % intervals)'),
    latencies,
    '',
    emphasise('What became of them'),
    outcomes,
    ...why,
    ...found,
    '',
    ...loadFacts(results).map(([name, text]) => `${name}: ${text}`),
    ...notes.map((note) => `note: ${note}`),
  ].join('\n');
}

/** `9.31 (9.1–9.6)` */
function interval({ ms, lowMs, highMs }: LoadRun['latency']['quantiles'][number]): string {
  return `${formatMs(ms)} (${lowMs === undefined ? '' : formatMs(lowMs)}–${highMs === undefined ? '' : formatMs(highMs)})`;
}
