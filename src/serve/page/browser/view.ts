/** What the page shows of an event, part by part, as markup. Pure. */
import { formatBytes, percent, significant } from '../../../numbers.ts';
import { drawBars, drawLegend, drawLines } from '../../../report/charts.ts';
import type { BarChart, LineChart } from '../../../report/figure.ts';
import { type Content, type Html, html } from '../../../report/html.ts';
import { OUTCOMES, type Outcome, PHASES, type Phase } from '../../metrics/metric-list.ts';
import type { LiveEvent, LiveModel, Span } from '../live-event.ts';
import { HISTORY_SECONDS, type Moment } from './history.ts';

const NONE = '–';
const OUTCOME_NAMES = Object.keys(OUTCOMES) as Outcome[];
const FAILURES = OUTCOME_NAMES.filter((outcome) => outcome !== 'ok');
const PHASE_NAMES = [...(Object.keys(PHASES) as Phase[]), 'other'] as const;

const count = (value: number) => value.toLocaleString('en-US');
/** Nothing at all is told apart from little. */
const rateText = (value: number) => (value === 0 ? '0' : significant(value));
const ms = (seconds: number | undefined) =>
  seconds === undefined ? NONE : `${significant(1000 * seconds)} ms`;
const time = (at: number | null) =>
  at === null ? NONE : `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
const failed = ({ requests }: Span) => FAILURES.reduce((sum, outcome) => sum + requests[outcome], 0);
const perSecond = (value: number, { seconds }: Span) => (seconds > 0 ? value / seconds : 0);

/** A name and a figure, which a test finds by its key. */
function fact(name: string, key: string, content: Content): Html {
  return html`<div><dt>${name}</dt><dd data-figure="${key}">${content}</dd></div>`;
}

/** The figures that matter at a glance. */
export function tiles({ recent, queue }: LiveModel): Html {
  const rate = (of: (span: Span) => number) =>
    recent === null ? NONE : rateText(perSecond(of(recent), recent));
  return html`${[
    fact(
      'Requests/s',
      'request-rate',
      rate(({ requests }) => requests.ok),
    ),
    fact(
      'Samples/s',
      'sample-rate',
      rate(({ samples }) => samples),
    ),
    fact('Not answered/s', 'refusal-rate', rate(failed)),
    fact('p50', 'p50', ms(recent?.latency?.p50)),
    fact('p99', 'p99', ms(recent?.latency?.p99)),
    fact('p99.9', 'p999', ms(recent?.latency?.p999)),
    fact('Samples a batch', 'batch-samples', significant(recent?.batch?.samples ?? Number.NaN)),
    fact('Requests a batch', 'batch-requests', significant(recent?.batch?.requests ?? Number.NaN)),
    fact('Engine busy', 'busy', percent(recent?.busy ?? Number.NaN)),
    fact('Waiting requests', 'queue-requests', count(queue.requests)),
    fact('Waiting samples', 'queue-samples', count(queue.samples)),
  ]}`;
}

interface Drawn {
  readonly name: string;
  readonly yTitle: string;
  readonly yScale: LineChart['yScale'];
  /** Values over time; undefined: there is none then. */
  readonly lines: Readonly<Record<string, (model: LiveModel) => number | undefined>>;
}

function overTime({ name, yTitle, yScale, lines }: Drawn, moments: readonly Moment[]): Html {
  const now = moments.at(-1)?.at ?? 0;
  const drawn = Object.values(lines).map((of, series) => {
    const points = moments.flatMap(({ at, model }): [number, number][] => {
      const value = of(model);
      return value === undefined ? [] : [[(at - now) / 1000, value]];
    });
    return { series, dashed: false, points };
  });
  const chart: LineChart = {
    kind: 'lines',
    yTitle,
    yScale,
    legend: Object.keys(lines),
    panels: [{ title: '', xTitle: 'before now', seconds: HISTORY_SECONDS, lines: drawn }],
  };
  return html`${drawLegend(chart)}${drawLines(name, chart)}`;
}

export function requestsChart(moments: readonly Moment[]): Html {
  const rate = (of: (span: Span) => number) => (model: LiveModel) =>
    model.recent === null ? undefined : perSecond(of(model.recent), model.recent);
  const lines = { answered: rate(({ requests }) => requests.ok), 'not answered': rate(failed) };
  return overTime({ name: 'Requests', yTitle: 'requests/s', yScale: 'amount', lines }, moments);
}

export function latencyChart(moments: readonly Moment[]): Html {
  const quantile =
    (of: 'p50' | 'p99' | 'p999') =>
    ({ recent }: LiveModel) =>
      recent?.latency == null ? undefined : 1000 * recent.latency[of];
  const lines = { p50: quantile('p50'), p99: quantile('p99'), 'p99.9': quantile('p999') };
  return overTime({ name: 'Time to the answer', yTitle: 'ms', yScale: 'log', lines }, moments);
}

export function hotChart(moments: readonly Moment[]): Html {
  const lines = { 'hot rows': ({ coverage }: LiveModel) => coverage.share ?? undefined };
  return overTime({ name: 'Hot rows', yTitle: 'share of lookups', yScale: 'share', lines }, moments);
}

export function queueChart(moments: readonly Moment[]): Html {
  const lines = {
    'samples that wait': ({ queue }: LiveModel) => queue.samples,
    'samples of a batch': ({ recent }: LiveModel) => recent?.batch?.samples,
  };
  return overTime({ name: 'Queue and batches', yTitle: 'samples', yScale: 'amount', lines }, moments);
}

export function busyChart(moments: readonly Moment[]): Html {
  const lines = { busy: ({ recent }: LiveModel) => recent?.busy };
  return overTime({ name: 'Engines', yTitle: 'share of time', yScale: 'share', lines }, moments);
}

/** Where the time of a request goes: lately, and since the server started. */
export function phasesChart({ recent, total }: LiveModel): Html {
  const bar = (label: string, span: Span | null): BarChart['panels'][number]['bars'] => {
    const phases = span?.phases;
    if (phases == null) return [];
    const parts = PHASE_NAMES.map((phase) => 1000 * phases[phase]);
    const whole = parts.reduce((sum, part) => sum + part, 0);
    return [{ label, text: `${significant(whole)} ms`, parts }];
  };
  const bars = [...bar('the last 10 s', recent), ...bar('since the start', total)];
  if (bars.length === 0) return html`<p class="note">No request was answered yet.</p>`;
  const legend = [...PHASE_NAMES];
  const chart: BarChart = { kind: 'bars', axis: 'ms', legend, references: [], panels: [{ title: '', bars }] };
  return html`${drawLegend(chart)}${drawBars('Where the time goes', chart)}`;
}

/** A table whose first column names the rows. */
function table(label: string, columns: readonly string[], rows: readonly (readonly Content[])[]): Html {
  const head = columns.map((column) => html`<th scope="col">${column}</th>`);
  const body = rows.map(([name, ...cells]) => {
    return html`<tr><th scope="row">${name}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`;
  });
  return html`<div class="scroll" tabindex="0" role="group" aria-label="${label}"><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}

