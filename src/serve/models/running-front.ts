/** A thread that receives requests, as the main thread has it. */
import { type Deferred, deferred } from '../../deferred.ts';
import type { NativeMemory } from '../../ffi/host-memory.ts';
import { type ArenaPlace, arenaMemory } from '../engine/arena.ts';
import { receivedError, sentError } from '../engine/thread-errors.ts';
import { HandOver, handOverMemory } from '../hand-over.ts';
import type { FromFront, FrontStart, Question, ToFront } from '../http/http-thread.ts';
import type { Protocol } from '../metrics/metric-list.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import type { ModelAtFront } from '../requests/infer-model.ts';
import type { Security } from '../security/security.ts';
import { ServerThread } from '../server-thread.ts';

export interface FrontEvents {
  /** Figures to read. */
  metrics(metrics: readonly SharedMetrics[]): void;
  slots(slots: { readonly used: number; readonly waiting: number }): void;
  /** What a question is answered with, or fails with. */
  answer(question: Question): Promise<unknown>;
  /** One that watched through it has gone. */
  unwatched(): void;
  failed(error: Error): void;
  /** The thread cannot go on. */
  lost(error: Error): void;
  /** The thread has ended, whoever asked it to. */
  ended(error: Error): void;
}

/**
 * Node copies each piece of a body into memory of its own beside the heap. With a young generation of the usual size (48 MiB) so much of it
 * piles up between collections that V8 marks and compacts the whole heap several times a second, milliseconds each, already at bodies of
 * 80 KB; collected in smaller steps, it does not come to that. Each collection copies what requests under way hold and wakes other threads,
 * so that a much smaller one costs small requests a quarter of their time.
 */
const LIMITS = { maxYoungGenerationSizeMb: 8 };

export class RunningFront {
  readonly #thread: ServerThread<ToFront, FromFront>;
  readonly #memory: NativeMemory;
  readonly #events: FrontEvents;
  /** How it gets connections. */
  readonly connections: Readonly<Record<Protocol, HandOver>>;
  readonly #begun = deferred<void>();
  readonly #drained = deferred<void>();
  /** What it was asked and has not answered, by serial. */
  readonly #asked = new Map<string, Deferred<void>>();

  constructor(
    program: string,
    start: Omit<FrontStart, 'arena' | 'connections'>,
    requestBytes: number,
    events: FrontEvents,
  ) {
    this.#events = events;
    this.#memory = arenaMemory(requestBytes);
    const connections = { http: handOverMemory(), grpc: handOverMemory() };
    this.#thread = new ServerThread<ToFront, FromFront>(
      program,
      { ...start, arena: this.arena, connections },
      (message) => this.#hear(message),
      LIMITS,
    );
    const handOver = (protocol: Protocol) =>
      new HandOver(connections[protocol], (descriptor) =>
        this.#thread.say({ kind: 'connection', protocol, descriptor }),
      );
    this.connections = { http: handOver('http'), grpc: handOver('grpc') };
    for (const { promise } of [this.#begun, this.#drained]) promise.catch(() => {});
    this.#thread.ended.then(
      () => {
        const error = new Error('a thread of the server ended');
        this.#endConnections();
        this.#giveUp(error);
        events.ended(error);
      },
      (error) => {
        this.#endConnections();
        this.#lose(error);
      },
    );
  }

  /** Where its requests lie. */
  get arena(): ArenaPlace {
    return { address: Number(this.#memory.address), bytes: this.#memory.bytes };
  }

  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  get drained(): Promise<void> {
    return this.#drained.promise;
  }

  /** Resolves when the model is ready to be served. */
  prepare(serial: number, model: ModelAtFront): Promise<void> {
    this.#thread.say({ kind: 'prepare', serial, model });
    return this.#answerTo(`prepare ${serial}`);
  }

  /** Requests go to what was prepared. Resolves when what it replaces has no request any more. */
  serve(serial: number): Promise<void> {
    this.#thread.say({ kind: 'serve', serial });
    return this.#answerTo(`leave ${serial}`);
  }

  /** Requests for the model are refused. Resolves when it has no request any more. */
  withdraw(serial: number, model: string, reason?: string): Promise<void> {
    this.#thread.say({ kind: 'withdraw', serial, model, reason });
    return this.#answerTo(`leave ${serial}`);
  }

  /** The engines of what was prepared have ended. */
  abandon(serial: number): void {
    this.#thread.say({ kind: 'abandon', serial });
  }

  /** Checks requests by these rules from now on. */
  renew(security: Security): void {
    this.#thread.say({ kind: 'renew', security });
  }

  /** Tells all that watch through it. */
  event(text: string): void {
    this.#thread.say({ kind: 'event', text });
  }

  /** No more connections are handed over. */
  drain(): void {
    this.#thread.say({ kind: 'drain' });
  }

  /** Ends all connections. */
  end(): void {
    this.#thread.say({ kind: 'end' });
  }

  async terminate(): Promise<void> {
    await this.#thread.terminate();
  }

  /** Gives its memory back: no thread uses it any more. */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  #answerTo(what: string): Promise<void> {
    const asked = deferred<void>();
    this.#asked.set(what, asked);
    return asked.promise;
  }

  #answered(what: string): void {
    this.#asked.get(what)?.resolve();
    this.#asked.delete(what);
  }

  #hear(message: FromFront): void {
    const events = this.#events;
    switch (message.kind) {
      case 'begun':
        events.metrics(message.metrics);
        this.#begun.resolve();
        break;
      case 'prepared':
        events.metrics(message.metrics);
        this.#answered(`prepare ${message.serial}`);
        break;
      case 'left':
        this.#answered(`leave ${message.serial}`);
        break;
      case 'question': {
        const { number, question } = message;
        events.answer(question).then(
          (answer) => this.#thread.say({ kind: 'answer', number, answer }),
          (error) => this.#thread.say({ kind: 'refusal', number, error: sentError(error) }),
        );
        break;
      }
      case 'slots':
        events.slots(message);
        break;
      case 'unwatched':
        events.unwatched();
        break;
      case 'drained':
        this.#drained.resolve();
        break;
      case 'error':
        events.failed(receivedError(message.error));
        break;
      case 'failed':
        this.#lose(receivedError(message.error));
        break;
      default:
        message satisfies never;
    }
  }

  /** The thread has ended: closes what it was handed last. */
  #endConnections(): void {
    for (const connections of Object.values(this.connections)) connections.end();
  }

  #lose(error: Error): void {
    this.#giveUp(error);
    this.#events.lost(error);
  }

  /** Nothing is answered any more. */
  #giveUp(error: Error): void {
    for (const { reject } of [this.#begun, this.#drained, ...this.#asked.values()]) reject(error);
    this.#asked.clear();
  }
}
