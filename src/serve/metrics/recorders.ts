/** What each kind of thread counts. A recorder writes one block, which no other thread writes. Times are given in ms. */
import type { ErrorAnswer } from '../protocol/error-answer.ts';
import {
  DELAYS,
  OUTCOMES,
  type Outcome,
  PHASES,
  type Phase,
  PROTOCOLS,
  type Protocol,
} from './metric-list.ts';
import {
  type Counter,
  type Gauge,
  type Histogram,
  MetricsBlock,
  type Series,
  seriesOf,
} from './metrics-block.ts';

const OUTCOME_NAMES = Object.keys(OUTCOMES) as Outcome[];
const ENGINE_PHASES = (Object.keys(PHASES) as Phase[]).filter((phase) => phase !== 'answer');

/** What became of a request that was answered with an error. */
export function outcomeOf({ code, status }: Pick<ErrorAnswer, 'code' | 'status'>): Exclude<Outcome, 'ok'> {
  switch (code) {
    case 'OVERLOADED':
    case 'OUT_OF_MEMORY':
      return 'queue_full';
    case 'DEADLINE_UNMEETABLE':
      return 'deadline_unmeetable';
    case 'DEADLINE_EXCEEDED':
      return 'dropped_late';
    case 'SHUTTING_DOWN':
    case 'DISPOSED':
      return 'not_ready';
    case 'ABORTED':
      return 'cancelled';
    default:
      return status >= 500 ? 'internal' : 'bad_request';
  }
}

/** Something for each of some names. */
function byName<N extends string, T>(names: readonly N[], make: (name: N) => T): Readonly<Record<N, T>> {
  return Object.fromEntries(names.map((name) => [name, make(name)])) as Record<N, T>;
}

/** An I/O thread: its connections, and requests for models that are not there. */
export class IoMetrics {
  readonly block: MetricsBlock;
  readonly #connections: Readonly<Record<Protocol, Gauge>>;
  readonly #received: Readonly<Record<Protocol, Counter>>;
  readonly #sent: Readonly<Record<Protocol, Counter>>;
  readonly #requests: Readonly<Record<Protocol, Readonly<Record<Outcome, Counter>>>>;
  readonly #delays: Readonly<Record<(typeof DELAYS)[number], Gauge>>;

  /** `thread`: its name in metrics. */
  constructor(thread: string) {
    this.block = MetricsBlock.of([
      ...PROTOCOLS.flatMap((protocol) => [
        seriesOf('connections', { protocol }),
        seriesOf('received', { protocol }),
        seriesOf('sent', { protocol }),
        ...requestSeries('', protocol),
      ]),
      ...DELAYS.map((statistic) => seriesOf('eventLoopDelay', { thread, statistic })),
    ]);
    const { block } = this;
    this.#connections = byName(PROTOCOLS, (protocol) => block.gauge('connections', { protocol }));
    this.#received = byName(PROTOCOLS, (protocol) => block.counter('received', { protocol }));
    this.#sent = byName(PROTOCOLS, (protocol) => block.counter('sent', { protocol }));
    this.#requests = requestCounters(block, '');
    this.#delays = byName(DELAYS, (statistic) => block.gauge('eventLoopDelay', { thread, statistic }));
  }

  opened(protocol: Protocol): void {
    this.#connections[protocol].add(1);
  }

  closed(protocol: Protocol): void {
    this.#connections[protocol].add(-1);
  }

  received(protocol: Protocol, bytes: number): void {
    this.#received[protocol].add(bytes);
  }

  sent(protocol: Protocol, bytes: number): void {
    this.#sent[protocol].add(bytes);
  }

  /** A request that named no model of the server is over. */
  failed(protocol: Protocol, outcome: Exclude<Outcome, 'ok'>): void {
    this.#requests[protocol][outcome].add();
  }

  /** How late turns of the event loop came. */
  delays(ms: Readonly<Record<(typeof DELAYS)[number], number>>): void {
    for (const statistic of DELAYS) this.#delays[statistic].set(ms[statistic] / 1000);
  }
}

/** What an I/O thread counts of the requests for one model. */
export class RequestMetrics {
  readonly block: MetricsBlock;
  readonly #requests: Readonly<Record<Protocol, Readonly<Record<Outcome, Counter>>>>;
  readonly #ok: Histogram;
  readonly #error: Histogram;
  readonly #answer: Histogram;

  constructor(model: string) {
    this.block = MetricsBlock.of([
      ...PROTOCOLS.flatMap((protocol) => requestSeries(model, protocol)),
      seriesOf('duration', { model, result: 'ok' }),
      seriesOf('duration', { model, result: 'error' }),
      seriesOf('phases', { model, phase: 'answer' }),
    ]);
    const { block } = this;
    this.#requests = requestCounters(block, model);
    this.#ok = block.histogram('duration', { model, result: 'ok' });
    this.#error = block.histogram('duration', { model, result: 'error' });
    this.#answer = block.histogram('phases', { model, phase: 'answer' });
  }

