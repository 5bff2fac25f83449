/**
 * The threads of engines. Starting one takes longer than loading a model of usual size: modules are read, and code is compiled while it
 * runs. So a thread whose model has gone is kept for the next one, which finds all that there.
 */
import type { EngineStart, FromEngine, ToEngine, ToModel } from '../engine/engine-messages.ts';
import { ServerThread } from '../server-thread.ts';

/** Who has a thread. */
export interface ThreadUser {
  hear(message: FromEngine): void;
  /** The thread has ended; `error`: by what it threw. */
  ended(error?: Error): void;
}

export class EngineThread {
  readonly #thread: ServerThread<ToEngine, FromEngine>;
  #user: ThreadUser;
  /** Whether it has had a model before: what serves the next one is compiled. */
  isCompiled = false;

  constructor(program: string, user: ThreadUser) {
    this.#user = user;
    this.#thread = new ServerThread<ToEngine, FromEngine>(program, {}, (message) => this.#user.hear(message));
    this.#thread.ended.then(
      () => this.#user.ended(),
      (error) => this.#user.ended(error),
    );
  }

  /** Hands it over, and what it says from now on. */
  set user(user: ThreadUser) {
    this.#user = user;
  }

  /** Settles when it has ended. */
  get ended(): Promise<void> {
    return this.#thread.ended;
  }

  start(start: EngineStart): void {
    this.#thread.say({ kind: 'start', start });
  }

  say(message: ToModel): void {
    this.#thread.say(message);
  }

  /** It has no model, and ends. */
  end(): void {
    this.#thread.say({ kind: 'end' });
  }

  terminate(): Promise<void> {
    return this.#thread.terminate();
  }
}

export class EngineThreads {
  readonly #program: string;
  readonly #onError: (error: Error) => void;
  /** All that have not ended. */
  readonly #all = new Set<EngineThread>();
  /** Those that have no model, the one that had one last at the end. */
  readonly #spares: EngineThread[] = [];
  #most = 0;
  #isClosed = false;

  /** `onError`: a thread that nobody has has failed. */
  constructor(program: string, onError: (error: Error) => void) {
    this.#program = program;
    this.#onError = onError;
  }

  /** At least so many are kept from now on: a model that is loaded again takes one for each of its copies. */
  keep(copies: number): void {
    this.#most = Math.max(this.#most, copies);
  }

  /** A thread that has no model. */
  take(user: ThreadUser): EngineThread {
    const spare = this.#spares.pop();
    if (spare !== undefined) {
      spare.user = user;
      return spare;
    }
    const thread = new EngineThread(this.#program, user);
    this.#all.add(thread);
    const forget = () => void this.#all.delete(thread);
    thread.ended.then(forget, forget);
    return thread;
  }

  /** Takes a thread back that has no model any more. */
  give(thread: EngineThread): void {
    thread.isCompiled = true;
    thread.user = {
      hear: () => {},
      ended: (error) => {
        const place = this.#spares.indexOf(thread);
        if (place < 0) return;
        this.#spares.splice(place, 1);
        this.#onError(error ?? new Error('a thread of the server ended'));
      },
    };
    if (this.#isClosed || this.#spares.length >= this.#most) thread.end();
    else this.#spares.push(thread);
  }

  /** Ends those that have no model, now and from now on. */
  close(): void {
    this.#isClosed = true;
    for (const thread of this.#spares.splice(0)) thread.end();
  }

  /** Settles when all that there are have ended. */
  async ended(): Promise<void> {
    await Promise.allSettled([...this.#all].map(({ ended }) => ended));
  }

  async terminate(): Promise<void> {
    await Promise.all([...this.#all].map((thread) => thread.terminate()));
  }
}
