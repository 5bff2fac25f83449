/** docs/results-h200.md with what the recorded result files of an H200 say. */
import { benchTables } from '../src/bench/render.ts';
import type { BenchResults } from '../src/bench/results.ts';
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
    ['fused', fusedTable()],
    ['counters', counterTable()],
    ['characterized', codeBlock(characterizeText(JSON.parse(recorded('h200-characterize-random.json'))))],
    ['tuned', tunedTable()],
    ['int8', tablesTitled(benchOf('h200-paper-int8.json'), 'one table, µs by')],
    ['formats', ['int8', 'float16', 'bfloat16'].map(bestOf).join('\n\n')],
    ['model', recordedBench('h200-model.json')],
    ['mlperf', ['float16', 'int8'].map((format) => recordedBench(`h200-mlperf-${format}.json`)).join('\n\n')],
    ['dense', denseTable()],
    ['host', hostTable()],
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

interface FusedSetting {
  readonly rowFormat: string;
  readonly index: string;
  readonly pattern: string;
  readonly perTable: number;
  readonly inFlight: number;
  readonly pipelined?: boolean;
  readonly threads: number;
  readonly laneBytes?: number;
  readonly checking?: string;
  readonly medianUs: number;
}

/** Formats that were measured with their headers in front of the rows. */
const SCALED = ['int8', 'int4'];

/** What the fused kernel takes: the best setting of each pattern, and one setting for all. */
function fusedTable(): string {
  const grid = (name: string) => (JSON.parse(recorded(name)) as { results: readonly FusedSetting[] }).results;
  const results = [
    ...grid('h200-fused-grid.json').filter(({ rowFormat }) => !SCALED.includes(rowFormat)),
    ...grid('h200-fused-grid-quantized.json').filter(({ rowFormat }) => SCALED.includes(rowFormat)),
  ].filter(({ checking, index }) => checking === undefined && index === 'int64');
  const setting = ({ inFlight, pipelined, threads, laneBytes }: FusedSetting) =>
    `${inFlight} rows${pipelined ? ' pipelined' : ''}, ${laneBytes === undefined ? '' : `${laneBytes} bytes a lane, `}${threads} threads`;
  const time = (row: FusedSetting | undefined) =>
    row === undefined ? '–' : (row.medianUs / row.perTable).toFixed(2);
  const rows = [...groupBy(results, ({ rowFormat, pattern }) => `${rowFormat} ${pattern}`).values()].map(
    (own) => {
      const [best] = own.toSorted((a, b) => a.medianUs - b.medianUs) as [FusedSetting];
      const usual = own.find(
        ({ inFlight, pipelined, threads, laneBytes }) =>
          inFlight === 8 && !pipelined && threads === 128 && laneBytes === undefined,
      );
      return [best.rowFormat, best.pattern, time(best), setting(best), time(usual)];
    },
  );
  return markdownTable(['rows', 'lookups', 'best, µs', 'with', '8 rows, 128 threads, µs'], rows);
}

/** What the counters say of the fused kernel: the mean of a plan's launches. */
function counterTable(): string {
  const launches = JSON.parse(recorded('h200-fused-counters.json')) as {
    readonly rowFormat: string;
    readonly pattern: string;
    readonly plan: string;
  }[];
  const lines = recorded('h200-fused-counters.csv')
    .split('\n')
    .filter((line) => line.startsWith('"'))
    .map((line) => [...line.matchAll(/"([^"]*)"/g)].map(([, cell]) => cell as string));
  const [header = [], , ...profiled] = lines;
  if (profiled.length !== launches.length) throw new Error('the counters are not of these launches');
  const counted = launches.map((launch, i) => ({ ...launch, cells: profiled[i] as string[] }));
  const groups = groupBy(counted, ({ rowFormat, pattern, plan }) => [rowFormat, pattern, plan].join());
  const rows = [...groups.values()].map((own) => {
    const mean = (metric: string) => {
      const column = header.indexOf(metric);
      const values = own.map(({ cells }) => Number((cells[column] as string).replaceAll(',', '')));
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    const percent = (metric: string) => `${mean(metric).toFixed(0)} %`;
    const [first] = own as [(typeof own)[number]];
    return [
      ...[first.rowFormat, first.pattern, first.plan.replace('fused + ', '')],
      (mean('gpu__time_duration.sum') / 1e3 / TABLES).toFixed(2),
      percent('gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed'),
      percent('lts__throughput.avg.pct_of_peak_sustained_elapsed'),
      percent('l1tex__throughput.avg.pct_of_peak_sustained_elapsed'),
      percent('sm__throughput.avg.pct_of_peak_sustained_elapsed'),
      percent('l1tex__t_sector_hit_rate.pct'),
      percent('lts__t_sector_hit_rate.pct'),
      (mean('dram__bytes.sum') / 1e6).toFixed(0),
      mean('sm__warps_active.avg.per_cycle_active').toFixed(1),
    ];
  });
  return markdownTable(
    ['rows', 'lookups', 'plan', 'µs', 'DRAM', 'L2', 'L1', 'SM', 'L1 hits', 'L2 hits', 'MB', 'warps'],
    rows,
  );
}

/** Tables of a launch of the fused kernel. */
const TABLES = 12;

/** What `hotrow tune` found, twice on each pattern. */
function tunedTable(): string {
  const runs = JSON.parse(recorded('h200-tune.json')) as {
    readonly plan: {
      readonly kernel: string;
      readonly techniques: object;
      readonly tunedOn: { readonly workload: string; readonly batchMs: number; readonly plainMs: number };
    };
    readonly measured: readonly object[];
    readonly seconds: number;
  }[];
  return markdownTable(
    ['lookups', 'plan', 'ms of a batch', 'plain, ms', 'plans raced', 'seconds'],
    runs.map(({ plan: { kernel, techniques, tunedOn }, measured, seconds }) => [
      tunedOn.workload,
      `${kernel} \`${JSON.stringify(techniques)}\``,
      tunedOn.batchMs.toFixed(3),
      tunedOn.plainMs.toFixed(3),
      String(measured.length),
      seconds.toFixed(1),
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
