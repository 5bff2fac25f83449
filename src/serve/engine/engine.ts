/** What an engine thread does: queues requests, merges them into batches as the policy says, runs them, and gives rows of outputs back. */
import { at } from '../../at.ts';
import type { Backend } from '../../backend/backend.ts';
import { CudaError } from '../../errors.ts';
import type { HostPtr } from '../../ffi/host-memory.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import type { Head } from '../../model/head.ts';
import { type NamedOutput, namedOutputs, outputArrays, type Prediction } from '../../model/prediction.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import type { Batcher, Waiting } from '../batching/batcher.ts';
import { BatchMemory } from '../records/batch-memory.ts';
import { mergeRecords } from '../records/merge.ts';
import type { RecordModel } from '../records/record-model.ts';
import { nowMs } from './clock.ts';
import type { Outcome, ReceivedRequest } from './messages.ts';

/** A request at the engine. */
export interface Job extends Waiting, ReceivedRequest {}

/** Where the time of a job's batch went, in ms. */
export interface BatchTimes {
  readonly beganMs: number;
  readonly mergeMs: number;
  readonly computeMs: number;
  readonly copyMs: number;
  readonly samples: number;
  readonly requests: number;
}

/** Who is told of what happens. */
export interface EngineEvents {
  /** A job ended; `batch`: of those that ran. */
  ended(job: Job, outcome: Outcome, batch?: BatchTimes, retryAfterMs?: number): void;
  /** A batch ran, and its jobs end next: what is counted of a request is counted before its client has an answer. */
  ran(batch: BatchTimes): void;
  /** All jobs of a batch that ran have ended. `request`: the merged one, whose arrays are the engine's again afterwards. */
  answered(request: DlrmRequest): void;
  failed(error: unknown): void;
  /** A batch under way has ended: `pump` may say another time than before, or nothing may be left to do. */
  freed(): void;
}

/** What of a model an engine needs. */
export interface EngineModel {
  readonly head: Pick<Head, 'answer' | 'outputs'>;
  readonly architecture: Pick<ModelArchitecture, 'output'>;
  predict(request: DlrmRequest): Promise<Prediction>;
}

export interface EngineOptions {
  readonly model: EngineModel;
  readonly backend: Pick<Backend, 'allocateHost'>;
  readonly records: RecordModel;
  readonly batcher: Batcher<Job>;
  /** Batches under way at once. */
  readonly depth: number;
  /** Memory of the threads that requests come from, by their numbers: where outputs go. */
  readonly memories: readonly ArrayBuffer[];
  /** Their addresses. */
  readonly addresses: readonly number[];
  readonly events: EngineEvents;
}

