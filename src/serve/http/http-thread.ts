/** The program of a thread that receives requests. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Deferred, deferred } from '../../deferred.ts';
import { duplicateDescriptor } from '../../ffi/descriptors.ts';
import { type ArenaPlace, SlotArena } from '../engine/arena.ts';
import { type SentError, sentError } from '../engine/thread-errors.ts';
import type { CallOptions } from '../grpc/calls.ts';
import { GrpcDoor } from '../grpc/grpc-door.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import { type EngineQueues, Engines } from '../requests/engine-lines.ts';
import { FrontModels } from '../requests/front-models.ts';
import { InferModel, type ModelAtFront } from '../requests/infer-model.ts';
import type { Security } from '../security/security.ts';
import { ServerState } from '../state.ts';
import { FrontDoor, type FrontLimits } from './front-door.ts';
import { warmUp } from './infer.ts';
import { FrontWatch } from './watch.ts';

/** What the thread is started with. */
export interface FrontStart {
  /** Its name in metrics. */
  readonly name: string;
  /** A listening socket, which all threads share. */
  readonly fd: number;
  /** The same for gRPC, where it is spoken. */
  readonly grpcFd: number | undefined;
  readonly state: SharedArrayBuffer;
  readonly bell: SharedArrayBuffer;
  readonly queues: readonly EngineQueues[];
  /** Entries of each queue. */
  readonly queueEntries: number;
  /** How long it polls for answers. */
  readonly pollMs: number;
  readonly models: readonly ModelAtFront[];
  /** Memory of the main thread: engines write to it, whatever becomes of this thread. */
  readonly arena: ArenaPlace;
  readonly slaMs: number | undefined;
  readonly limits: FrontLimits;
  readonly security: Security;
  /** Whether each request is a line on standard output. */
  readonly logsAccess: boolean;
}

/** A document that the main thread makes, of what all threads counted. */
export type Document =
  | { readonly kind: 'metrics' }
  | { readonly kind: 'statistics'; readonly models: readonly string[] };

export type ToFront =
  | { readonly kind: 'listen' }
  | { readonly kind: 'renew'; readonly security: Security }
  | { readonly kind: 'drain' }
  | { readonly kind: 'end' }
  | { readonly kind: 'document'; readonly number: number; readonly text: string };
export type FromFront =
  | { readonly kind: 'begun'; readonly metrics: readonly SharedMetrics[] }
  | { readonly kind: 'listening' }
  | { readonly kind: 'drained' }
  | { readonly kind: 'document'; readonly number: number; readonly document: Document }
  /** From time to time: bytes of slots, and requests at the engines. */
  | { readonly kind: 'slots'; readonly used: number; readonly waiting: number }
  | { readonly kind: 'error'; readonly error: SentError }
  | { readonly kind: 'failed'; readonly error: SentError };

/** How often what changes slowly is told. */
const REPORT_MS = 1000;

const port = parentPort;
if (port === null) throw new TypeError('requests are received in a thread of a server');
const say = (message: FromFront) => port.postMessage(message);

/** Documents that the main thread is asked for. */
class Documents {
  readonly #asked = new Map<number, Deferred<string>>();
  #number = 0;

  ask(document: Document): Promise<string> {
    const number = this.#number++;
    const text = deferred<string>();
    this.#asked.set(number, text);
    say({ kind: 'document', number, document });
    return text.promise;
  }

  receive(number: number, text: string): void {
    this.#asked.get(number)?.resolve(text);
    this.#asked.delete(number);
  }
}

function main(start: FrontStart): void {
  const arena = new SlotArena(start.arena);
  const engines = new Engines(start.queues, start.bell, start.queueEntries, start.pollMs);
  const models = new FrontModels();
  for (const model of start.models) models.serve(new InferModel(model, engines, start.limits.bodyBytes));
  const access = (line: string) => process.stdout.write(`${line}\n`);
  const watch = new FrontWatch(start.name, models.all, start.logsAccess ? access : undefined);
  const documents = new Documents();
  const options: CallOptions = {
    state: new ServerState(start.state),
    models,
    arena,
    slaMs: start.slaMs,
    limits: start.limits,
    security: start.security,
    statistics: (models) =>
      documents.ask({ kind: 'statistics', models: models.map(({ served }) => served.name) }),
    observe: (request) => watch.request(request),
    onError: (error) => say({ kind: 'error', error: sentError(error) }),
  };
  const door = new FrontDoor({
    ...options,
    metrics: () => documents.ask({ kind: 'metrics' }),
    onConnection: (event) => watch.connection('http', event),
  });
  const grpc =
    start.grpcFd === undefined
      ? undefined
      : new GrpcDoor({ ...options, onConnection: (event) => watch.connection('grpc', event) });
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
  const obey = async (message: ToFront) => {
    switch (message.kind) {
      case 'listen':
        for (const model of models.all) await warmUp(model, arena);
        await door.listen(duplicateDescriptor(start.fd));
        if (start.grpcFd !== undefined) await grpc?.listen(duplicateDescriptor(start.grpcFd));
        say({ kind: 'listening' });
        break;
      case 'renew':
        door.renew(message.security);
        grpc?.renew(message.security);
        break;
      case 'drain':
        await Promise.all([door.drain(), grpc?.drain()]);
        await stop();
        // No engine has a slot any more: every request has ended.
        say({ kind: 'drained' });
        break;
      case 'end':
        door.end();
        grpc?.end();
        break;
      case 'document':
        documents.receive(message.number, message.text);
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
  main(workerData as FrontStart);
} catch (error) {
  say({ kind: 'failed', error: sentError(error) });
  port.close();
}
