/** A thread's lines to the engines: what it posted to each, and what comes back. */
import { at } from '../../at.ts';
import {
  type Answered,
  type PostedRequest,
  postCancel,
  postRequest,
  readAnswer,
} from '../engine/messages.ts';
import { Bell, type RingMemory, RingReader, RingWriter } from '../engine/ring.ts';

/** The queues between this thread and an engine. */
export interface EngineQueues {
  readonly requests: RingMemory;
  readonly answers: RingMemory;
  /** Of the engine. */
  readonly bell: SharedArrayBuffer;
  /** int32 [1]: samples at the engine, of all threads. */
  readonly load: SharedArrayBuffer;
}

interface Posted {
  readonly samples: number;
  readonly resolve: (answered: Answered) => void;
}

/** A request may have two entries, itself and that it was given up: there should be room for both. */
const ENTRIES_OF_REQUEST = 2;

export class EngineLine {
  readonly #requests: RingWriter;
  readonly #answers: RingReader;
  readonly #bell: Bell;
  readonly #load: Int32Array;
  readonly #mostWaiting: number;
  readonly #posted = new Map<number, Posted>();
  #tickets = 0;

  /** `capacity`: entries of each queue. */
  constructor({ requests, answers, bell, load }: EngineQueues, capacity: number) {
    this.#requests = new RingWriter(requests);
    this.#answers = new RingReader(answers);
    this.#bell = new Bell(bell);
    this.#load = new Int32Array(load);
    this.#mostWaiting = Math.floor(capacity / ENTRIES_OF_REQUEST);
  }

  /** Samples at the engine, of all threads. */
  get load(): number {
    return Atomics.load(this.#load, 0);
  }

  /** Requests of this thread that have no answer yet. */
  get waiting(): number {
    return this.#posted.size;
  }

  /** Posts a request; undefined: too many wait already. */
  post(
    request: Omit<PostedRequest, 'ticket'>,
  ): { readonly ticket: number; readonly answered: Promise<Answered> } | undefined {
    if (this.#posted.size >= this.#mostWaiting) return undefined;
    const ticket = this.#tickets;
    if (!postRequest(this.#requests, { ...request, ticket })) return undefined;
    this.#tickets++;
    const answered = new Promise<Answered>((resolve) => {
      this.#posted.set(ticket, { samples: request.samples, resolve });
    });
    Atomics.add(this.#load, 0, request.samples);
    this.#bell.ring();
    return { ticket, answered };
  }

  /** Gives a request up; its answer says how it ended. Where the queue is full it goes on: its answer comes all the same. */
  cancel(ticket: number): void {
    if (!this.#posted.has(ticket)) return;
    if (postCancel(this.#requests, ticket)) this.#bell.ring();
  }

  /** Hands the answers that have come to who waits for them. */
  receive(): void {
    this.#answers.drain((entries, place) => {
      const answered = readAnswer(entries, place);
      const posted = this.#posted.get(answered.ticket);
      if (posted === undefined) return;
      this.#posted.delete(answered.ticket);
      Atomics.sub(this.#load, 0, posted.samples);
      posted.resolve(answered);
    });
  }
}

/** The lines of a thread to all engines. */
export class Engines {
  readonly #lines: readonly EngineLine[];
  readonly #bell: Bell;

  constructor(queues: readonly EngineQueues[], bell: SharedArrayBuffer, capacity: number) {
    this.#lines = queues.map((own) => new EngineLine(own, capacity));
    this.#bell = new Bell(bell);
  }

  line(engine: number): EngineLine {
    return at(this.#lines, engine);
  }

  get waiting(): number {
    return this.#lines.reduce((sum, { waiting }) => sum + waiting, 0);
  }

  /** Hands answers on until `stopped`, which whoever changes it rings the thread's bell for. */
  async receive(stopped: () => boolean): Promise<void> {
    while (!stopped()) {
      this.#bell.look();
      for (const line of this.#lines) line.receive();
      await (this.#bell.wait() ?? new Promise((turn) => setImmediate(turn)));
    }
  }
}
