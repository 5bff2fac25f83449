/** A server: its threads, from start to end. */
import { addAbortListener } from 'node:events';
import { join } from 'node:path';
import { at } from '../at.ts';
import { deferred } from '../deferred.ts';
import { ServeError } from '../errors.ts';
import { readWhole } from '../opened-file.ts';
import { packageFile } from '../package-file.ts';
import { DEFAULT_FRONT_LIMITS, type FrontLimits } from './door.ts';
import type { BatchingLimits, TrafficRecording } from './engine/engine-messages.ts';
import type { Placing } from './engine/model-source.ts';
import { type MetricNames, ServerFigures } from './figures.ts';
import type { Question } from './http/http-thread.ts';
import { type Listeners, listenAt } from './listening-socket.ts';
import { PROTOCOLS } from './metrics/metric-list.ts';
import { EngineThreads } from './models/engine-threads.ts';
import { type StartedCopy, settleWithin } from './models/live-model.ts';
import { Models } from './models/models.ts';
import { type EngineEvents, QUEUE_ENTRIES, RunningEngine, word } from './models/running-engine.ts';
import { RunningFront } from './models/running-front.ts';
import type { ModelCatalog, ModelEvent, ReloadMode, ServeModel } from './models/serve-model.ts';
import { type PageDocument, pageDocument } from './page/document.ts';
import { LiveFeed } from './page/live-feed.ts';
import type { RepositoryEntry } from './protocol/documents.ts';
import type { Security } from './security/security.ts';
import { ServerState } from './state.ts';

export interface ServeOptions {
  /** What is served, or where it comes from. */
  readonly models: readonly ServeModel[] | ModelCatalog;
  /** What a model is loaded again where memory does not hold it twice; default: beside. */
  readonly reload?: ReloadMode;
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** The same for gRPC; undefined: it is not spoken. */
  readonly grpcPort?: number;
  /** Threads that receive requests. */
  readonly ioThreads: number;
  /** The time that requests have which do not say; undefined: all they need. */
  readonly slaMs?: number;
  readonly batching: BatchingLimits;
  readonly limits?: FrontLimits;
  /** Default: neither TLS nor tokens, and no page of another origin. */
  readonly security?: Security;
  /** For requests from their first byte until their answer, of all threads together. */
  readonly requestBytes: number;
  /** How long requests under way are waited for at the end. */
  readonly drainMs: number;
  /** How long its threads get to stop after that; default: 10 s. */
  readonly stopMs?: number;
  readonly onEvent: (event: ServerEvent) => void;
  /** Whose names metrics have; default: Hotrow's alone. */
  readonly metricNames?: MetricNames;
  /** Whether each request is a line of JSON on standard output. */
  readonly logsAccess?: boolean;
  /** Small requests that each thread sends itself before a model's first one; default: until their code is compiled. */
  readonly warmUpRequests?: number;
  /** How long threads poll after there was something to do, before they sleep; default: by devices and cores. */
  readonly pollMs?: number;
  /** Default: nothing is recorded. With several models or copies, or models that come and go, each copy has a folder in it. */
  readonly recording?: TrafficRecording;
  readonly signal?: AbortSignal;
  /** What its threads run; default: the package's own. */
  readonly programs?: { readonly engine: string; readonly front: string; readonly page: string };
}

/** What happens, for a log. */
export type ServerEvent =
  | ModelEvent
  | {
      readonly kind: 'listening';
      readonly host: string;
      readonly port: number;
      readonly grpcPort?: number;
      readonly tls: boolean;
    }
  | { readonly kind: 'draining' }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'closed' };

const NO_SECURITY: Security = { access: { origins: [] } };

const STOP_MS = 10_000;
/** After a thread has failed: requests are refused, and connections end, in so much time. */
const FAILED_MS = 1000;

const programOf = (name: string) => packageFile(`dist/serve/${name}-thread.js`);

function isCatalog(models: ServeOptions['models']): models is ModelCatalog {
  return 'find' in models && 'names' in models;
}

/** The models that were named when the server started. */
function fixedCatalog(models: readonly ServeModel[]): ModelCatalog {
  return {
    names: async () => models.map(({ name }) => name),
    find: async (name) => models.find((model) => model.name === name),
  };
}

export class Server {
  readonly #options: ServeOptions;
  readonly #listeners: Listeners;
  readonly #state: SharedArrayBuffer = word();
  /** Of the threads that receive requests. */
  readonly #bells: readonly SharedArrayBuffer[];
  readonly #fronts: RunningFront[] = [];
  readonly #figures: ServerFigures;
  readonly #engineThreads: EngineThreads;
  readonly #models: Models;
  readonly #page: PageDocument;
  readonly #feed: LiveFeed;
  #security: Security;
  #closing: Promise<void> | undefined;
  #isGivenUp = false;
  #hasFailed = false;
  #fail: (error: Error) => void = () => {};
  /** Rejects when a thread fails that the server cannot be without. */
  readonly failed: Promise<never>;