const figured = (key: string, content: Content) => html`<span data-figure="${key}">${content}</span>`;

export function hotTables({ coverage: { tables } }: LiveModel): Html {
  if (tables.length === 0) return html`<p class="note">Nothing is known of single tables yet.</p>`;
  const rows = [...tables]
    .sort((a, b) => b.share - a.share)
    .map(({ table, share }) => [table, percent(share, 1)]);
  return table('share of lookups to hot rows, by table', ['table', 'to hot rows'], rows);
}

/** What became of requests, and what was done for them. */
export function outcomesTable({ recent, total }: LiveModel): Html {
  const lately = (value: number | undefined) =>
    recent === null || value === undefined ? NONE : rateText(perSecond(value, recent));
  const rows: Content[][] = OUTCOME_NAMES.map((outcome) => [
    html`<code>${outcome}</code>, ${OUTCOMES[outcome]}`,
    lately(recent?.requests[outcome]),
    figured(`total-${outcome}`, count(total.requests[outcome])),
  ]);
  rows.push(
    ['samples scored', lately(recent?.samples), figured('total-samples', count(total.samples))],
    ['batches', lately(recent?.batches), figured('total-batches', count(total.batches))],
  );
  const times: Content[][] = (['p50', 'p99', 'p999'] as const).map((q) => [
    q === 'p999' ? 'p99.9' : q,
    ms(recent?.latency?.[q]),
    figured(`total-${q}`, ms(total.latency?.[q])),
  ]);
  const counted = table('requests by what became of them', ['requests', 'a second', 'since the start'], rows);
  return html`${counted}<p></p>${table('time to the answer', ['time to the answer', 'the last 10 s', 'since the start'], times)}`;
}

