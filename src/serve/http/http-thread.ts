/** The program of a thread that receives requests. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Deferred, deferred } from '../../deferred.ts';
import type { DoorOptions, FrontLimits } from '../door.ts';
import { type ArenaPlace, SlotArena } from '../engine/arena.ts';
import { receivedError, type SentError, sentError } from '../engine/thread-errors.ts';
import { GrpcDoor } from '../grpc/grpc-door.ts';
import type { Protocol } from '../metrics/metric-list.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import type { PageDocument } from '../page/document.ts';
import type { RepositoryEntry } from '../protocol/documents.ts';
import type { PatchReceipt } from '../protocol/repository.ts';
import { Engines } from '../requests/engine-lines.ts';
import { FrontModels } from '../requests/front-models.ts';
import { InferModel, type ModelAtFront } from '../requests/infer-model.ts';
import type { Security } from '../security/security.ts';
import { ServerState } from '../state.ts';
import { FrontDoor } from './front-door.ts';
import { warmUp } from './infer.ts';
import { FrontWatch } from './watch.ts';
import { Watchers } from './watchers.ts';

/** What the thread is started with. */
export interface FrontStart {
  /** Its name in metrics. */
  readonly name: string;
  /** Whether it speaks gRPC too. */
  readonly speaksGrpc: boolean;
  /** Of the connections that are handed to it: `handOverMemory`. */
  readonly connections: Readonly<Record<Protocol, SharedArrayBuffer>>;
  readonly state: SharedArrayBuffer;
  readonly bell: SharedArrayBuffer;
  /** Entries of each queue to or from an engine. */
  readonly queueEntries: number;
  /** Memory of the main thread: engines write to it, whatever becomes of this thread. */
  readonly arena: ArenaPlace;
  readonly slaMs: number | undefined;
  readonly limits: FrontLimits;
  readonly security: Security;
  /** Whether each request is a line on standard output. */
  readonly logsAccess: boolean;
  readonly warmUpRequests: number | undefined;
  readonly page: PageDocument;
}

/** A document that the main thread makes, of what all threads counted. */
export type Document =
  | { readonly kind: 'metrics' }
  | { readonly kind: 'statistics'; readonly models: readonly string[] };

/** What the main thread is asked, and what it answers. */
export interface Questions {
  readonly document: { readonly of: Document; readonly answer: string };
  readonly index: { readonly of: undefined; readonly answer: readonly RepositoryEntry[] };
  readonly load: { readonly of: string; readonly answer: undefined };
  readonly unload: { readonly of: string; readonly answer: undefined };
  readonly patch: {
    readonly of: { readonly model: string; readonly bytes: Uint8Array };
    readonly answer: PatchReceipt;
  };
  /** Somebody watches from now on: the first event. */
  readonly watch: { readonly of: undefined; readonly answer: string };
}
export type Question = {
  [K in keyof Questions]: { readonly kind: K; readonly of: Questions[K]['of'] };
}[keyof Questions];

export type ToFront =
  /** Makes a model ready: `prepared` is the answer. */
  | { readonly kind: 'prepare'; readonly serial: number; readonly model: ModelAtFront }
  /** Requests go to a model that was prepared: `left` is the answer, once what it replaces has no request any more. */
  | { readonly kind: 'serve'; readonly serial: number }
  /** Requests for a model are refused: `left` is the answer, once it has no request any more. */
  | {
      readonly kind: 'withdraw';
      readonly serial: number;
      readonly model: string;
      readonly reason: string | undefined;
    }
  /** The engines of a model that was prepared have failed: requests for it do not wait for them. */
  | { readonly kind: 'abandon'; readonly serial: number }
  /** A connection, which is the thread's from now on. */
  | { readonly kind: 'connection'; readonly protocol: Protocol; readonly descriptor: number }
  | { readonly kind: 'renew'; readonly security: Security }
  /** No more connections come. */
  | { readonly kind: 'drain' }
  | { readonly kind: 'end' }
  /** For all that watch. */
  | { readonly kind: 'event'; readonly text: string }
  | { readonly kind: 'answer'; readonly number: number; readonly answer: unknown }
  | { readonly kind: 'refusal'; readonly number: number; readonly error: SentError };
export type FromFront =
  | { readonly kind: 'begun'; readonly metrics: readonly SharedMetrics[] }
  /** `metrics`: of a model that this thread has not had before. */
  | { readonly kind: 'prepared'; readonly serial: number; readonly metrics: readonly SharedMetrics[] }
  | { readonly kind: 'left'; readonly serial: number }
  | { readonly kind: 'drained' }
  | { readonly kind: 'question'; readonly number: number; readonly question: Question }
  /** One that watched has gone. */
  | { readonly kind: 'unwatched' }
  /** From time to time: bytes of slots, and requests at the engines. */
  | { readonly kind: 'slots'; readonly used: number; readonly waiting: number }
  | { readonly kind: 'error'; readonly error: SentError }
  | { readonly kind: 'failed'; readonly error: SentError };

/** How often what changes slowly is told. */
const REPORT_MS = 1000;

const port = parentPort;
if (port === null) throw new TypeError('requests are received in a thread of a server');
const say = (message: FromFront) => port.postMessage(message);

