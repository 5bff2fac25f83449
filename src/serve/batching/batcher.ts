/**
 * Which requests run together, and when. Pure: it has no clock and no timers, its callers say what time it is.
 *
 * It adds no delay: a batch goes as soon as the engine takes one. Earliest deadline first within a priority. A batch takes half of
 * the SLA at most, since a request that just missed one waits for it first; less, where batches go ahead of time. What cannot make its deadline is refused on arrival;
 * what the batch would finish late is dropped when the batch goes. docs/batching.md says how this compares with other policies.
 */
import { at } from '../../at.ts';
import { DeadlineQueue, type Place } from './deadline-queue.ts';
import { type LatencyModel, largestWithin } from './latency-model.ts';

/** What the policy needs to know of a request. */
export interface Waiting {
  readonly samples: number;
  /** On the clock of the batcher's callers, as `deadlineMs`. */
  readonly arrivedMs: number;
  /** When its answer must be there; infinite where there is no hurry. */
  readonly deadlineMs: number;
  /** Lower numbers go first. */
  readonly priority: number;
}

/** Why a request was not accepted. */
export interface Refusal {
  /** The queue is full; or the deadline cannot be met. */
  readonly code: 'OVERLOADED' | 'DEADLINE_UNMEETABLE';
  readonly message: string;
  /** After which time the same request, with as much time as it had, may be accepted. */
  readonly retryAfterMs: number;
}

/** What runs now, and what is given up. */
export interface Taken<R> {
  /** The requests of the batch, in order; empty where all of them were late. */
  readonly batch: readonly R[];
  /** Those that would finish after their deadline. */
  readonly late: readonly R[];
}

export interface BatcherOptions {
  readonly latency: LatencyModel;
  /** The time that a request has by default, in ms. */
  readonly slaMs: number;
  /** Samples of a batch at most. A request with more runs alone. */
  readonly mostSamples: number;
  /** Samples that may wait, counted at a request's priority and before it. A single request may have more. */
  readonly queueSamples: number;
  /** A batch ends where the next request would make it late for one that is in it: for CPUs, where a larger batch saves little. */
  readonly shrinks: boolean;
  /** Batches that the engine has under way at once: all but the first wait for those before them. Default 1. */
  readonly depth?: number;
  /** How long the host prepares a batch of n samples before the device can begin on it, in ms. Default 0. */
  readonly prepareMs?: (samples: number) => number;
  /**
   * How long before the device is free, beyond preparing it, the next batch of n samples is taken, in ms: what the device may be done
   * sooner than predicted, and what lies between the host and it. Default 0. More keeps the device busier; what arrives in that time
   * waits for the batch after it.
   */
  readonly leadMs?: (samples: number) => number;
}

/** All requests of a priority. */
interface Level<R extends Waiting> {
  readonly priority: number;
  readonly queue: DeadlineQueue<R>;
}

interface Queued<R extends Waiting> {
  readonly level: Level<R>;
  readonly place: Place<R>;
}

interface UnderWay {
  readonly samples: number;
  /** When the host has prepared it. */
  readonly preparedMs: number;
  /** When it should be done. */
  finishMs: number;
  /** When the request in it is due that was let through as a probe. */
  readonly probeDueMs: number | undefined;
}

/**
 * Where predictions refuse everything, nothing runs that could correct them: after so many SLAs a request is let through as a probe.
 * When it is in time after all, the next may follow at once.
 */
const SLAS_TO_PROBE = 2;

export class Batcher<R extends Waiting> {
  readonly #latency: LatencyModel;
  readonly #options: BatcherOptions;
  readonly #depth: number;
  readonly #prepareMs: (samples: number) => number;
  readonly #leadMs: (samples: number) => number;
  /** By priority; empty ones are removed when a batch goes. */
  readonly #levels: Level<R>[] = [];
  readonly #queued = new Map<R, Queued<R>>();
  /** In the order in which they run. */
  readonly #underWay: UnderWay[] = [];
  #samples = 0;
  /** What follows from the latency model, and its version. */
  #cap = 0;
  #periodMs = 0;
  #capOf = -1;
  /** From when on an idle engine takes a request whose deadline it should not meet. */
  #probeFromMs: number | undefined;
  #probe: R | undefined;

