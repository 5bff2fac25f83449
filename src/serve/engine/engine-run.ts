/** A model in an engine thread, from the file that it comes from until nothing is left of it. */
import { at } from '../../at.ts';
import { deferred } from '../../deferred.ts';
import type { HostPtr } from '../../ffi/host-memory.ts';
import { viewMemory } from '../../ffi/host-memory.ts';
import { destroyPool, type ThreadPool } from '../../ffi/thread-pool.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { Batcher } from '../batching/batcher.ts';
import { LatencyModel } from '../batching/latency-model.ts';
import { HotRowCoverage } from '../metrics/hot-row-coverage.ts';
import { EngineMetrics } from '../metrics/recorders.ts';
import { readPatch } from '../patches/row-patch.ts';
import { TrafficRecorder } from '../recording/traffic-recorder.ts';
import { RecordModel, recordShape } from '../records/record-model.ts';
import { applyPatch } from './apply-patch.ts';
import type { ArenaPlace } from './arena.ts';
import { BusyPoll, turn } from './busy-poll.ts';
import { nowMs } from './clock.ts';
import { type BatchTimes, Engine, type Job } from './engine.ts';
import type { EngineStart, FromEngine, OverwritingModel, ToModel } from './engine-messages.ts';
import { habitsOf, leadMs, MergeTime, pollMsOf, startMergers } from './habits.ts';
import { type Outcome, postAnswer, readRequest, TO_ENGINE } from './messages.ts';
import { OwnModel } from './own-model.ts';
import { Bell, RingReader, RingWriter } from './ring.ts';
import { sentError } from './thread-errors.ts';

/** How often what changes slowly is told. */
const REPORT_MS = 1000;

/** What an engine is made of. */
interface EngineParts {
  readonly start: EngineStart;
  readonly say: (message: FromEngine) => void;
  readonly own: OwnModel;
  readonly mergers: ThreadPool | undefined;
  readonly arenas: readonly ArenaPlace[];
  readonly watchers: Watchers;
  readonly bell: Bell;
}

function engineOf({ start, say, own, mergers, arenas, watchers, bell }: EngineParts) {
  const { metrics, coverage } = watchers;
  const counting = new Int32Array(start.counts);
  /** Whether the batch that has run counts: known before its answers are seen, the last of which may be what counting waited for. */
  let isCounted = false;
  const { model } = own;
  const { backend } = own.placed;
  const habits = habitsOf(model);
  const { depth, shrinks } = habits;
  const merge = new MergeTime();
  const { slaMs, queueSamples, mostSamples = habits.mostSamples } = start.limits;
  const latency = new LatencyModel({
    capacityOf: (samples) => backend.capacityFor(samples),
    warmUp: own.measured,
  });
  const batcher = new Batcher<Job>({
    latency,
    slaMs,
    mostSamples,
    queueSamples,
    shrinks,
    depth,
    ...(depth > 1
      ? {
          prepareMs: merge.predictMs,
          leadMs: (samples: number) => leadMs(latency.predictMs(samples)),
        }
      : {}),
  });
  const answers = start.lines.map((line) => new RingWriter(line.answers));
  const bells = start.lines.map((line) => new Bell(line.bell));
  /** Of each thread: whether it has answers that it has not been told of. */
  const isUntold = bells.map(() => false);
  const tell = () => {
    for (let from = 0; from < bells.length; from++) {
      if (isUntold[from]) at(bells, from).ring();
      isUntold[from] = false;
    }
  };
  const ended = (job: Job, outcome: Outcome, batch?: BatchTimes, retryAfterMs = 0) => {
    const times = batch ?? { beganMs: job.arrivedMs, mergeMs: 0, computeMs: 0, copyMs: 0 };
    const { beganMs, mergeMs, computeMs, copyMs } = times;
    const queueMs = beganMs - job.arrivedMs;
    if (batch !== undefined && isCounted) metrics.waited(queueMs);
    const { ticket, from } = job;
    // There is room: a thread has no more requests under way than answers fit.
    postAnswer(at(answers, from), {
      ticket,
      outcome,
      retryAfterMs,
      queueMs,
      mergeMs,
      computeMs,
      copyMs,
      endedMs: nowMs(),
    });
    isUntold[from] = true;
  };
  const { head, architecture } = model;
  const engine = new Engine({
    // What takes its place has the same head.
    model: { head, architecture, predict: (request) => own.model.predict(request) },
    backend,
    records: new RecordModel(recordShape(model.architecture), mergers),
    batcher,
    depth,
    memories: arenas.map(({ address, bytes }) => viewMemory(BigInt(address) as HostPtr, bytes)),
    addresses: arenas.map(({ address }) => address),
    events: {
      ended,
      ran: (batch) => {
        merge.observe(batch);
        isCounted = Atomics.load(counting, 0) === 1;
        if (isCounted) metrics.ran(batch, Date.now());
      },
      answered: (request) => {
        tell();
        if (!isCounted) return;
        coverage.observe(request);
        watchers.recorder?.offer(request);
      },
      failed: (error) => {
        if (engine.lost === undefined) say({ kind: 'error', error: sentError(error) });
      },
      freed: () => {
        tell();
        // The thread's loop may sleep without end, or until a time that no longer holds.
        bell.wake();
      },
    },
  });
  const report = () => {
    metrics.queued(batcher.queuedRequests, batcher.queuedSamples);
    metrics.coverage(coverage.figures());
    const memory = backend.memoryUse();
    say({
      kind: 'state',
      fits: latency.fits(),
      usual: latency.usual(mostSamples),
      ...(memory === undefined ? {} : { memory: { device: model.device.id, ...memory } }),
    });
  };
  return { engine, report, tell };
}