/** What the main thread was asked and has not answered. */
class Asking {
  readonly #asked = new Map<number, Deferred<unknown>>();
  #number = 0;

  ask<K extends keyof Questions>(kind: K, of: Questions[K]['of']): Promise<Questions[K]['answer']> {
    const number = this.#number++;
    const answer = deferred<unknown>();
    this.#asked.set(number, answer);
    say({ kind: 'question', number, question: { kind, of } as Question });
    return answer.promise as Promise<Questions[K]['answer']>;
  }

  receive(number: number, settle: (asked: Deferred<unknown>) => void): void {
    const asked = this.#asked.get(number);
    this.#asked.delete(number);
    if (asked !== undefined) settle(asked);
  }
}

function run(start: FrontStart): void {
  const arena = new SlotArena(start.arena);
  const engines = new Engines(start.bell, start.queueEntries);
  const models = new FrontModels();
  /** Until their last request has ended. */
  const bySerial = new Map<number, InferModel>();
  const access = (line: string) => process.stdout.write(`${line}\n`);
  const watch = new FrontWatch(start.name, start.logsAccess ? access : undefined);
  const main = new Asking();
  const options: Omit<DoorOptions, 'connections'> = {
    state: new ServerState(start.state),
    models,
    arena,
    slaMs: start.slaMs,
    limits: start.limits,
    security: start.security,
    statistics: (models) =>
      main.ask('document', { kind: 'statistics', models: models.map(({ served }) => served.name) }),
    repository: {
      index: () => main.ask('index', undefined),
      load: (model) => main.ask('load', model),
      unload: (model) => main.ask('unload', model),
      patch: (model, bytes) => main.ask('patch', { model, bytes }),
    },
    observe: (request) => watch.request(request),
    onError: (error) => say({ kind: 'error', error: sentError(error) }),
  };
  const watchers = new Watchers({
    join: () => main.ask('watch', undefined),
    leave: () => say({ kind: 'unwatched' }),
  });
  const door = new FrontDoor({
    ...options,
    connections: start.connections.http,
    page: start.page,
    watchers,
    metrics: () => main.ask('document', { kind: 'metrics' }),
    onConnection: (event) => watch.connection('http', event),
  });
  const grpc = start.speaksGrpc
    ? new GrpcDoor({
        ...options,
        connections: start.connections.grpc,
        onConnection: (event) => watch.connection('grpc', event),
      })
    : undefined;
  const receiving = engines.receive();
  const reporting = setInterval(() => {
    watch.publish();
    say({ kind: 'slots', used: arena.used, waiting: engines.waiting });
  }, REPORT_MS);
  const stop = async () => {
    engines.stop();
    await receiving;
    clearInterval(reporting);
    watch.close();
  };
  /** Ends a model that requests do not go to any more. */
  const leave = async (model: InferModel | undefined) => {
    await model?.retire();
    for (const [serial, own] of bySerial) if (own === model) bySerial.delete(serial);
  };
  const obey = async (message: ToFront) => {
    switch (message.kind) {
      case 'prepare': {
        const { serial } = message;
        const model = new InferModel(message.model, engines, start.limits.bodyBytes);
        bySerial.set(serial, model);
        await warmUp(model, arena, message.model.isCompiled, start.warmUpRequests);
        say({ kind: 'prepared', serial, metrics: watch.addModel(model.served.name) });
        break;
      }
      case 'serve': {
        const model = bySerial.get(message.serial);
        if (model === undefined) throw new RangeError(`there is no model ${message.serial}`);
        const before = models.serve(model);
        grpc?.changed();
        await leave(before);
        say({ kind: 'left', serial: message.serial });
        break;
      }
      case 'withdraw': {
        const before = models.withdraw(message.model, message.reason);
        grpc?.changed();
        await leave(before);
        say({ kind: 'left', serial: message.serial });
        break;
      }
      case 'abandon': {
        const model = bySerial.get(message.serial);
        model?.abandon();
        if (model !== undefined && models.served(model.served.name) !== model) await leave(model);
        break;
      }
      case 'connection':
        (message.protocol === 'http' ? door : grpc)?.receive(message.descriptor);
        break;
      case 'renew':
        door.renew(message.security);
        grpc?.renew(message.security);
        break;
      case 'event':
        watchers.send(message.text);
        break;
      case 'drain':
        watchers.end();
        await Promise.all([door.drain(), grpc?.drain()]);
        await stop();
        // No engine has a slot any more: every request has ended.
        say({ kind: 'drained' });
        break;
      case 'end':
        watchers.end();
        door.end();
        grpc?.end();
        break;
      case 'answer':
        main.receive(message.number, ({ resolve }) => resolve(message.answer));
        break;
      case 'refusal':
        main.receive(message.number, ({ reject }) => reject(receivedError(message.error)));
        break;
      default:
        message satisfies never;
    }
  };
  port?.on('message', (message: ToFront) => {
    obey(message).catch((error) => say({ kind: 'failed', error: sentError(error) }));
  });
  say({ kind: 'begun', metrics: watch.metrics });
}

try {
  run(workerData as FrontStart);
} catch (error) {
  say({ kind: 'failed', error: sentError(error) });
  port.close();
}
