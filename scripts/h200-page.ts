/** docs/results-h200.md with what the recorded result files of an H200 say. */

import { benchTables } from '../src/bench/render.ts';
import type { BenchResults } from '../src/bench/results.ts';
import type { Timing } from '../src/bench/statistics.ts';
import { tableText } from '../src/cli/bench-text.ts';
import { characterizeText } from '../src/cli/characterize-text.ts';
import { benchFindings } from '../src/report/bench-findings.ts';
import {
  benchOf,
  codeBlock,
  fill,
  groupBy,
  markdownTable,
  readPage,
  recorded,
  recordedBench,
} from './recorded.ts';

interface Spread {
  readonly medianMs: number;
  readonly p90Ms: number;
}

interface HostCost {
  readonly firstCompileMs: { readonly median: number; readonly max: number };
  readonly fromCacheMs: { readonly median: number; readonly max: number };
  readonly launchUs: { readonly wall: number; readonly processor: number };
  /** Of forwardOneSample; before there was a choice: plain. */
  readonly plan?: string;
  readonly forwardOneSample: Readonly<Record<string, Spread>>;
  readonly predictOneSample: Spread;
}

export function h200Page(): string {
  const parts: [string, string][] = [
    ['paper', recordedBench('h200-paper.json')],
    ['traces', recordedBench('h200-paper-traces.json')],
    ['findings', findingsList('h200-paper.json')],
    ['sweep-findings', findingsList('h200-paper-sweeps.json', 'sweep-optimum')],
    ['sweeps', sweeps()],
    ['shapes', shapesTable()],
    ['counters', counters('h200-counters.json')],
    ['format-counters', ['float16', 'int8'].map(formatCounters).join('\n\n')],
    ['tuned', tunedTable('h200-tune.json')],
    ['mixed', recordedBench('h200-mixed.json')],
    ['tuned-mixed', tunedTable('h200-tune-mixed.json')],
    ['int8', tablesTitled(benchOf('h200-paper-int8.json'), 'one table, µs by')],
    ['formats', ['int8', 'float16'].map(bestOf).join('\n\n')],
    ['model', recordedBench('h200-model.json')],
    ['mlperf', ['float16', 'int8'].map((format) => recordedBench(`h200-mlperf-${format}.json`)).join('\n\n')],
    ['mlperf-half', [2048, 8192, 32768].map(onDevice).join('\n\n')],
    ['streams', streamsTable()],
    ['dense', denseTable()],
    ['host', hostTable()],
    ['row-updates', rowUpdatesTable()],
  ];
  return parts.reduce((page, [name, text]) => fill(page, name, text), readPage('docs/results-h200.md'));
}

/** What the report finds in a recorded benchmark, by all rules or by one. */
function findingsList(name: string, rule?: string): string {
  return benchFindings(benchOf(name))
    .filter((finding) => rule === undefined || finding.rule === rule)
    .map(({ text }) => `- ${text}`)
    .join('\n');
}

function tablesTitled(results: BenchResults, words: string): string {
  const tables = benchTables(results).filter(({ title }) => title.includes(words));
  return codeBlock(tables.map(tableText).join('\n\n'));
}

function sweeps(): string {
  const all = benchOf('h200-paper-sweeps.json');
  const embedding = all.embedding.filter(({ sweep }) => sweep !== undefined);
  return tablesTitled({ ...all, embedding, notes: [] }, 'over its range');
}

/** The best plans of the paper's set-up with rows of another format. */
function bestOf(format: string): string {
  return `Rows of ${format}:\n\n${tablesTitled(benchOf(`h200-paper-${format}.json`), 'best plan found')}`;
}

function counters(name: string): string {
  return codeBlock(characterizeText(JSON.parse(recorded(name))));
}

function formatCounters(format: string): string {
  return `Rows of ${format}:\n\n${counters(`h200-counters-${format}.json`)}`;
}

