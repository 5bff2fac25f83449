/** An engine thread as the main thread has it: one copy of a model. */

import { at } from '../../at.ts';
import { type Deferred, deferred } from '../../deferred.ts';
import type { ArenaPlace } from '../engine/arena.ts';
import type {
  EngineReady,
  EngineStart,
  FromEngine,
  Line,
  OverwritingModel,
  ToEngine,
} from '../engine/engine-messages.ts';
import { ringMemory } from '../engine/ring.ts';
import { receivedError } from '../engine/thread-errors.ts';
import type { EngineQueues } from '../requests/engine-lines.ts';
import { ServerThread } from '../server-thread.ts';

/** Entries of a queue between two threads. */
export const QUEUE_ENTRIES = 1 << 14;

export interface EngineEvents {
  progress(text: string): void;
  /** How it is, from time to time. */
  state(state: Extract<FromEngine, { readonly kind: 'state' }>): void;
  /** What failed and does not end the engine. */
  failed(error: Error): void;
  /** The engine has ended, and nobody asked it to. It told so itself, or its thread ended. */
  lost(error: Error): void;
}

export const word = () => new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);

export class RunningEngine {
  readonly #thread: ServerThread<ToEngine, FromEngine>;
  readonly #lines: readonly Line[];
  readonly #bell = word();
  readonly #load = word();
  readonly #counts = word();
  readonly #events: EngineEvents;
  readonly #ready = deferred<EngineReady>();
  /** Its answers that are awaited, in their order. */
  readonly #asked: Deferred<void>[] = [];
  #prepared: Deferred<void> | undefined;
  #overwritten: Deferred<EngineReady> | undefined;
  #isStopped = false;
  #isLost = false;

  /** `bells`: of the threads that receive requests. */
  constructor(
    program: string,
    start: Omit<EngineStart, 'bell' | 'lines' | 'counts'>,
    bells: readonly SharedArrayBuffer[],
    events: EngineEvents,
  ) {
    this.#events = events;
    this.#lines = bells.map((bell): Line => {
      return { requests: ringMemory(QUEUE_ENTRIES), answers: ringMemory(QUEUE_ENTRIES), bell };
    });
    const all: EngineStart = { ...start, bell: this.#bell, lines: this.#lines, counts: this.#counts };
    this.#ready.promise.catch(() => {});
    this.#thread = new ServerThread<ToEngine, FromEngine>(program, all, (message) => this.#hear(message));
    this.#thread.ended.then(
      () => this.#lose(new Error('a thread of the server ended'), true),
      (error) => this.#lose(error, false),
    );
  }

  /** Resolves when its model is there and warm. Rejects with why it does not come. */
  get ready(): Promise<EngineReady> {
    return this.#ready.promise;
  }

  /** Settles when the thread has ended. */
  get ended(): Promise<void> {
    return this.#thread.ended;
  }

  /** Its queues to and from a thread that receives requests. */
  queues(front: number): EngineQueues {
    const { requests, answers } = at(this.#lines, front);
    return { requests, answers, bell: this.#bell, load: this.#load };
  }

  /** It answers requests from now on, whose memory is there. */
  begin(arenas: readonly ArenaPlace[]): void {
    this.#thread.say({ kind: 'begin', arenas });
  }

  /** Requests are clients' from now on: they count. */
  count(): void {
    Atomics.store(new Int32Array(this.#counts), 0, 1);
  }

  /** Applies a patch between two batches. Rejects where it does not take it; nothing of it is there then. */
  patch(bytes: Uint8Array, name: string): Promise<void> {
    const asked = deferred<void>();
    this.#asked.push(asked);
    if (this.#isLost) asked.reject(new Error('the engine has ended'));
    this.#thread.say({ kind: 'patch', bytes, name });
    return asked.promise;
  }

  /** Makes ready to write another model's weights over its own. Rejects with why that cannot be; it goes on as before then. */
  prepareOverwrite(by: OverwritingModel): Promise<void> {
    this.#prepared = deferred<void>();
    if (this.#isLost) this.#prepared.reject(new Error('the engine has ended'));
    this.#thread.say({ kind: 'prepare-overwrite', by });
    return this.#prepared.promise;
  }

  /** Writes them: no request comes meanwhile, and those that come first do not count. Rejects where that fails, and the engine ends. */
  overwrite(): Promise<EngineReady> {
    this.#overwritten = deferred<EngineReady>();
    if (this.#isLost) this.#overwritten.reject(new Error('the engine has ended'));
    Atomics.store(new Int32Array(this.#counts), 0, 0);
    this.#thread.say({ kind: 'overwrite' });
    return this.#overwritten.promise;
  }

  /** Nobody else writes to the folder of its recording any more. */
  record(): void {
    this.#thread.say({ kind: 'record' });
  }

  /** It ends when it has answered all that it was sent. */
  stop(): void {
    this.#isStopped = true;
    this.#thread.say({ kind: 'stop' });
  }

  terminate(): Promise<void> {
    this.#isStopped = true;
    return this.#thread.terminate();
  }

  #hear(message: FromEngine): void {
    switch (message.kind) {
      case 'progress':
        this.#events.progress(message.text);
        break;
      case 'ready':
        this.#ready.resolve(message.ready);
        break;
      case 'state':
        this.#events.state(message);
        break;
      case 'patched': {
        const asked = this.#asked.shift();
        if (message.error === undefined) asked?.resolve();
        else asked?.reject(receivedError(message.error));
        break;
      }
      case 'ready-to-overwrite':
        if (message.error === undefined) this.#prepared?.resolve();
        else this.#prepared?.reject(receivedError(message.error));
        break;
      case 'overwritten':
        this.#overwritten?.resolve(message.ready);
        break;
      case 'error':
        this.#events.failed(receivedError(message.error));
        break;
      case 'failed':
        this.#lose(receivedError(message.error), false);
        break;
      default:
        message satisfies never;
    }
  }

  /** `isEnd`: of an engine that was asked to end, nobody wonders. */
  #lose(error: Error, isEnd: boolean): void {
    this.#ready.reject(error);
    for (const { reject } of this.#asked.splice(0)) reject(error);
    this.#prepared?.reject(error);
    this.#overwritten?.reject(error);
    if (this.#isStopped) {
      if (!isEnd) this.#events.failed(error);
    } else if (!this.#isLost) this.#events.lost(error);
    this.#isLost = true;
  }
}
