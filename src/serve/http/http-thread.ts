/** The program of a thread that receives requests. */
import { parentPort, workerData } from 'node:worker_threads';
import { SlotArena } from '../engine/arena.ts';
import type { ArenaPlace } from '../engine/engine-thread.ts';
import { Bell } from '../engine/ring.ts';
import { type SentError, sentError } from '../engine/thread-errors.ts';
import { ServerState } from '../state.ts';
import { type EngineQueues, Engines } from './engine-lines.ts';
import { FrontDoor, type FrontLimits } from './front-door.ts';
import { InferModel, type ModelAtFront } from './infer.ts';

/** What the thread is started with. */
export interface FrontStart {
  /** A listening socket, which is the thread's own. */
  readonly fd: number;
  readonly state: SharedArrayBuffer;
  readonly bell: SharedArrayBuffer;
  readonly queues: readonly EngineQueues[];
  /** Entries of each queue. */
  readonly queueEntries: number;
  readonly models: readonly ModelAtFront[];
  readonly arenaBytes: number;
  readonly slaMs: number | undefined;
  readonly limits: FrontLimits;
}

export type ToFront = { readonly kind: 'listen' } | { readonly kind: 'drain' } | { readonly kind: 'end' };
export type FromFront =
  | { readonly kind: 'arena'; readonly arena: ArenaPlace }
  | { readonly kind: 'listening' }
  | { readonly kind: 'drained' }
  | { readonly kind: 'error'; readonly error: SentError }
  | { readonly kind: 'failed'; readonly error: SentError };

const port = parentPort;
if (port === null) throw new TypeError('requests are received in a thread of a server');
const say = (message: FromFront) => port.postMessage(message);

function main(start: FrontStart): void {
  const arena = new SlotArena(start.arenaBytes);
  const engines = new Engines(start.queues, start.bell, start.queueEntries);
  const models = start.models.map((model) => new InferModel(model, engines, start.limits.bodyBytes));
  const door = new FrontDoor({
    state: new ServerState(start.state),
    models,
    arena,
    slaMs: start.slaMs,
    limits: start.limits,
    metrics: () => '',
    statistics: () => '{"model_stats":[]}',
    observe: () => {},
    onError: (error) => say({ kind: 'error', error: sentError(error) }),
  });
  let isStopped = false;
  const receiving = engines.receive(() => isStopped);
  port?.on('message', async (message: ToFront) => {
    try {
      if (message.kind === 'listen') {
        for (const model of models) await model.warmUp(arena);
        await door.listen(start.fd);
        say({ kind: 'listening' });
      } else if (message.kind === 'drain') {
        await door.drain();
        isStopped = true;
        new Bell(start.bell).ring();
        await receiving;
        say({ kind: 'drained' });
      } else door.end();
    } catch (error) {
      say({ kind: 'failed', error: sentError(error) });
    }
  });
  say({ kind: 'arena', arena: { address: Number(arena.address), bytes: arena.bytes } });
}

try {
  main(workerData as FrontStart);
} catch (error) {
  say({ kind: 'failed', error: sentError(error) });
  port.close();
}