function hostTable(): string {
  const host = JSON.parse(recorded('h200-host-cost.json')) as HostCost;
  const milliseconds = ({ median, max }: HostCost['fromCacheMs']) =>
    `${median.toFixed(1)} ms, at most ${max.toFixed(1)} ms`;
  const microseconds = ({ medianMs, p90Ms }: Spread) =>
    `${(1e3 * medianMs).toFixed(0)} µs (90 %: ${(1e3 * p90Ms).toFixed(0)} µs)`;
  const { wall, processor } = host.launchUs;
  return markdownTable(
    ['what', 'median'],
    [
      ['a kernel, compiled for the first time and loaded', milliseconds(host.firstCompileMs)],
      ['a kernel from the cache, loaded', milliseconds(host.fromCacheMs)],
      ['a launch', `${wall.toFixed(1)} µs, ${processor.toFixed(1)} µs of processor time`],
      ...Object.entries(host.forwardOneSample).map(([tables, spread]) => [
        `\`forward\` of one sample of 3 lookups a table, ${tables.replace('tables', '')} tables, plan ${host.plan ?? 'plain'}, call to result`,
        microseconds(spread),
      ]),
      [
        '`predict` of one sample of the Criteo model, 26 tables, inputs on the host, call to result',
        microseconds(host.predictOneSample),
      ],
    ],
  );
}

interface RowUpdates {
  readonly forwardMs: Timing;
  readonly updates: readonly {
    readonly rows: number;
    readonly copyMs: Timing;
    readonly updateMs: Timing;
    readonly beyondCopyMs: number;
    readonly lookupsBesideMs: Timing;
  }[];
}

function rowUpdatesTable(): string {
  const { forwardMs, updates } = JSON.parse(recorded('h200-row-updates.json')) as RowUpdates;
  const ms = (value: number) => value.toFixed(2);
  const spread = ({ medianMs, p10Ms, p90Ms }: Timing) => `${ms(medianMs)} (${ms(p10Ms)}–${ms(p90Ms)})`;
  const table = markdownTable(
    ['rows', 'copy alone, ms', 'update, ms', 'beyond the copy', 'a lookup call beside it, ms', 'the slowest'],
    updates.map((row) => [
      row.rows.toLocaleString('en-US'),
      spread(row.copyMs),
      spread(row.updateMs),
      ms(row.beyondCopyMs),
      ms(row.lookupsBesideMs.medianMs),
      ms(row.lookupsBesideMs.maxMs),
    ]),
  );
  return `${table}\n\nBy itself a lookup call takes ${spread(forwardMs)} ms.`;
}

interface ShapeRow {
  readonly pattern: string;
  readonly inFlight: number;
  readonly pipelined?: boolean;
  readonly threads: number;
  readonly medianUs: number;
}

/** What the fused kernel takes for other bags than the paper's: the best setting of each. */
function shapesTable(): string {
  const { results } = JSON.parse(recorded('h200-bag-shapes.json')) as {
    readonly results: readonly ShapeRow[];
  };
  const rows = [...groupBy(results, ({ pattern }) => pattern).values()].map((own) => {
    const [best] = own.toSorted((a, b) => a.medianUs - b.medianUs) as [ShapeRow];
    const { pattern, medianUs, inFlight, pipelined, threads } = best;
    const flight = `${inFlight} rows${pipelined === true ? ' pipelined' : ''}`;
    return [pattern, medianUs.toFixed(1), `${flight}, ${threads} threads`];
  });
  return markdownTable(['lookups', 'best, µs', 'with'], rows);
}

interface TunedRun {
  readonly plan: {
    readonly tunedOn: { readonly workload: string; readonly batchMs: number; readonly plainMs: number };
  };
  /** Labels of the plans, and both in turns; without: the heuristic plan won the race. */
  readonly found: string;
  readonly heuristic: string;
  readonly comparison?: { readonly gain: number; readonly gainLow: number; readonly gainHigh: number };
  readonly isBetter: boolean;
  readonly measured: readonly object[];
  readonly seconds: number;
}