  /** A request was answered with outputs. `answerMs`: from the outputs to the answer. */
  answered(protocol: Protocol, totalMs: number, answerMs: number): void {
    this.#requests[protocol].ok.add();
    this.#ok.observe(totalMs / 1000);
    this.#answer.observe(answerMs / 1000);
  }

  failed(protocol: Protocol, outcome: Exclude<Outcome, 'ok'>, totalMs: number): void {
    this.#requests[protocol][outcome].add();
    this.#error.observe(totalMs / 1000);
  }
}

function requestSeries(model: string, protocol: Protocol): Series[] {
  return OUTCOME_NAMES.map((outcome) => seriesOf('requests', { model, protocol, outcome }));
}

function requestCounters(block: MetricsBlock, model: string) {
  return byName(PROTOCOLS, (protocol) =>
    byName(OUTCOME_NAMES, (outcome) => block.counter('requests', { model, protocol, outcome })),
  );
}

/** A batch that ran. */
export interface RanBatch {
  readonly samples: number;
  readonly requests: number;
  readonly mergeMs: number;
  /** To the device and back; 0 where a device reads and writes host memory. */
  readonly copyMs: number;
  readonly computeMs: number;
}

/** Shares of lookups of hot rows; NaN: not known yet. */
export interface CoverageFigures {
  /** Of all tables. */
  readonly share: number;
  readonly tables: readonly { readonly table: string; readonly share: number }[];
}

export interface EngineOptions {
  readonly model: string;
  /** The instance of the model. */
  readonly instance: string;
  /** Names of the tables whose hot rows are shown one by one. */
  readonly tables?: readonly string[];
}

/** What the thread of a model's instance counts. */
export class EngineMetrics {
  readonly block: MetricsBlock;
  readonly #phases: Readonly<Record<Phase, Histogram>>;
  readonly #samples: Counter;
  readonly #batches: Counter;
  readonly #batchSamples: Histogram;
  readonly #batchRequests: Histogram;
  readonly #busy: Counter;
  readonly #queuedRequests: Gauge;
  readonly #queuedSamples: Gauge;
  readonly #last: Gauge;
  readonly #coverage: Gauge;
  readonly #tableCoverage: ReadonlyMap<string, Gauge>;

  constructor({ model, instance, tables = [] }: EngineOptions) {
    const named = [...new Set(tables)].filter((table) => table !== '');
    this.block = MetricsBlock.of([
      ...ENGINE_PHASES.map((phase) => seriesOf('phases', { model, phase })),
      seriesOf('samples', { model }),
      seriesOf('batches', { model }),
      seriesOf('batchSamples', { model }),
      seriesOf('batchRequests', { model }),
      seriesOf('busy', { model, instance }),
      seriesOf('queuedRequests', { model }),
      seriesOf('queuedSamples', { model }),
      seriesOf('lastInference', { model }),
      ...['', ...named].map((table) => seriesOf('coverage', { model, table })),
    ]);
    const { block } = this;
    this.#phases = byName(ENGINE_PHASES, (phase) => block.histogram('phases', { model, phase })) as Record<
      Phase,
      Histogram
    >;
    this.#samples = block.counter('samples', { model });
    this.#batches = block.counter('batches', { model });
    this.#batchSamples = block.histogram('batchSamples', { model });
    this.#batchRequests = block.histogram('batchRequests', { model });
    this.#busy = block.counter('busy', { model, instance });
    this.#queuedRequests = block.gauge('queuedRequests', { model });
    this.#queuedSamples = block.gauge('queuedSamples', { model });
    this.#last = block.gauge('lastInference', { model });
    this.#coverage = block.gauge('coverage', { model, table: '' });
    this.#tableCoverage = new Map(named.map((table) => [table, block.gauge('coverage', { model, table })]));
  }

  /** A request of a batch that ran had waited so long. */
  waited(queueMs: number): void {
    this.#phases.queue.observe(queueMs / 1000);
  }

  /** `now`: ms since 1970. */
  ran({ samples, requests, mergeMs, copyMs, computeMs }: RanBatch, now: number): void {
    this.#phases.merge.observe(mergeMs / 1000, requests);
    this.#phases.copy.observe(copyMs / 1000, requests);
    this.#phases.compute.observe(computeMs / 1000, requests);
    this.#samples.add(samples);
    this.#batches.add();
    this.#batchSamples.observe(samples);
    this.#batchRequests.observe(requests);
    this.#busy.add(Math.max(0, mergeMs + copyMs + computeMs) / 1000);
    this.#last.set(now / 1000);
  }

  /** What waits in the batcher now. */
  queued(requests: number, samples: number): void {
    this.#queuedRequests.set(requests);
    this.#queuedSamples.set(samples);
  }

  /** Tables that were not named are left aside. */
  coverage({ share, tables }: CoverageFigures): void {
    this.#coverage.set(share);
    for (const { table, share: own } of tables) this.#tableCoverage.get(table)?.set(own);
  }
}