  private constructor(options: ServeOptions, listeners: Listeners, page: PageDocument) {
    this.#options = options;
    this.#listeners = listeners;
    this.#page = page;
    this.#security = options.security ?? NO_SECURITY;
    this.#figures = new ServerFigures(options.metricNames);
    const { models, ioThreads, stopMs = STOP_MS, onEvent, programs } = options;
    this.#bells = Array.from({ length: ioThreads }, word);
    this.#engineThreads = new EngineThreads(programs?.engine ?? programOf('engine'), (error) =>
      onEvent({ kind: 'error', error }),
    );
    this.#models = new Models({
      threads: this.#engineThreads,
      catalog: isCatalog(models) ? models : fixedCatalog(models),
      fronts: this.#fronts,
      figures: this.#figures,
      startEngine: (...args) => this.#startEngine(...args),
      stopMs,
      reload: options.reload ?? 'beside',
      onEvent,
      onLost: (error) => this.#lose(error),
    });
    this.#feed = new LiveFeed({
      read: () => this.#figures.reading(this.#closing !== undefined, this.#models.described()),
      send: (thread, text) => at(this.#fronts, thread).event(text),
      onError: (error) => onEvent({ kind: 'error', error }),
    });
    this.failed = new Promise((_, reject) => {
      this.#fail = (error) => {
        this.#hasFailed = true;
        reject(error);
      };
    });
    this.failed.catch(() => {});
  }

  /**
   * Loads the models, warms them up, and listens.
   * @throws UsageError USAGE for an address that cannot be listened on; what loading a model throws. All threads have ended then.
   */
  static async start(options: ServeOptions): Promise<Server> {
    const script = String(await readWhole(options.programs?.page ?? packageFile('dist/serve/page.js')));
    // An address that is taken is told before a model of any size is loaded.
    const server = new Server(options, await listenAt(options), pageDocument(script));
    const { signal } = options;
    const givenUp = deferred<never>();
    const giveUp = () => givenUp.reject(new ServeError('SHUTTING_DOWN', 'the start was given up'));
    using _watching = signal && addAbortListener(signal, giveUp);
    const starting = server.#start();
    try {
      await Promise.race([starting, server.failed, givenUp.promise]);
      return server;
    } catch (error) {
      server.#isGivenUp = true;
      await server.#end();
      // It ends with its threads, and starts no more.
      await starting.catch(() => {});
      throw error;
    }
  }

  /** The port that it listens on. */
  get port(): number {
    return this.#listeners.http.port;
  }

  /** The port that it speaks gRPC on; undefined: none. */
  get grpcPort(): number | undefined {
    return this.#listeners.grpc?.port;
  }

  /** Checks requests by these rules from now on, and shakes hands with these certificates. Connections that are open go on. */
  renew(security: Security): void {
    this.#security = security;
    for (const front of this.#fronts) front.renew(security);
  }

  /** Reads again what there is to serve: what is new is loaded, what has changed is loaded again, what has gone is taken away. */
  refresh(): Promise<void> {
    return this.#models.refresh();
  }

  /** Is not ready any more, answers what has come and what comes on open connections, and ends. */
  close(): Promise<void> {
    this.#closing ??= this.#drain();
    return this.#closing;
  }

  async #start(): Promise<void> {
    const { ioThreads, onEvent, host } = this.#options;
    for (let i = 0; i < ioThreads; i++) this.#fronts.push(this.#startFront(i));
    await Promise.all(this.#fronts.map(({ begun }) => begun));
    this.#figures.slotBytes = this.#fronts.reduce((sum, { arena }) => sum + arena.bytes, 0);
    if (this.#isGivenUp) return;
    await this.#models.loadAll();
    if (this.#isGivenUp) return;
    this.#accept();
    this.#models.watchPatches();
    new ServerState(this.#state).phase = 'ready';
    onEvent({
      kind: 'listening',
      host,
      port: this.port,
      tls: this.#security.tls !== undefined,
      ...(this.grpcPort === undefined ? {} : { grpcPort: this.grpcPort }),
    });
  }

  /** Connections are spread over the threads from now on. */
  #accept(): void {
    const { limits = DEFAULT_FRONT_LIMITS, onEvent } = this.#options;
    for (const protocol of PROTOCOLS)
      this.#listeners[protocol]?.accept({
        to: this.#fronts.map(({ connections }) => connections[protocol]),
        limit: limits.connections,
        onError: (error) => onEvent({ kind: 'error', error: error as Error }),
      });
  }

  #endListening(): void {
    this.#listeners.http.close();
    this.#listeners.grpc?.close();
  }

  /** A thread has failed. */
  #lose(error: Error): void {
    if (this.#closing === undefined) this.#fail(error);
    else this.#options.onEvent({ kind: 'error', error });
  }

  #startEngine(
    model: ServeModel,
    placing: Placing,
    { instance, isBeside, known }: StartedCopy,
    events: EngineEvents,
  ): RunningEngine {
    const { batching } = this.#options;
    const start = {
      model: model.name,
      version: model.version,
      patches: model.patches,
      instance,
      recording: this.#recordingOf(model, instance),
      recordsLater: isBeside,
      source: model.source,
      placing,
      limits: { ...batching, ...model.batching },
      known,
      pollMs: this.#options.pollMs,
      pollers: this.#copies(model) + this.#bells.length,
    };
    return new RunningEngine(this.#engineThreads, start, this.#bells, events);
  }

  /** Copies of all models: those that were named, or those that run beside this one. */
  #copies({ placings }: ServeModel): number {
    const { models } = this.#options;
    if (isCatalog(models)) return Math.max(this.#models.copies, placings.length);
    return models.reduce((sum, { placings }) => sum + placings.length, 0);
  }

  /** Each copy of a model writes to a folder of its own. */
  #recordingOf(model: ServeModel, instance: string): TrafficRecording | undefined {
    const { recording, models } = this.#options;
    if (recording === undefined) return undefined;
    const copies = isCatalog(models) ? model.placings.length : this.#copies(model);
    if (copies === 1 && !isCatalog(models)) return recording;
    const diskBytes = Math.ceil(recording.diskBytes / copies);
    return { ...recording, diskBytes, folder: join(recording.folder, `${model.name}-${instance}`) };
  }

  #startFront(index: number): RunningFront {
    const options = this.#options;
    const { limits = DEFAULT_FRONT_LIMITS, slaMs, requestBytes, ioThreads, onEvent, programs } = options;
    const share = (all: number) => Math.ceil(all / ioThreads);
    const start = {
      name: `http-${index}`,
      speaksGrpc: this.#listeners.grpc !== undefined,
      state: this.#state,
      bell: at(this.#bells, index),
      queueEntries: QUEUE_ENTRIES,
      slaMs,
      security: this.#security,
      limits,
      logsAccess: options.logsAccess ?? false,
      warmUpRequests: options.warmUpRequests,
      page: this.#page,
    };
    return new RunningFront(programs?.front ?? programOf('http'), start, share(requestBytes), {
      metrics: (metrics) => void this.#figures.add(metrics),
      slots: (slots) => this.#figures.slots(index, slots),
      answer: (question) => this.#answer(question, index),
      unwatched: () => this.#feed.leave(index),
      failed: (error) => onEvent({ kind: 'error', error }),
      lost: (error) => this.#lose(error),
      ended: (error) => {
        if (this.#closing === undefined) this.#fail(error);
      },
    });
  }

  #index(): RepositoryEntry[] {
    const index = this.#models.index();
    if (this.#closing === undefined) return index;
    const reason = 'the server is shutting down';
    return index.map((entry) =>
      entry.state === 'READY' ? { ...entry, state: 'UNAVAILABLE', reason } : entry,
    );
  }

  /** What a thread that receives requests asks. */
  async #answer({ kind, of }: Question, front: number): Promise<unknown> {
    switch (kind) {
      case 'document':
        return this.#figures.document(of);
      case 'index':
        return this.#index();
      case 'load':
        return this.#models.load(of);
      case 'unload':
        return this.#models.unload(of);
      case 'patch':
        return this.#models.patch(of.model, of.bytes);
      case 'watch':
        return this.#feed.join(front);
      default:
        return kind satisfies never;
    }
  }

  async #drain(): Promise<void> {
    const { onEvent, drainMs, stopMs = STOP_MS } = this.#options;
    onEvent({ kind: 'draining' });
    const state = new ServerState(this.#state);
    state.phase = 'draining';
    this.#feed.end();
    this.#endListening();
    for (const front of this.#fronts) front.drain();
    const drained = this.#fronts.map((front) => front.drained);
    // Without an engine, requests are refused at once.
    if (this.#hasFailed) state.phase = 'closed';
    if (!(await settleWithin(drained, this.#hasFailed ? FAILED_MS : drainMs))) {
      state.phase = 'closed';
      for (const front of this.#fronts) front.end();
      await settleWithin(drained, this.#hasFailed ? FAILED_MS : stopMs);
    }
    state.phase = 'closed';
    if (!(await this.#models.stop(stopMs)))
      onEvent({ kind: 'error', error: new Error(`engines did not stop in ${stopMs} ms`) });
    await this.#end();
    onEvent({ kind: 'closed' });
  }

  /** Ends all threads, and gives their memory back. */
  async #end(): Promise<void> {
    this.#feed.end();
    this.#endListening();
    await Promise.all([this.#models.terminate(), ...this.#fronts.map((front) => front.terminate())]);
    for (const front of this.#fronts) front[Symbol.dispose]();
  }
}
