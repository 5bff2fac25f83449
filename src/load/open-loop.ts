/** Sends requests when they are due, whatever became of earlier ones: an open loop, which no stall of the server slows down. */
import { type Outcome, Tally } from './tally.ts';

/** Time, and being woken. */
export interface Clock {
  nowMs(): number;
  /** Calls `call` once, at `atMs` or a little before: it looks at the time itself. Gives back what calls it off. */
  wake(atMs: number, call: () => void): () => void;
}

/** What sends requests; they are known by their numbers. */
export interface Sender {
  /** Sends a request, and later says what came of it, once. False: it waits for a connection first. */
  send(request: number, settled: (outcome: Outcome) => void): boolean;
}

export interface OpenLoopOptions {
  readonly clock: Clock;
  readonly sender: Sender;
  /** Times of arrivals in ms from the start, ascending. */
  readonly arrivals: { next(): number };
  /** The number of the next request. */
  readonly pick: () => number;
  readonly startMs: number;
  /** Arrivals of the first ms are sent and not counted. */
  readonly warmupMs: number;
  /** For how long arrivals are counted after that. */
  readonly durationMs: number;
  /** At most so many are counted. */
  readonly count?: number;
  readonly deadlineMs?: number;
  /** For how long answers are waited for after the last arrival. */
  readonly patienceMs: number;
}

/** More that are due at once are sent after a look at what has come in. */
const SENT_AT_ONCE = 32;

/** One run. */
export class OpenLoop {
  readonly #options: OpenLoopOptions;
  readonly #tally = new Tally();
  /** When the requests that are under way, and count, were due. */
  readonly #underWay = new Set<{ readonly dueMs: number }>();
  readonly #countFromMs: number;
  readonly #endMs: number;
  #dueMs: number;
  #isScheduled = false;
  #finish: ((tally: Tally) => void) | undefined;
  #callOff: () => void = () => {};

  constructor(options: OpenLoopOptions) {
    this.#options = options;
    const { startMs, warmupMs, durationMs, arrivals } = options;
    this.#countFromMs = startMs + warmupMs;
    this.#endMs = this.#countFromMs + durationMs;
    this.#dueMs = startMs + arrivals.next();
  }

  /** Runs to the end. */
  run(): Promise<Tally> {
    return new Promise((resolve) => {
      this.#finish = resolve;
      this.#callOff = this.#options.clock.wake(this.#dueMs, this.#pump);
    });
  }

  /** Ends the run with what there is: what is under way counts as unanswered. */
  stop(): void {
    this.#isScheduled = true;
    this.#end();
  }

  readonly #pump = (): void => {
    if (this.#isScheduled) return;
    const { clock, arrivals, startMs, count = Number.POSITIVE_INFINITY } = this.#options;
    for (let sent = 0; sent < SENT_AT_ONCE; sent++) {
      if (this.#dueMs >= this.#endMs || this.#tally.counts.scheduled >= count) {
        this.#scheduled();
        return;
      }
      const nowMs = clock.nowMs();
      if (nowMs < this.#dueMs) break;
      this.#send(this.#dueMs, nowMs);
      this.#dueMs = startMs + arrivals.next();
    }
    this.#callOff = clock.wake(Math.min(this.#dueMs, this.#endMs), this.#pump);
  };

  #send(dueMs: number, nowMs: number): void {
    const { sender, pick, clock, deadlineMs } = this.#options;
    if (dueMs < this.#countFromMs) {
      sender.send(pick(), () => {});
      return;
    }
    const { counts, lag } = this.#tally;
    const own = { dueMs };
    this.#underWay.add(own);
    counts.scheduled += 1;
    lag.record(nowMs - dueMs);
    const isSent = sender.send(pick(), (outcome) => {
      if (!this.#underWay.delete(own)) return;
      const endMs = clock.nowMs();
      this.#tally.settle(outcome, endMs - dueMs, deadlineMs);
      this.#tally.spanMs = endMs - this.#countFromMs;
      if (this.#isScheduled && this.#underWay.size === 0) this.#end();
    });
    if (!isSent) counts.waited += 1;
  }

  #scheduled(): void {
    const { clock, patienceMs } = this.#options;
    this.#isScheduled = true;
    if (this.#underWay.size === 0) {
      this.#end();
      return;
    }
    const untilMs = clock.nowMs() + patienceMs;
    const look = () => {
      if (this.#finish === undefined) return;
      if (clock.nowMs() >= untilMs) this.#end();
      else this.#callOff = clock.wake(untilMs, look);
    };
    this.#callOff = clock.wake(untilMs, look);
  }

  #end(): void {
    this.#callOff();
    const nowMs = this.#options.clock.nowMs();
    for (const { dueMs } of this.#underWay) this.#tally.abandon(nowMs - dueMs);
    this.#underWay.clear();
    const finish = this.#finish;
    this.#finish = undefined;
    finish?.(this.#tally);
  }
}