export class Engine implements Disposable {
  readonly #options: EngineOptions;
  readonly #outputs: readonly NamedOutput[];
  /** By thread: jobs by ticket, until they have ended. */
  readonly #jobs: readonly Map<number, Job>[];
  readonly #idle: BatchMemory[];
  readonly #floats: readonly Float32Array[];
  /** Batches end in the order in which they began. */
  #before: Promise<void> = Promise.resolve();
  /** When the last batch ended. */
  #endedMs = 0;
  /** What is done while no batch runs. */
  #pauses = 0;
  #isDisposed = false;
  #lost: CudaError | undefined;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(options: EngineOptions) {
    const { model, backend, depth, memories } = options;
    this.#options = options;
    this.#outputs = namedOutputs(model.head, model.architecture.output);
    this.#jobs = memories.map(() => new Map());
    this.#floats = memories.map((memory) => new Float32Array(memory));
    this.#idle = Array.from({ length: depth }, () => new BatchMemory(backend));
  }

  /** Requests that have not ended. */
  get jobs(): number {
    return this.#jobs.reduce((sum, jobs) => sum + jobs.size, 0);
  }

  /** What took the device along with all that was on it: no batch begins any more, and no process of this one gets it back. */
  get lost(): CudaError | undefined {
    return this.#lost;
  }

  /** A request arrives. */
  receive(job: Job): void {
    const refusal = this.#options.batcher.offer(job, nowMs());
    if (refusal === undefined) at(this.#jobs, job.from).set(job.ticket, job);
    else {
      const outcome = refusal.code === 'OVERLOADED' ? 'overloaded' : 'unmeetable';
      this.#options.events.ended(job, outcome, undefined, refusal.retryAfterMs);
    }
  }

  /** Takes a request out of the queue; one that runs already is answered. */
  cancel(from: number, ticket: number): void {
    const job = at(this.#jobs, from).get(ticket);
    if (job !== undefined && this.#options.batcher.cancel(job)) this.#end(job, 'cancelled');
  }

  /** Begins what can begin now. Gives back in how many ms more may, if nothing else happens; undefined: not before something does. */
  pump(): number | undefined {
    const { batcher } = this.#options;
    if (this.#lost !== undefined) return undefined;
    while (this.#idle.length > 0 && this.#pauses === 0) {
      const taken = batcher.take(nowMs());
      if (taken === undefined) break;
      for (const job of taken.late) this.#end(job, 'late');
      if (taken.batch.length > 0) this.#begin(taken.batch);
    }
    const now = nowMs();
    const from =
      this.#idle.length === 0 || this.#pauses > 0 ? Number.POSITIVE_INFINITY : batcher.takeFromMs(now);
    return Number.isFinite(from) ? Math.max(0, from - now) : undefined;
  }

  /** Does something when no batch is under way; none begins until it is done. */
  async between<T>(work: () => Promise<T>): Promise<T> {
    this.#pauses += 1;
    try {
      await this.settled();
      return await work();
    } finally {
      this.#pauses -= 1;
      this.#goOn();
    }
  }

  /** Resolves when all batches under way have ended. */
  settled(): Promise<void> {
    return this.#before;
  }

  /** Gives memory back: that of batches under way when they have ended. Nothing begins any more. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    for (const memory of this.#idle.splice(0)) memory[Symbol.dispose]();
  }

  #begin(batch: readonly Job[]): void {
    const memory = this.#idle.pop() as BatchMemory;
    const before = this.#before;
    this.#before = this.#run(batch, memory, before).then(() => {
      if (this.#isDisposed) memory[Symbol.dispose]();
      else this.#idle.push(memory);
      this.#goOn();
    });
  }

  #goOn(): void {
    this.pump();
    this.#options.events.freed();
  }

  async #run(batch: readonly Job[], memory: BatchMemory, before: Promise<void>): Promise<void> {
    const { model, records, batcher, events } = this.#options;
    const beganMs = nowMs();
    let times: BatchTimes;
    let merged: DlrmRequest;
    try {
      const slots = batch.map(({ slotAddress }) => BigInt(slotAddress) as HostPtr);
      const { request, starts } = mergeRecords(records, slots, memory);
      const mergedMs = nowMs();
      const predicting = model.predict(request);
      // What fails is told after the batch before it.
      predicting.catch(() => {});
      await before;
      const prediction = await predicting;
      const computedMs = nowMs();
      this.#scatter(batch, outputArrays(prediction, this.#outputs), starts);
      const copiedMs = nowMs();
      times = {
        beganMs,
        mergeMs: mergedMs - beganMs,
        computeMs: computedMs - Math.max(mergedMs, this.#endedMs),
        copyMs: copiedMs - computedMs,
        samples: request.batchSize,
        requests: batch.length,
      };
      merged = request;
      this.#endedMs = computedMs;
    } catch (error) {
      await before;
      this.#endedMs = nowMs();
      batcher.failed(this.#endedMs);
      if (error instanceof CudaError && error.contextLost) this.#lost = error;
      events.failed(error);
      for (const job of batch) this.#end(job, this.#lost === undefined ? 'failed' : 'lost');
      return;
    }
    batcher.ran(times.samples, this.#occupiedMs(times), nowMs());
    events.ran(times);
    for (const job of batch) this.#end(job, 'done', times);
    events.answered(merged);
  }

  /** How long the batch kept the engine from others: with one at a time, its merging counts too. */
  #occupiedMs({ mergeMs, computeMs, copyMs }: BatchTimes): number {
    return this.#options.depth === 1 ? mergeMs + computeMs + copyMs : computeMs;
  }

  /** Gives each request its rows of each output. */
  #scatter(batch: readonly Job[], arrays: readonly Float32Array[], starts: Int32Array): void {
    const { addresses } = this.#options;
    for (let r = 0; r < batch.length; r++) {
      const { from, outputAddress, samples } = at(batch, r);
      const memory = at(this.#floats, from);
      let place = (outputAddress - at(addresses, from)) / Float32Array.BYTES_PER_ELEMENT;
      const start = starts[r] as number;
      for (let o = 0; o < arrays.length; o++) {
        const { width } = at(this.#outputs, o);
        memory.set(at(arrays, o).subarray(start * width, (start + samples) * width), place);
        place += samples * width;
      }
    }
  }

  #end(job: Job, outcome: Outcome, batch?: BatchTimes): void {
    at(this.#jobs, job.from).delete(job.ticket);
    this.#options.events.ended(job, outcome, batch);
  }
}