const STATES: Readonly<Record<LiveModel['state'], string>> = {
  READY: 'ready',
  LOADING: 'loading',
  UNLOADING: 'being unloaded',
  UNAVAILABLE: 'not served',
};

const stateOf = ({ state, reason }: LiveModel) => `${STATES[state]}${reason === '' ? '' : `: ${reason}`}`;

export function modelFacts(model: LiveModel): Html {
  const { version, served, loadedAt, loads, patch } = model;
  const facts = [
    fact('version', 'version', version === '' ? NONE : version),
    fact('state', 'state', stateOf(model)),
    fact('device', 'device', served?.device ?? NONE),
    fact('copies', 'copies', count(served?.copies ?? 0)),
    fact('precision', 'precision', served?.precision ?? NONE),
    fact('plan', 'plan', served?.plan ?? NONE),
    fact('loaded', 'loaded', time(loadedAt)),
    fact('loads', 'loads', `${count(loads.ok)} done, ${count(loads.failed)} failed`),
  ];
  if (patch !== null) {
    const written = patch.writtenAt === null ? '' : `, written ${time(patch.writtenAt)}`;
    facts.push(
      fact('row patches', 'patch', patch.number === 0 ? 'none' : `up to ${count(patch.number)}${written}`),
    );
  }
  return html`${facts}`;
}

export function modelsTable({ models }: LiveEvent): Html {
  const rows = models.map((model): Content[] => {
    const { name, version, served, recent } = model;
    return [
      name,
      version,
      STATES[model.state],
      served?.device ?? NONE,
      recent === null ? NONE : rateText(perSecond(recent.requests.ok, recent)),
      ms(recent?.latency?.p99),
    ];
  });
  return table('all models', ['model', 'version', 'state', 'device', 'requests/s', 'p99'], rows);
}

export function serverFacts({ server }: LiveEvent): Html {
  const { slots, connections, devices } = server;
  return html`${[
    fact('Hotrow', 'hotrow', server.version),
    fact('started', 'started', time(server.startedAt)),
    fact('connections', 'connections', `HTTP ${count(connections.http)}, gRPC ${count(connections.grpc)}`),
    fact(
      'memory of requests',
      'slots',
      `${formatBytes(slots.usedBytes)} of ${formatBytes(slots.capacityBytes)}; ${count(slots.waiting)} wait`,
    ),
    fact('received', 'received', formatBytes(server.receivedBytes)),
    fact('sent', 'sent', formatBytes(server.sentBytes)),
    fact('requests for no model of it', 'strays', count(server.strays)),
    ...devices.map(({ device, freeBytes, totalBytes }) =>
      fact(
        `memory of ${device}`,
        `memory-${device}`,
        `${formatBytes(totalBytes - freeBytes)} of ${formatBytes(totalBytes)} in use`,
      ),
    ),
  ]}`;
}

export function modelOptions(models: readonly LiveModel[]): Html {
  return html`${models.map(({ name }) => html`<option>${name}</option>`)}`;
}
