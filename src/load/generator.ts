/** One process's share of the load: its requests, its connections, its arrivals. */

import { at } from '../at.ts';
import { AnswerCheck } from './answers.ts';
import { PoissonArrivals } from './arrivals.ts';
import { Connections } from './connections.ts';
import { type Clock, OpenLoop } from './open-loop.ts';
import { picker, type RequestPool, type RequestSpec, requestPool, spread } from './request-pool.ts';
import { type ServedModel, serverUrl } from './served-model.ts';
import type { Tally } from './tally.ts';

/** What a generator is made from. */
export interface GeneratorSetup {
  /** The server's URL, with credentials where it has some. */
  readonly url: string;
  /** Bearer token. */
  readonly token?: string;
  readonly model: ServedModel;
  readonly requests: RequestSpec;
  readonly seed: number;
  /** Most connections at once. */
  readonly connections: number;
  /** Waits by timers, up to a millisecond too long, instead of looking at the clock all the time. */
  readonly sleeps: boolean;
}

/** What a generator has ready. */
export interface GeneratorFacts {
  /** Different requests. */
  readonly bodies: number;
  readonly bytes: ReturnType<typeof spread>;
  readonly samples: ReturnType<typeof spread>;
  readonly notes: readonly string[];
}

/** One run of a generator. */
export interface RunOrder {
  /** Of this generator, per second. */
  readonly rate: number;
  /** When it starts, in ms since 1970: the same for all. */
  readonly startMs: number;
  readonly warmupMs: number;
  readonly durationMs: number;
  readonly count?: number;
  readonly deadlineMs?: number;
  readonly patienceMs: number;
  readonly seed: number;
}

export interface GeneratorRun {
  readonly tally: Tally;
  /** Connections that were opened since the generator began. */
  readonly opened: number;
}

/** Timers of Node.js wait up to a millisecond too long. */
const TIMER_MS = 1;
/** They take no longer times. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Time since 1970 in ms, which several processes agree on. */
export const nowMs = (): number => performance.timeOrigin + performance.now();

/** The machine's time. Looking at the clock without a pause keeps a core busy, and is on time; `sleeps` waits by timers. */
export function machineClock(sleeps: boolean): Clock {
  const early = sleeps ? 0 : 2 * TIMER_MS;
  return {
    nowMs,
    wake(atMs, call) {
      const gap = atMs - nowMs() - early;
      if (gap > 0) {
        const timer = setTimeout(call, Math.min(LONGEST_TIMER_MS, Math.ceil(gap)));
        return () => clearTimeout(timer);
      }
      const turn = setImmediate(call);
      return () => clearImmediate(turn);
    },
  };
}

export class Generator {
  readonly facts: GeneratorFacts;
  readonly #pool: RequestPool;
  readonly #connections: Connections;
  readonly #answers = new AnswerCheck();
  readonly #clock: Clock;
  #loop: OpenLoop | undefined;

  /** Makes the requests. @throws as requestPool. */
  static async prepare(setup: GeneratorSetup): Promise<Generator> {
    const server = serverUrl(setup.url, setup.token);
    const pool = await requestPool(server, setup.model, setup.requests, setup.seed);
    return new Generator(pool, new Connections(server.target, setup.connections), machineClock(setup.sleeps));
  }

  constructor(pool: RequestPool, connections: Connections, clock: Clock) {
    this.#pool = pool;
    this.#connections = connections;
    this.#clock = clock;
    this.facts = {
      bodies: pool.messages.length,
      bytes: spread(pool.messages.map(({ length }) => length)),
      samples: spread(pool.samples),
      notes: pool.notes,
    };
  }

  /** Connections stay open from run to run, unless something is under way on them at the end of one. */
  async run({ rate, seed, ...order }: RunOrder): Promise<GeneratorRun> {
    const { messages, samples } = this.#pool;
    this.#loop = new OpenLoop({
      ...order,
      clock: this.#clock,
      arrivals: new PoissonArrivals(rate, seed),
      pick: picker(this.#pool, seed + 1),
      sender: {
        send: (request, settled) =>
          this.#connections.send(at(messages, request), (reply) => {
            settled(this.#answers.outcome(reply, at(samples, request)));
          }),
      },
    });
    const tally = await this.#loop.run();
    if (tally.counts.unanswered > 0) this.#connections.reset();
    return { tally, opened: this.#connections.opened };
  }

  /** Ends the run that is under way with what there is. */
  stop(): void {
    this.#loop?.stop();
  }

  close(): void {
    this.#connections.close();
  }
}
