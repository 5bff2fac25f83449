/** An engine as the main thread has it: one copy of a model, in a thread. */
import { at } from '../../at.ts';
import { type Deferred, deferred } from '../../deferred.ts';
import type { ArenaPlace } from '../engine/arena.ts';
import type {
  EngineReady,
  EngineStart,
  FromEngine,
  KnownTimes,
  Line,
  OverwritingModel,
  ToModel,
} from '../engine/engine-messages.ts';
import { ringMemory } from '../engine/ring.ts';
import { receivedError } from '../engine/thread-errors.ts';
import type { EngineQueues } from '../requests/engine-lines.ts';
import type { EngineThread, EngineThreads } from './engine-threads.ts';

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
  readonly #threads: EngineThreads;
  /** Until it is given back. */
  #thread: EngineThread | undefined;
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
  readonly #ended = deferred<void>();
  readonly isCompiled: boolean;
  #known: KnownTimes | undefined;
  #isStopped = false;
  #isLost = false;
  #hasFailed = false;

  /** `bells`: of the threads that receive requests. */
  constructor(
    threads: EngineThreads,
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
    this.#threads = threads;
    this.#thread = threads.take({
      hear: (message) => this.#hear(message),
      ended: (error) => {
        this.#thread = undefined;
        this.#lose(error ?? new Error('a thread of the server ended'), error === undefined);
        this.#ended.resolve();
      },
    });
    this.isCompiled = this.#thread.isCompiled;
    this.#thread.start(all);
  }

  /** Resolves when its model is there and warm. Rejects with why it does not come. */
  get ready(): Promise<EngineReady> {
    return this.#ready.promise;
  }

  /** Resolves when nothing is left of it: its thread is another's, or has ended. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** How long its batches take; undefined: it was not ready yet. */
  get known(): KnownTimes | undefined {
    return this.#known;
  }

  /** Its queues to and from a thread that receives requests. */
  queues(front: number): EngineQueues {
    const { requests, answers } = at(this.#lines, front);
    return { requests, answers, bell: this.#bell, load: this.#load };
  }

  /** It answers requests from now on, whose memory is there. */
  begin(arenas: readonly ArenaPlace[]): void {
    this.#say({ kind: 'begin', arenas });
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
    this.#say({ kind: 'patch', bytes, name });
    return asked.promise;
  }

  /** Makes ready to write another model's weights over its own. Rejects with why that cannot be; it goes on as before then. */
  prepareOverwrite(by: OverwritingModel): Promise<void> {
    this.#prepared = deferred<void>();
    if (this.#isLost) this.#prepared.reject(new Error('the engine has ended'));
    this.#say({ kind: 'prepare-overwrite', by });
    return this.#prepared.promise;
  }

  /** Writes them: no request comes meanwhile, and those that come first do not count. Rejects where that fails, and the engine ends. */
  overwrite(): Promise<EngineReady> {
    this.#overwritten = deferred<EngineReady>();
    if (this.#isLost) this.#overwritten.reject(new Error('the engine has ended'));
    Atomics.store(new Int32Array(this.#counts), 0, 0);
    this.#say({ kind: 'overwrite' });
    return this.#overwritten.promise;
  }

  /** Nobody else writes to the folder of its recording any more. */
  record(): void {
    this.#say({ kind: 'record' });
  }

  /** It ends when it has answered all that it was sent. */
  stop(): void {
    this.#isStopped = true;
    this.#say({ kind: 'stop' });
  }

  async terminate(): Promise<void> {
    this.#isStopped = true;
    await this.#thread?.terminate();
  }

  #say(message: ToModel): void {
    this.#thread?.say(message);
  }

  #hear(message: FromEngine): void {
    switch (message.kind) {
      case 'progress':
        this.#events.progress(message.text);
        break;
      case 'ready':
        this.#known = message.ready.known;
        this.#ready.resolve(message.ready);
        break;
      case 'state':
        this.#known = this.#known && { ...this.#known, measured: message.usual };
        this.#events.state(message);
        break;
      case 'stopped':
        this.#leave();
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
        this.#hasFailed = true;
        this.#events.failed(receivedError(message.error));
        break;
      case 'failed':
        this.#lose(receivedError(message.error), false);
        break;
      default:
        message satisfies never;
    }
  }

  /** Nothing is left of it in its thread, which goes to the next one, unless anything failed in it: nobody knows what it still holds then. */
  #leave(): void {
    const thread = this.#thread;
    const isSound = !this.#hasFailed && !this.#isLost;
    this.#refuse(new Error('the engine has ended'));
    if (!isSound) thread?.end();
    else if (thread !== undefined) {
      this.#thread = undefined;
      this.#threads.give(thread);
      this.#ended.resolve();
    }
  }

  /** `isEnd`: of an engine that was asked to end, nobody wonders. */
  #lose(error: Error, isEnd: boolean): void {
    const wasLost = this.#isLost;
    this.#refuse(error);
    if (this.#isStopped) {
      if (!isEnd) this.#events.failed(error);
    } else if (!wasLost) this.#events.lost(error);
  }

  /** Nothing is answered any more. */
  #refuse(error: Error): void {
    this.#isLost = true;
    this.#ready.reject(error);
    for (const { reject } of this.#asked.splice(0)) reject(error);
    this.#prepared?.reject(error);
    this.#overwritten?.reject(error);
  }
}
