/** A server: its threads, from start to end. */
import { addAbortListener } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { at } from '../at.ts';
import { deferred } from '../deferred.ts';
import { ServeError } from '../errors.ts';
import type { NativeMemory } from '../ffi/host-memory.ts';
import { packageFile } from '../package-file.ts';
import { type ArenaPlace, arenaMemory } from './engine/arena.ts';
import type {
  BatchingLimits,
  EngineReady,
  EngineStart,
  FromEngine,
  Line,
  ToEngine,
  TrafficRecording,
} from './engine/engine-thread.ts';
import type { ModelSource, Placing } from './engine/model-source.ts';
import { ringMemory } from './engine/ring.ts';
import { receivedError } from './engine/thread-errors.ts';
import { ServerFigures } from './figures.ts';
import { DEFAULT_FRONT_LIMITS, type FrontLimits } from './http/front-door.ts';
import type { FromFront, FrontStart, ToFront } from './http/http-thread.ts';
import { type Listeners, listenAt } from './listening-socket.ts';
import type { EngineQueues } from './requests/engine-lines.ts';
import type { ModelAtFront } from './requests/infer-model.ts';
import type { Security } from './security/security.ts';
import { ServerThread } from './server-thread.ts';
import { ServerState } from './state.ts';

/** A model to serve. */
export interface ServeModel {
  readonly name: string;
  readonly version: string;
  readonly source: ModelSource;
  /** Its copies, one on each. */
  readonly placings: readonly Placing[];
}

export interface ServeOptions {
  readonly models: readonly ServeModel[];
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
  /** Whether each request is a line of JSON on standard output. */
  readonly logsAccess?: boolean;
  /** How long threads poll after there was something to do, before they sleep; default: by devices and cores. */
  readonly pollMs?: number;
  /** Default: nothing is recorded. With several models or copies, each has a folder in it. */
  readonly recording?: TrafficRecording;
  readonly signal?: AbortSignal;
  /** What its threads run; default: the package's own. */
  readonly programs?: { readonly engine: string; readonly front: string };
}

/** What happens, for a log. */
export type ServerEvent =
  | { readonly kind: 'loading'; readonly model: string; readonly device: string; readonly text: string }
  | { readonly kind: 'loaded'; readonly model: string; readonly ready: EngineReady }
  | {
      readonly kind: 'listening';
      readonly host: string;
      readonly port: number;
      readonly grpcPort?: number;
      readonly tls: boolean;
    }
  | { readonly kind: 'draining' }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'error'; readonly error: Error }
  | { readonly kind: 'closed' };

const NO_SECURITY: Security = { access: { origins: [] } };

/** Entries of a queue between two threads. */
const QUEUE_ENTRIES = 1 << 14;
const STOP_MS = 10_000;
/** After a thread has failed: its requests never end. */
const FAILED_MS = 1000;

interface RunningEngine {
  readonly thread: ServerThread<ToEngine, FromEngine>;
  readonly model: ServeModel;
  readonly bell: SharedArrayBuffer;
  readonly load: SharedArrayBuffer;
  readonly lines: readonly Line[];
  readonly ready: Promise<EngineReady>;
}

interface RunningFront {
  readonly thread: ServerThread<ToFront, FromFront>;
  readonly memory: NativeMemory;
  readonly begun: Promise<void>;
  readonly listening: Promise<void>;
  readonly drained: Promise<void>;
}

const programOf = (name: string) => packageFile(`dist/serve/${name}-thread.js`);

const word = () => new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);

export class Server {
  readonly #options: ServeOptions;
  readonly #state: SharedArrayBuffer = word();
  readonly #engines: RunningEngine[] = [];
  readonly #fronts: RunningFront[] = [];
  readonly #figures = new ServerFigures();
  #security: Security;
  #port = 0;
  #grpcPort: number | undefined;
  #closing: Promise<void> | undefined;
  #isGivenUp = false;
  #hasFailed = false;
  #fail: (error: Error) => void = () => {};
  /** Rejects when a thread fails that the server cannot be without. */
  readonly failed: Promise<never>;

  private constructor(options: ServeOptions) {
    this.#options = options;
    this.#security = options.security ?? NO_SECURITY;
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
    // An address that is taken is told before a model of any size is loaded.
    const listeners = await listenAt(options);
    const server = new Server(options);
    const { signal } = options;
    const givenUp = deferred<never>();
    const giveUp = () => givenUp.reject(new ServeError('SHUTTING_DOWN', 'the start was given up'));
    using _watching = signal && addAbortListener(signal, giveUp);
    const starting = server.#start(listeners);
    try {
      await Promise.race([starting, server.failed, givenUp.promise]);
      return server;
    } catch (error) {
      server.#isGivenUp = true;
      await server.#end();
      // It ends with its threads, and starts no more.
      await starting.catch(() => {});
      throw error;
    } finally {
      listeners.http.close();
      listeners.grpc?.close();
    }
  }