  /** @throws RangeError for sizes that are no numbers of samples. */
  constructor(options: BatcherOptions) {
    const {
      latency,
      slaMs,
      mostSamples,
      queueSamples,
      depth = 1,
      prepareMs = () => 0,
      leadMs = () => 0,
    } = options;
    if (!(slaMs > 0 && mostSamples >= 1 && queueSamples >= 1 && Number.isInteger(depth) && depth >= 1))
      throw new RangeError(
        `a batcher with an SLA of ${slaMs} ms, batches of ${mostSamples}, a queue of ${queueSamples}, depth ${depth}`,
      );
    this.#options = options;
    this.#latency = latency;
    this.#depth = depth;
    this.#prepareMs = prepareMs;
    this.#leadMs = leadMs;
  }

  get queuedSamples(): number {
    return this.#samples;
  }

  get queuedRequests(): number {
    return this.#queued.size;
  }

  /** Samples of a batch at most, as of now: it takes half of the SLA. */
  get capSamples(): number {
    this.#follow();
    return this.#cap;
  }

  /**
   * A request arrives. It is queued, or refused with the reason.
   * @throws RangeError for one that is queued already, or has no number of samples, deadline or priority.
   */
  offer(request: R, nowMs: number): Refusal | undefined {
    const { samples, deadlineMs, priority } = request;
    if (!(samples >= 0 && deadlineMs <= Number.POSITIVE_INFINITY && Number.isFinite(priority)))
      throw new RangeError(`a request of ${samples} samples, due at ${deadlineMs}, of priority ${priority}`);
    if (this.#queued.has(request)) throw new RangeError('the request is queued already');
    this.#follow();
    let [before, ofLevelsUpTo] = [0, 0];
    for (const level of this.#levels) {
      if (level.priority > priority) break;
      const { queue } = level;
      ofLevelsUpTo += queue.samples;
      before += level.priority < priority ? queue.samples : queue.samplesDueBy(deadlineMs);
    }
    if (ofLevelsUpTo > 0 && ofLevelsUpTo + samples > this.#options.queueSamples)
      return {
        code: 'OVERLOADED',
        message: `the queue is full: ${ofLevelsUpTo} samples wait, of at most ${this.#options.queueSamples}`,
        retryAfterMs: this.predictedWaitMs(nowMs),
      };
    const finishMs = this.#finishBehindMs(before, ofLevelsUpTo, samples, nowMs);
    if (finishMs > deadlineMs && !this.#isProbe(request, nowMs)) {
      const needsMs = (finishMs - nowMs).toFixed(2);
      return {
        code: 'DEADLINE_UNMEETABLE',
        message: `it would be done in ${needsMs} ms, its deadline is in ${(deadlineMs - nowMs).toFixed(2)} ms`,
        retryAfterMs: finishMs - deadlineMs,
      };
    }
    const level = this.#level(priority);
    this.#queued.set(request, { level, place: level.queue.add(request) });
    this.#samples += samples;
    return undefined;
  }

  /**
   * The engine is ready for a batch: the one to run now, and the requests that are given up since the batch would finish after
   * their deadline. Nothing where no request waits, where `depth` batches are under way, and before `takeFromMs`.
   */
  take(nowMs: number): Taken<R> | undefined {
    if (!(nowMs >= this.takeFromMs(nowMs))) return undefined;
    this.#follow();
    const batch: R[] = [];
    const late: R[] = [];
    if (this.#options.shrinks) this.#takeUntilLate(nowMs, batch, late);
    else this.#takeWhole(nowMs, batch, late);
    this.#giveUpHopeless(nowMs, late);
    if (batch.length > 0) {
      const samples = samplesOf(batch);
      const preparedMs = nowMs + this.#prepareMs(samples);
      const probeDueMs = batch.find((request) => request === this.#probe)?.deadlineMs;
      this.#underWay.push({ samples, preparedMs, finishMs: this.#finishMs(samples, nowMs), probeDueMs });
    }
    this.#probe = undefined;
    return { batch, late };
  }

  /**
   * From when on `take` gives a batch: now, or when the next batch must be prepared so that the device never waits; infinite while
   * nothing waits or the engine is full. Arrivals and `ran` change it.
   */
  takeFromMs(nowMs: number): number {
    const { length } = this.#underWay;
    if (this.#queued.size === 0 || length >= this.#depth) return Number.POSITIVE_INFINITY;
    if (length === 0) return nowMs;
    const next = Math.min(this.#samples, this.capSamples);
    return Math.max(nowMs, this.#freeMs(nowMs) - this.#prepareMs(next) - this.#leadMs(next));
  }

  /** Takes a request out of the queue; false where it is not there (any more). */
  cancel(request: R): boolean {
    if (request === this.#probe) this.#probe = undefined;
    return this.#remove(request);
  }

  /** The first batch under way is done: the device took `ms` for it, without preparing it or waiting for others. */
  ran(samples: number, ms: number, nowMs: number): void {
    const probeDueMs = this.#underWay[0]?.probeDueMs;
    this.#latency.observe(samples, ms);
    this.failed(nowMs);
    if (probeDueMs !== undefined && nowMs <= probeDueMs) this.#probeFromMs = nowMs;
  }

  /** The first batch under way has ended, and says nothing of how long batches take. */
  failed(nowMs: number): void {
    this.#underWay.shift();
    this.#probeFromMs = undefined;
    let freeMs = nowMs;
    for (const batch of this.#underWay) {
      freeMs = Math.max(freeMs, batch.preparedMs) + this.#latency.predictMs(batch.samples);
      batch.finishMs = freeMs;
    }
  }

  /** How long a request of the last priority that arrives now waits until its batch begins, in ms. */
  predictedWaitMs(nowMs: number): number {
    this.#follow();
    const batches = Math.floor(this.#samples / Math.max(1, this.#cap));
    return this.#freeMs(nowMs) - nowMs + batches * this.#periodMs;
  }

  /** What depends on the latency model alone. */
  #follow(): void {
    const { version } = this.#latency;
    if (version === this.#capOf) return;
    this.#capOf = version;
    const { slaMs, mostSamples } = this.#options;
    const passMs = (samples: number) => this.#prepareMs(samples) + this.#latency.predictMs(samples);
    // Who just missed a batch waits until the device takes it, as long as it leads, then for it, and then for its own.
    const missMs = (samples: number) =>
      Math.min(this.#leadMs(samples), this.#latency.predictMs(samples)) + this.#period(samples);
    this.#cap = largestWithin((samples) => missMs(samples) + passMs(samples), slaMs, mostSamples);
    this.#periodMs = this.#period(this.#cap);
  }

  /** The time from batch to batch of so many samples, all the engine is busy. */
  #period(samples: number): number {
    const [prepare, run] = [this.#prepareMs(samples), this.#latency.predictMs(samples)];
    return this.#depth > 1 ? Math.max(prepare, run) : prepare + run;
  }

  /** When the device has done what is under way. */
  #freeMs(nowMs: number): number {
    return Math.max(nowMs, this.#underWay.at(-1)?.finishMs ?? nowMs);
  }

  /** When a batch that goes now is done. */
  #finishMs(samples: number, nowMs: number): number {
    const beginMs = Math.max(nowMs + this.#prepareMs(samples), this.#freeMs(nowMs));
    return beginMs + this.#latency.predictMs(samples);
  }

  /**
   * When a request is done that arrives now: the batches of `before` samples before its own, then its own, with all that rides along
   * of the `queued` samples at its priority and before it.
   */
  #finishBehindMs(before: number, queued: number, samples: number, nowMs: number): number {
    const cap = Math.max(1, this.#cap);
    const full =
      samples >= cap ? Math.ceil(before / cap) : Math.max(0, Math.ceil((before + samples) / cap) - 1);
    const all = (this.#options.shrinks ? before : queued) + samples;
    const own = Math.max(samples, Math.min(cap, all - full * cap));
    return full * this.#periodMs + this.#finishMs(own, nowMs);
  }

  /** Whether a request that should not make it is let through, to see whether that is so. */
  #isProbe(request: R, nowMs: number): boolean {
    if (this.#queued.size > 0 || this.#underWay.length > 0) return false;
    this.#probeFromMs ??= nowMs + SLAS_TO_PROBE * this.#options.slaMs;
    if (nowMs < this.#probeFromMs || request.deadlineMs <= nowMs) return false;
    this.#probe = request;
    return true;
  }

  #level(priority: number): Level<R> {
    const place = this.#levels.findIndex((level) => level.priority >= priority);
    const found = place < 0 ? undefined : at(this.#levels, place);
    if (found?.priority === priority) return found;
    const level = { priority, queue: new DeadlineQueue<R>() };
    this.#levels.splice(place < 0 ? this.#levels.length : place, 0, level);
    return level;
  }

  #remove(request: R): boolean {
    const queued = this.#queued.get(request);
    if (queued === undefined) return false;
    this.#queued.delete(request);
    queued.level.queue.remove(queued.place);
    this.#samples -= request.samples;
    return true;
  }

  /** The first request of the first priority that has any. */
  #first(): R | undefined {
    for (const { queue } of this.#levels) if (queue.first !== undefined) return queue.first.request;
    return undefined;
  }

  #isLate(request: R, finishMs: number): boolean {
    return request.deadlineMs < finishMs && request !== this.#probe;
  }

  /** Takes requests in order as long as none of the batch becomes late. */
  #takeUntilLate(nowMs: number, batch: R[], late: R[]): void {
    let [samples, dueMs] = [0, Number.POSITIVE_INFINITY];
    for (let next = this.#first(); next !== undefined; next = this.#first()) {
      const finishMs = this.#finishMs(samples + next.samples, nowMs);
      if (batch.length > 0 && (samples + next.samples > this.#cap || finishMs > dueMs)) return;
      if (this.#isLate(next, finishMs)) {
        if (batch.length > 0 && !this.#isLate(next, this.#finishMs(next.samples, nowMs))) return;
        late.push(next);
      } else {
        batch.push(next);
        samples += next.samples;
        if (next !== this.#probe) dueMs = Math.min(dueMs, next.deadlineMs);
      }
      this.#remove(next);
    }
  }

  /** Fills the batch priority by priority, until a request of one has to wait. */
  #takeWhole(nowMs: number, batch: R[], late: R[]): void {
    for (const { queue } of this.#levels) {
      this.#fillWhole(queue, nowMs, batch, late);
      if (queue.first !== undefined) return;
    }
  }

  /**
   * Fills the batch in order, drops what the whole of it would finish late, and fills it again. What is in the batch already, of
   * priorities before this one, stays in time.
   */
  #fillWhole(queue: DeadlineQueue<R>, nowMs: number, batch: R[], late: R[]): void {
    const above = { samples: samplesOf(batch), dueMs: this.#earliestMs(batch) };
    const isFull = (samples: number) => samples > this.#cap || this.#finishMs(samples, nowMs) > above.dueMs;
    let own: R[] = [];
    const dropped: R[] = [];
    let { samples } = above;
    for (;;) {
      for (let next = queue.first?.request; next !== undefined; next = queue.first?.request) {
        if (batch.length + own.length > 0 && isFull(samples + next.samples)) break;
        own.push(next);
        samples += next.samples;
        this.#remove(next);
      }
      const finishMs = this.#finishMs(samples, nowMs);
      const kept = own.filter((request) => !this.#isLate(request, finishMs));
      if (kept.length === own.length) break;
      for (const request of own) if (this.#isLate(request, finishMs)) dropped.push(request);
      own = kept;
      samples = above.samples + samplesOf(kept);
    }
    batch.push(...own);
    // What was dropped for a larger batch than came about joins it, where all of it is in time: that keeps it under the cap too.
    let dueMs = this.#earliestMs(batch);
    for (const request of dropped.reverse()) {
      const all = samples + request.samples;
      dueMs = Math.min(dueMs, request.deadlineMs);
      if (this.#finishMs(all, nowMs) > dueMs) late.push(request);
      else {
        batch.push(request);
        samples = all;
      }
    }
  }

  #earliestMs(batch: readonly R[]): number {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const request of batch) if (request !== this.#probe) dueMs = Math.min(dueMs, request.deadlineMs);
    return dueMs;
  }

  /** Gives up, in every priority, what would be late even alone. Priorities with nothing left go. */
  #giveUpHopeless(nowMs: number, late: R[]): void {
    for (let i = this.#levels.length - 1; i >= 0; i--) {
      const { queue } = at(this.#levels, i);
      for (let { first } = queue; first !== undefined; first = queue.first) {
        const { request } = first;
        if (!this.#isLate(request, this.#finishMs(request.samples, nowMs))) break;
        late.push(request);
        this.#remove(request);
      }
      if (queue.size === 0) this.#levels.splice(i, 1);
    }
  }
}

const samplesOf = (batch: readonly Waiting[]) => batch.reduce((sum, { samples }) => sum + samples, 0);