/** What runs of `hotrow tune` found. */
function tunedTable(name: string): string {
  const runs = JSON.parse(recorded(name)) as TunedRun[];
  return markdownTable(
    ['lookups', 'plan found', 'over the heuristic plan', 'ms of a batch', 'plain, ms', 'raced', 'seconds'],
    runs.map(({ plan: { tunedOn }, found, comparison, isBetter, measured, seconds }) => [
      tunedOn.workload,
      found.replaceAll(' + ', ', '),
      comparison === undefined ? 'it is that' : `${gainText(comparison)}${isBetter ? '' : ', not taken'}`,
      tunedOn.batchMs.toFixed(3),
      tunedOn.plainMs.toFixed(3),
      String(measured.length),
      seconds.toFixed(1),
    ]),
  );
}

function gainText({ gain, gainLow, gainHigh }: NonNullable<TunedRun['comparison']>): string {
  return `${gain.toFixed(3)}× (${gainLow.toFixed(3)}–${gainHigh.toFixed(3)})`;
}

/** MLPerf's model in float16 beside PyTorch, with inputs in device memory. */
function onDevice(batch: number): string {
  return tablesTitled(benchOf(`h200-mlperf-half-${batch}.json`), 'inputs in device memory');
}

/** What batches side by side bring to MLPerf's model in 16 and in 8 bits, in millions of pairs a second. */
function streamsTable(): string {
  const files = [
    { name: 'small', precision: 'float16' },
    { name: 'float16', precision: 'float16' },
    { name: 'float8_e4m3', precision: 'float8_e4m3' },
  ] as const;
  const measured = files.flatMap(({ name, precision }) => {
    const { results } = JSON.parse(recorded(`h200-streams-${name}.json`)) as {
      readonly results: readonly {
        readonly pattern: string;
        readonly batch: number;
        readonly sets: number;
        readonly latencyMs: number;
        readonly pairsPerSecond: number;
      }[];
    };
    return results.map((row) => ({ ...row, precision }));
  });
  const columns = [...groupBy(measured, ({ precision, sets }) => `${precision}, sets: ${sets}`)];
  const rows = groupBy(measured, ({ pattern, batch }) => `${pattern}, ${batch.toLocaleString('en')}`);
  const millions = ({ pairsPerSecond }: { readonly pairsPerSecond: number }) =>
    (pairsPerSecond / 1e6).toFixed(pairsPerSecond < 1e6 ? 2 : 1);
  return markdownTable(
    ['lookups, batch', ...columns.map(([name]) => name)],
    [...rows].map(([name, own]) => [
      name,
      ...columns.map(([, column]) =>
        own
          .filter((row) => column.includes(row))
          .map(millions)
          .join(),
      ),
    ]),
  );
}

/** The dense operations at the largest batch, in every precision. */
function denseTable(): string {
  const { rows } = JSON.parse(recorded('h200-dense.json')) as {
    readonly rows: readonly {
      readonly precision: string;
      readonly operation: string;
      readonly model?: string;
      readonly shape: string;
      readonly batch: number;
      readonly graphUs: number;
    }[];
  };
  const large = rows.filter(({ batch }) => batch === 2048);
  const precisions = [...new Set(large.map(({ precision }) => precision))];
  const groups = groupBy(large, ({ operation, model, shape }) =>
    operation === 'dotInteraction' ? `dot interaction, ${shape}` : `${model}: ${shape}`,
  );
  return markdownTable(
    ['operation', ...precisions.map((precision) => `${precision}, µs`)],
    [...groups].map(([name, own]) => [
      name,
      ...precisions.map(
        (precision) => own.find((row) => row.precision === precision)?.graphUs.toFixed(1) ?? '–',
      ),
    ]),
  );
}
