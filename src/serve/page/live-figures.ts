/** The figures of the server's page: out of readings of the metrics, one after the other. Pure. */
import { at } from '../../at.ts';
import { printable } from '../../text.ts';
import {
  type LabelsOf,
  type MetricKey,
  metricOf,
  OUTCOMES,
  type Outcome,
  PHASES,
  type Phase,
  PROTOCOLS,
} from '../metrics/metric-list.ts';
import { seriesKey, seriesOf } from '../metrics/metrics-block.ts';
import { type Figure, LABEL_CHARACTERS } from '../metrics/registry.ts';
import type { RepositoryEntry } from '../protocol/documents.ts';
import {
  type LiveEvent,
  type LiveModel,
  type LiveServer,
  type Quantiles,
  RECENT_MS,
  type ServedHow,
  type Span,
} from './live-event.ts';
import { planFit } from './plan-fit.ts';
import { quantileOf } from './quantile.ts';

/** All that is known at one moment. */
export interface LiveReading {
  /** ms since 1970. */
  readonly at: number;
  /** As `MetricsRegistry.read` gives them. */
  readonly figures: readonly Figure[];
  readonly server: Pick<LiveServer, 'version' | 'startedAt' | 'isDraining'>;
  readonly models: readonly (RepositoryEntry & { readonly served: ServedHow | null })[];
}

export class LiveFigures {
  /** Of the last RECENT_MS, the oldest first. */
  #before: Read[] = [];

  /** What there is to say at a reading that is later than those before. */
  next(reading: LiveReading): LiveEvent {
    const now = new Read(reading);
    this.#before = this.#before.filter((earlier) => now.at - earlier.at <= RECENT_MS && earlier.at < now.at);
    const from = this.#before[0];
    this.#before.push(now);
    const start = new Read({ ...reading, at: reading.server.startedAt, figures: [] });
    return {
      at: now.at,
      server: serverFigures(now, reading.server),
      models: reading.models.map((model) => modelFigures(model, start, from, now)),
    };
  }
}

/** A reading, to be asked for single figures. */
class Read {
  readonly at: number;
  readonly figures: readonly Figure[];
  readonly #byKey: ReadonlyMap<string, Float64Array>;

  constructor({ at, figures }: LiveReading) {
    this.at = at;
    this.figures = figures;
    this.#byKey = new Map(figures.map((figure) => [seriesKey(figure), figure.values]));
  }

  values<K extends MetricKey>(metric: K, labels: LabelsOf<K>): Float64Array | undefined {
    return this.#byKey.get(seriesKey(seriesOf(metric, labels)));
  }

  /** Of a gauge or a counter; undefined: it is not there. */
  value<K extends MetricKey>(metric: K, labels: LabelsOf<K>): number | undefined {
    return this.values(metric, labels)?.[0];
  }

  /** The sum of all series of a metric whose first label is this one. */
  sum(metric: MetricKey, first: string): number {
    return this.figures
      .filter((figure) => figure.metric === metric && figure.labels[0] === first)
      .reduce((sum, { values }) => sum + at(values, 0), 0);
  }
}

/** What was counted between two readings. */
class Between {
  readonly seconds: number;
  readonly #from: Read;
  readonly #to: Read;

  constructor(from: Read, to: Read) {
    this.seconds = (to.at - from.at) / 1000;
    this.#from = from;
    this.#to = to;
  }

  count<K extends MetricKey>(metric: K, labels: LabelsOf<K>): number {
    return (this.#to.value(metric, labels) ?? 0) - (this.#from.value(metric, labels) ?? 0);
  }

  sum(metric: MetricKey, first: string): number {
    return this.#to.sum(metric, first) - this.#from.sum(metric, first);
  }

  histogram<K extends MetricKey>(metric: K, labels: LabelsOf<K>): Counted {
    const before = this.#from.values(metric, labels);
    const values = this.#to.values(metric, labels)?.map((value, i) => value - (before?.[i] ?? 0));
    return new Counted(metric, values ?? new Float64Array());
  }
}

/** What a histogram counted. */
class Counted {
  readonly count: number;
  readonly #values: Float64Array;
  readonly #bounds: readonly number[];

  /** `values`: of the buckets, and then their sum; none: nothing was counted. */
  constructor(metric: MetricKey, values: Float64Array) {
    const described = metricOf(metric);
    if (described.type !== 'histogram') throw new RangeError(`${metric} is no histogram`);
    this.#bounds = described.buckets.bounds;
    this.#values = values;
    this.count = values.subarray(0, -1).reduce((sum, own) => sum + own, 0);
  }