/** What looks at the batches that run. */
interface Watchers {
  readonly metrics: EngineMetrics;
  readonly coverage: HotRowCoverage;
  recorder: TrafficRecorder | undefined;
}

function watchersOf({ model, instance }: EngineStart, { tables }: ModelArchitecture): Watchers {
  const coverage = new HotRowCoverage(tables);
  const metrics = new EngineMetrics({ model, instance, tables: coverage.shownTables });
  return { metrics, coverage, recorder: undefined };
}

async function recorderOf(
  { recording }: EngineStart,
  { tables, denseFeatures }: ModelArchitecture,
): Promise<TrafficRecorder | undefined> {
  return recording && TrafficRecorder.open(recording, { tables: tables.length, denseFeatures });
}

/** What is there once the model answers requests. */
interface Serving {
  readonly own: OwnModel;
  readonly engine: Engine;
}

export class EngineRun {
  readonly #start: EngineStart;
  readonly #say: (message: FromEngine) => void;
  readonly #bell: Bell;
  readonly #arenas = deferred<readonly ArenaPlace[]>();
  readonly #serving = deferred<Serving>();
  #watchers: Watchers | undefined;
  /** What changes the model is done one after the other. */
  #changing: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(start: EngineStart, say: (message: FromEngine) => void) {
    this.#start = start;
    this.#say = say;
    this.#bell = new Bell(start.bell);
  }

  hear(message: ToModel): void {
    switch (message.kind) {
      case 'begin':
        this.#arenas.resolve(message.arenas);
        break;
      case 'patch':
        this.#change((serving) => this.#patch(serving, message.bytes, message.name));
        break;
      case 'prepare-overwrite':
        this.#change((serving) => this.#prepareOverwrite(serving, message.by));
        break;
      case 'overwrite':
        this.#change((serving) => this.#overwrite(serving));
        break;
      case 'record':
        this.#change(({ own }) => this.#record(own));
        break;
      case 'stop':
        this.#isStopped = true;
        this.#arenas.resolve([]);
        this.#bell.wake();
        break;
      default:
        message satisfies never;
    }
  }

  /** Places the model, answers requests until it is stopped and nothing is left to do, and gives all back. @throws what keeps it from that. */
  async run(): Promise<void> {
    const start = this.#start;
    await using own = await OwnModel.place(start, (text) => this.#say({ kind: 'progress', text }));
    await own.prepare(start.patches);
    const { architecture } = own.model;
    this.#watchers = watchersOf(start, architecture);
    try {
      if (!start.recordsLater) this.#watchers.recorder = await recorderOf(start, architecture);
      this.#say({ kind: 'ready', ready: own.ready(this.#watchers.metrics.block.shared) });
      const arenas = await this.#arenas.promise;
      if (!this.#isStopped) await this.#answer(own, arenas, this.#watchers);
    } finally {
      await this.#watchers.recorder?.close();
    }
  }

  async #answer(own: OwnModel, arenas: readonly ArenaPlace[], watchers: Watchers): Promise<void> {
    const [start, say, bell] = [this.#start, this.#say, this.#bell];
    const mergers = startMergers();
    const { engine, report, tell } = engineOf({
      start,
      say,
      own,
      mergers,
      arenas,
      watchers,
      bell,
    });
    this.#serving.resolve({ own, engine });
    const reporting = setInterval(() => {
      try {
        report();
      } catch (error) {
        // A device that does not even say its memory is lost.
        say({ kind: 'failed', error: sentError(error) });
      }
    }, REPORT_MS);
    try {
      await this.#serve(engine, tell, new BusyPoll(pollMsOf(own.model, start)));
      await this.#changing;
      await engine.settled();
    } finally {
      clearInterval(reporting);
      engine[Symbol.dispose]();
      if (mergers !== undefined) destroyPool(mergers);
    }
  }

  /** `tell`: rings for the answers that there are. */
  async #serve(engine: Engine, tell: () => void, poll: BusyPoll): Promise<void> {
    const bell = this.#bell;
    const readers = this.#start.lines.map((line) => new RingReader(line.requests));
    for (;;) {
      bell.look();
      let came = 0;
      for (const [from, reader] of readers.entries()) {
        came += reader.drain((entries, place) => {
          if (entries[place] === TO_ENGINE.request) engine.receive(readRequest(entries, place, from));
          else engine.cancel(from, entries[place + 1] as number);
        });
      }
      const againMs = engine.pump();
      tell();
      if (engine.lost !== undefined) {
        // Before anything is given back, which may take long or fail.
        this.#say({ kind: 'failed', error: sentError(engine.lost) });
        throw engine.lost;
      }
      if (this.#isStopped && engine.jobs === 0) return;
      if (came > 0 || engine.jobs > 0) poll.extend();
      // The device is asked whether it is done on the same event loop.
      await (poll.isOn ? turn() : (bell.wait(againMs) ?? turn()));
    }
  }

  #change(work: (serving: Serving) => Promise<void>): void {
    this.#changing = this.#changing.then(async () => work(await this.#serving.promise));
  }

  async #patch({ own, engine }: Serving, bytes: Uint8Array, name: string): Promise<void> {
    try {
      await applyPatch(own.model, readPatch(bytes, name, own.patchedModel), (work) => engine.between(work));
      this.#say({ kind: 'patched' });
    } catch (error) {
      this.#say({ kind: 'patched', error: sentError(error) });
    }
  }

  async #prepareOverwrite({ own }: Serving, by: OverwritingModel): Promise<void> {
    try {
      await own.prepareOverwrite(by);
      this.#say({ kind: 'ready-to-overwrite' });
    } catch (error) {
      this.#say({ kind: 'ready-to-overwrite', error: sentError(error) });
    }
  }

  async #overwrite({ own, engine }: Serving): Promise<void> {
    try {
      await engine.between(() => own.overwrite());
      const { metrics } = this.#watchers as Watchers;
      this.#say({ kind: 'overwritten', ready: own.ready(metrics.block.shared) });
    } catch (error) {
      this.#say({ kind: 'failed', error: sentError(error) });
    }
  }

  async #record(own: OwnModel): Promise<void> {
    try {
      (this.#watchers as Watchers).recorder = await recorderOf(this.#start, own.model.architecture);
    } catch (error) {
      this.#say({ kind: 'error', error: sentError(error) });
    }
  }
}
