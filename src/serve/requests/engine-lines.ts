/** A thread's lines to the engines: what it posted to each, and what comes back. */
import { deferred } from '../../deferred.ts';
import { BusyPoll, turn } from '../engine/busy-poll.ts';
import { nowMs, turnMs } from '../engine/clock.ts';
import {
  type Answered,
  type PostedRequest,
  postCancel,
  postRequest,
  readAnswer,
} from '../engine/messages.ts';
import { Bell, type RingMemory, RingReader, RingWriter } from '../engine/ring.ts';
import { AnswerDelay } from './answer-delay.ts';

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
  readonly #onPost: () => void;
  readonly #delay = new AnswerDelay();
  #tickets = 0;
  #rings = false;

  /** `capacity`: entries of each queue. `onPost`: called when a request has been posted. */
  constructor({ requests, answers, bell, load }: EngineQueues, capacity: number, onPost = () => {}) {
    this.#requests = new RingWriter(requests);
    this.#answers = new RingReader(answers);
    this.#bell = new Bell(bell);
    this.#load = new Int32Array(load);
    this.#mostWaiting = Math.floor(capacity / ENTRIES_OF_REQUEST);
    this.#onPost = onPost;
  }

  /** Samples at the engine, of all threads. */
  get load(): number {
    return Atomics.load(this.#load, 0);
  }

  /** Requests of this thread that have no answer yet. */
  get waiting(): number {
    return this.#posted.size;
  }

  /** Posts a request; undefined: too many wait already. The engine is told an earlier deadline, by what answers take from it lately. */
  post({
    slotAddress,
    outputAddress,
    samples,
    deadlineMs: dueMs,
    priority,
    arrivedMs,
  }: Omit<PostedRequest, 'ticket'>):
    | { readonly ticket: number; readonly answered: Promise<Answered> }
    | undefined {
    if (this.#posted.size >= this.#mostWaiting) return undefined;
    const ticket = this.#tickets;
    const deadlineMs = this.#delay.engineDeadlineMs(arrivedMs, dueMs);
    const request = { ticket, slotAddress, outputAddress, samples, deadlineMs, priority, arrivedMs };
    if (!postRequest(this.#requests, request)) return undefined;
    this.#tickets++;
    const answered = new Promise<Answered>((resolve) => {
      this.#posted.set(ticket, { samples, resolve });
    });
    Atomics.add(this.#load, 0, samples);
    this.#ringSoon();
    this.#onPost();
    return { ticket, answered };
  }

  /** An answer of the engine's is on its way to its client. */
  sent({ endedMs }: Pick<Answered, 'endedMs'>): void {
    this.#delay.observe(nowMs() - endedMs);
  }

  /** Gives a request up; its answer says how it ended. Where the queue is full it goes on: its answer comes all the same. */
  cancel(ticket: number): void {
    if (!this.#posted.has(ticket)) return;
    if (postCancel(this.#requests, ticket)) this.#ringSoon();
  }

  /** Rings once for all that is posted in a turn of the event loop: waking a thread takes longer than posting. */
  #ringSoon(): void {
    if (this.#rings) return;
    this.#rings = true;
    setImmediate(() => {
      this.#rings = false;
      this.#bell.ring();
    });
  }

  /** Answers all that wait: their engine has ended, and with it whoever read or wrote their slots. */
  abandon(): void {
    const none = {
      retryAfterMs: 0,
      queueMs: 0,
      mergeMs: 0,
      computeMs: 0,
      copyMs: 0,
      endedMs: 0,
    };
    for (const [ticket, { resolve }] of this.#posted) resolve({ ticket, outcome: 'lost', ...none });
    this.#posted.clear();
  }

  /** Hands the answers that have come to who waits for them. Gives back how many. */
  receive(): number {
    turnMs();
    return this.#answers.drain((entries, place) => {
      const answered = readAnswer(entries, place);
      const posted = this.#posted.get(answered.ticket);
      if (posted === undefined) return;
      this.#posted.delete(answered.ticket);
      Atomics.sub(this.#load, 0, posted.samples);
      posted.resolve(answered);
    });
  }
}

/** The lines of a thread to all engines, which come and go. */
export class Engines {
  /** With how long each is polled. */
  readonly #lines = new Map<EngineLine, number>();
  readonly #bell: Bell;
  readonly #capacity: number;
  #poll = new BusyPoll(0);
  /** Settled when answers are to be expected, or there will be none any more. */
  #awaited = deferred<void>();
  #isStopped = false;

  /** `bell`: the thread's own. `capacity`: entries of each queue. */
  constructor(bell: SharedArrayBuffer, capacity: number) {
    this.#bell = new Bell(bell);
    this.#capacity = capacity;
  }

  /** A line to an engine: its answers are handed on from now on. `pollMs`: how long to poll for them after the last one, or the last request. */
  add(queues: EngineQueues, pollMs: number): EngineLine {
    const expect = () => {
      this.#poll.extend();
      this.#awaited.resolve();
    };
    const line = new EngineLine(queues, this.#capacity, expect);
    this.#lines.set(line, pollMs);
    this.#pollAsLines();
    return line;
  }

  /** Ends a line, on which nothing waits. */
  remove(line: EngineLine): void {
    this.#lines.delete(line);
    this.#pollAsLines();
  }

  #pollAsLines(): void {
    this.#poll = new BusyPoll(Math.max(0, ...this.#lines.values()));
  }

  get waiting(): number {
    let sum = 0;
    for (const { waiting } of this.#lines.keys()) sum += waiting;
    return sum;
  }

  /** Hands answers on until `stop`. */
  async receive(): Promise<void> {
    while (!this.#isStopped) {
      this.#bell.look();
      let came = 0;
      for (const line of this.#lines.keys()) came += line.receive();
      if (came > 0) this.#poll.extend();
      if (this.waiting === 0) await this.#postedSomething();
      else await (this.#poll.isOn ? turn() : (this.#bell.wait() ?? turn()));
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#awaited.resolve();
    this.#bell.ring();
  }

  /** While nothing is at the engines, there is no answer to wait for. */
  async #postedSomething(): Promise<void> {
    this.#awaited = deferred<void>();
    if (!this.#isStopped) await this.#awaited.promise;
  }
}