  /** NaN: nothing was counted. */
  get mean(): number {
    return (this.#values.at(-1) ?? 0) / this.count;
  }

  quantile(q: number): number {
    return quantileOf(this.#values.subarray(0, -1), this.#bounds, q);
  }
}

const OUTCOME_NAMES = Object.keys(OUTCOMES) as Outcome[];
const PHASE_NAMES = Object.keys(PHASES) as Phase[];

function spanOf(model: string, copies: number, between: Between): Span {
  const { seconds } = between;
  const answered = between.histogram('duration', { model, result: 'ok' });
  const batchSamples = between.histogram('batchSamples', { model });
  const batchRequests = between.histogram('batchRequests', { model });
  const quantiles: Quantiles = {
    p50: answered.quantile(0.5),
    p99: answered.quantile(0.99),
    p999: answered.quantile(0.999),
  };
  return {
    seconds,
    requests: fromNames(OUTCOME_NAMES, (outcome) =>
      PROTOCOLS.reduce((sum, protocol) => sum + between.count('requests', { model, protocol, outcome }), 0),
    ),
    samples: between.count('samples', { model }),
    batches: between.count('batches', { model }),
    busy: copies === 0 ? 0 : between.sum('busy', model) / (seconds * copies),
    latency: answered.count === 0 ? null : quantiles,
    phases: answered.count === 0 ? null : phasesOf(model, answered.mean, between),
    batch: batchSamples.count === 0 ? null : { samples: batchSamples.mean, requests: batchRequests.mean },
  };
}

function phasesOf(model: string, whole: number, between: Between): Record<Phase | 'other', number> {
  const phases = fromNames(PHASE_NAMES, (phase) => {
    const { count, mean } = between.histogram('phases', { model, phase });
    return count === 0 ? 0 : mean;
  });
  const known = PHASE_NAMES.reduce((sum, phase) => sum + phases[phase], 0);
  // Batches that have just run may belong to requests that are not answered yet.
  return { ...phases, other: Math.max(0, whole - known) };
}

function modelFigures(
  { name, version, state, reason, served }: LiveReading['models'][number],
  start: Read,
  from: Read | undefined,
  now: Read,
): LiveModel {
  const model = printable(name, LABEL_CHARACTERS);
  const labels = { model, version: printable(version, LABEL_CHARACTERS) };
  const copies = served?.copies ?? 0;
  const loaded = now.value('modelLoaded', labels);
  const patch = now.value('patchNumber', labels);
  const written = now.value('patchWritten', labels);
  const share = now.value('coverage', { model, table: '' }) ?? null;
  return {
    name: model,
    version: labels.version,
    state,
    reason: printable(reason, 1000),
    served,
    loadedAt: loaded === undefined ? null : 1000 * loaded,
    loads: {
      ok: now.value('modelLoads', { model, outcome: 'ok' }) ?? 0,
      failed: now.value('modelLoads', { model, outcome: 'failed' }) ?? 0,
    },
    patch:
      patch === undefined
        ? null
        : { number: patch, writtenAt: written === undefined ? null : 1000 * written },
    total: spanOf(model, copies, new Between(start, now)),
    recent: from === undefined ? null : spanOf(model, copies, new Between(from, now)),
    queue: {
      requests: now.value('queuedRequests', { model }) ?? 0,
      samples: now.value('queuedSamples', { model }) ?? 0,
    },
    coverage: { share, tables: tablesOf(model, now) },
    fit: planFit(served, share),
  };
}

function tablesOf(model: string, { figures }: Read): LiveModel['coverage']['tables'] {
  return figures.flatMap(({ metric, labels: [own, table = ''], values }) =>
    metric === 'coverage' && own === model && table !== '' ? [{ table, share: at(values, 0) }] : [],
  );
}

function serverFigures(now: Read, server: LiveReading['server']): LiveServer {
  const ofProtocols = (metric: 'received' | 'sent') =>
    PROTOCOLS.reduce((sum, protocol) => sum + (now.value(metric, { protocol }) ?? 0), 0);
  return {
    ...server,
    connections: fromNames(PROTOCOLS, (protocol) => now.value('connections', { protocol }) ?? 0),
    slots: {
      usedBytes: now.value('slotBytes', {}) ?? 0,
      capacityBytes: now.value('slotCapacity', {}) ?? 0,
      waiting: now.value('slotsWaiting', {}) ?? 0,
    },
    receivedBytes: ofProtocols('received'),
    sentBytes: ofProtocols('sent'),
    strays: now.sum('requests', ''),
    devices: now.figures.flatMap(({ metric, labels: [device = ''], values }) =>
      metric === 'deviceTotal'
        ? [{ device, freeBytes: now.value('deviceFree', { device }) ?? 0, totalBytes: at(values, 0) }]
        : [],
    ),
  };
}

function fromNames<N extends string>(names: readonly N[], of: (name: N) => number): Record<N, number> {
  return Object.fromEntries(names.map((name) => [name, of(name)])) as Record<N, number>;
}