  /** The port that it listens on. */
  get port(): number {
    return this.#port;
  }

  /** The port that it speaks gRPC on; undefined: none. */
  get grpcPort(): number | undefined {
    return this.#grpcPort;
  }

  /** Checks requests by these rules from now on, and shakes hands with these certificates. Connections that are open go on. */
  renew(security: Security): void {
    this.#security = security;
    for (const { thread } of this.#fronts) thread.say({ kind: 'renew', security });
  }

  /** Is not ready any more, answers what has come and what comes on open connections, and ends. */
  close(): Promise<void> {
    this.#closing ??= this.#drain();
    return this.#closing;
  }

  async #start(listeners: Listeners): Promise<void> {
    const { models, ioThreads, onEvent, host } = this.#options;
    const bells = Array.from({ length: ioThreads }, word);
    for (const model of models)
      for (const [i, placing] of model.placings.entries())
        this.#engines.push(this.#startEngine(model, placing, String(i), bells));
    const readies = await Promise.all(
      this.#engines.map(async ({ ready, model }) => {
        const said = await ready;
        this.#figures.add([said.metrics]);
        this.#figures.addModel(model.name, model.version);
        onEvent({ kind: 'loaded', model: model.name, ready: said });
        return said;
      }),
    );
    if (this.#isGivenUp) return;
    const fronts = models.map((model) => this.#atFront(model, readies));
    const pollMs = Math.max(...readies.map((ready) => ready.pollMs));
    for (let i = 0; i < ioThreads; i++)
      this.#fronts.push(this.#startFront(listeners, at(bells, i), i, fronts, pollMs));
    await Promise.all(this.#fronts.map(({ begun }) => begun));
    const arenas = this.#fronts.map(({ memory }) => placeOf(memory));
    this.#figures.slotBytes = arenas.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { thread } of this.#engines) thread.say({ kind: 'begin', arenas });
    for (const { thread } of this.#fronts) thread.say({ kind: 'listen' });
    await Promise.all(this.#fronts.map(({ listening }) => listening));
    for (const { thread } of this.#engines) thread.say({ kind: 'count' });
    new ServerState(this.#state).phase = 'ready';
    this.#port = listeners.http.port;
    this.#grpcPort = listeners.grpc?.port;
    onEvent({
      kind: 'listening',
      host,
      port: this.#port,
      tls: this.#security.tls !== undefined,
      ...(this.#grpcPort === undefined ? {} : { grpcPort: this.#grpcPort }),
    });
  }

  /** Calls `fail` when the thread ends, however it does. The server fails with it, unless it ends. */
  #watch(thread: { readonly ended: Promise<void> }, fail: (error: Error) => void): void {
    const ended = () => {
      const error = new Error('a thread of the server ended');
      fail(error);
      if (this.#closing === undefined) this.#fail(error);
    };
    const failed = (error: Error) => {
      fail(error);
      this.#lose(error);
    };
    thread.ended.then(ended, failed);
  }

  /** A thread has failed. */
  #lose(error: Error): void {
    if (this.#closing === undefined) this.#fail(error);
    else this.#options.onEvent({ kind: 'error', error });
  }

  #startEngine(
    model: ServeModel,
    placing: Placing,
    instance: string,
    bells: readonly SharedArrayBuffer[],
  ): RunningEngine {
    const { batching, onEvent, programs } = this.#options;
    const program = programs?.engine ?? programOf('engine');
    const lines = bells.map((bell): Line => {
      return { requests: ringMemory(QUEUE_ENTRIES), answers: ringMemory(QUEUE_ENTRIES), bell };
    });
    const bell = word();
    const start: EngineStart = {
      model: model.name,
      instance,
      recording: this.#recordingOf(model, instance),
      source: model.source,
      placing,
      limits: batching,
      bell,
      lines,
      pollMs: this.#options.pollMs,
      pollers: this.#copies + bells.length,
    };
    const said = deferred<EngineReady>();
    const thread = new ServerThread<ToEngine, FromEngine>(program, start, (message) => {
      switch (message.kind) {
        case 'progress':
          onEvent({ kind: 'loading', model: model.name, device: placing.device, text: message.text });
          break;
        case 'ready':
          said.resolve(message.ready);
          break;
        case 'fits':
          this.#figures.fits(model.name, instance, message.fits);
          break;
        case 'batch-failed':
          onEvent({ kind: 'error', error: receivedError(message.error) });
          break;
        case 'failed': {
          const error = receivedError(message.error);
          said.reject(error);
          this.#lose(error);
          break;
        }
        default:
          message satisfies never;
      }
    });
    this.#watch(thread, said.reject);
    return { thread, model, bell, load: word(), lines, ready: said.promise };
  }

  /** Of all models. */
  get #copies(): number {
    return this.#options.models.reduce((sum, { placings }) => sum + placings.length, 0);
  }

  /** Each copy of a model writes to a folder of its own. */
  #recordingOf({ name }: ServeModel, instance: string): TrafficRecording | undefined {
    const { recording } = this.#options;
    if (recording === undefined) return undefined;
    const diskBytes = Math.ceil(recording.diskBytes / this.#copies);
    if (this.#copies === 1) return recording;
    return { ...recording, diskBytes, folder: join(recording.folder, `${name}-${instance}`) };
  }

  #atFront(model: ServeModel, readies: readonly EngineReady[]): ModelAtFront {
    const engines = this.#engines.flatMap((engine, i) => (engine.model === model ? [i] : []));
    const { inputs, tableRows, outputs, shape } = at(readies, at(engines, 0));
    const { name, version } = model;
    return { served: { name, version, inputs, tableRows, outputs }, shape, engines };
  }

  #startFront(
    listeners: Listeners,
    bell: SharedArrayBuffer,
    index: number,
    models: readonly ModelAtFront[],
    pollMs: number,
  ): RunningFront {
    const {
      limits = DEFAULT_FRONT_LIMITS,
      slaMs,
      requestBytes,
      ioThreads,
      onEvent,
      programs,
    } = this.#options;
    const program = programs?.front ?? programOf('http');
    const queues = this.#engines.map(({ lines, bell, load }): EngineQueues => {
      const { requests, answers } = at(lines, index);
      return { requests, answers, bell, load };
    });
    const share = (all: number) => Math.ceil(all / ioThreads);
    const memory = arenaMemory(share(requestBytes));
    const start: FrontStart = {
      name: `http-${index}`,
      fd: listeners.http.fd,
      grpcFd: listeners.grpc?.fd,
      state: this.#state,
      bell,
      queues,
      queueEntries: QUEUE_ENTRIES,
      pollMs,
      models,
      arena: placeOf(memory),
      slaMs,
      security: this.#security,
      limits: { ...limits, connections: share(limits.connections) },
      logsAccess: this.#options.logsAccess ?? false,
    };
    const begun = deferred<void>();
    const listening = deferred<void>();
    const drained = deferred<void>();
    const fail = (error: Error) => {
      begun.reject(error);
      listening.reject(error);
      drained.reject(error);
    };
    const thread = new ServerThread<ToFront, FromFront>(program, start, (message) => {
      switch (message.kind) {
        case 'begun':
          this.#figures.add(message.metrics);
          begun.resolve();
          break;
        case 'document': {
          const { number, document } = message;
          thread.say({ kind: 'document', number, text: this.#figures.document(document) });
          break;
        }
        case 'slots':
          this.#figures.slots(index, message);
          break;
        case 'listening':
          listening.resolve();
          break;
        case 'drained':
          drained.resolve();
          break;
        case 'error':
          onEvent({ kind: 'error', error: receivedError(message.error) });
          break;
        case 'failed': {
          const error = receivedError(message.error);
          fail(error);
          this.#lose(error);
          break;
        }
        default:
          message satisfies never;
      }
    });
    this.#watch(thread, fail);
    return { thread, memory, begun: begun.promise, listening: listening.promise, drained: drained.promise };
  }

  async #drain(): Promise<void> {
    const { onEvent, drainMs, stopMs = STOP_MS } = this.#options;
    onEvent({ kind: 'draining' });
    const state = new ServerState(this.#state);
    state.phase = 'draining';
    for (const { thread } of this.#fronts) thread.say({ kind: 'drain' });
    const drained = this.#fronts.map((front) => front.drained);
    if (this.#hasFailed || !(await settleWithin(drained, drainMs))) {
      state.phase = 'closed';
      for (const { thread } of this.#fronts) thread.say({ kind: 'end' });
      await settleWithin(drained, this.#hasFailed ? FAILED_MS : stopMs);
    }
    state.phase = 'closed';
    for (const { thread } of this.#engines) thread.say({ kind: 'stop' });
    const ended = this.#engines.map(({ thread }) => thread.ended);
    if (!(await settleWithin(ended, stopMs)))
      onEvent({ kind: 'error', error: new Error(`engines did not stop in ${stopMs} ms`) });
    await this.#end();
    onEvent({ kind: 'closed' });
  }

  /** Ends all threads, and gives their memory back. */
  async #end(): Promise<void> {
    await Promise.all([...this.#engines, ...this.#fronts].map(({ thread }) => thread.terminate()));
    for (const { memory } of this.#fronts) memory[Symbol.dispose]();
  }
}

function placeOf({ address, bytes }: NativeMemory): ArenaPlace {
  return { address: Number(address), bytes };
}

/** Waits until all have settled, so long at most; whether they have. */
async function settleWithin(works: readonly Promise<unknown>[], ms: number): Promise<boolean> {
  const waiting = new AbortController();
  const late = sleep(ms, false, { signal: waiting.signal }).catch(() => false);
  try {
    return await Promise.race([Promise.allSettled(works).then(() => true), late]);
  } finally {
    waiting.abort();
  }
}
