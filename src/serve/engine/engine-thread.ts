/** The program of an engine thread: it has one copy of a model, and owns every call into its device. */

import { parentPort, workerData } from 'node:worker_threads';
import { at } from '../../at.ts';
import { deferred } from '../../deferred.ts';
import type { HostPtr } from '../../ffi/host-memory.ts';
import { viewMemory } from '../../ffi/host-memory.ts';
import { inputsOf, type ModelArchitecture } from '../../model/architecture.ts';
import type { DlrmModel, ModelOverwrite } from '../../model/dlrm.ts';
import { namedOutputs } from '../../model/prediction.ts';
import { planLabel } from '../../plan/plan.ts';
import { Batcher } from '../batching/batcher.ts';
import { LatencyModel, type Measured } from '../batching/latency-model.ts';
import { HotRowCoverage } from '../metrics/hot-row-coverage.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import { EngineMetrics } from '../metrics/recorders.ts';
import { type PatchedModel, type PatchedTable, readPatch } from '../patches/row-patch.ts';
import { TrafficRecorder } from '../recording/traffic-recorder.ts';
import { RecordModel, recordShape } from '../records/record-model.ts';
import { applyPatch, type Patched, replayPatches } from './apply-patch.ts';
import type { ArenaPlace } from './arena.ts';
import { BusyPoll, turn } from './busy-poll.ts';
import { nowMs } from './clock.ts';
import { type BatchTimes, Engine, type Job } from './engine.ts';
import type { EngineReady, EngineStart, FromEngine, OverwritingModel, ToEngine } from './engine-messages.ts';
import { habitsOf, leadMs, MergeTime, pollMsOf, startMergers } from './habits.ts';
import { type Outcome, postAnswer, readRequest, TO_ENGINE } from './messages.ts';
import { architectureOf, type PlacedModel, placeModel } from './model-source.ts';
import { Bell, RingReader, RingWriter } from './ring.ts';
import { sentError } from './thread-errors.ts';
import { warmUp } from './warm-up.ts';

/** How often what changes slowly is told. */
const REPORT_MS = 1000;
const port = parentPort;
if (port === null) throw new TypeError('an engine runs in a thread of a server');
const say = (message: FromEngine) => port.postMessage(message);
const start = workerData as EngineStart;

function readyOf(model: DlrmModel, metrics: SharedMetrics, patched: Patched): EngineReady {
  const { architecture, device, precision, plan, planSource, notes } = model;
  return {
    device: `${device.id}: ${device.name}`,
    precision,
    plan: `${planLabel(plan)} (${planSource})`,
    pinsRows: plan.device === 'cuda' && plan.techniques.pinning !== undefined,
    canPinRows: (device.gpu?.persistingL2Bytes ?? 0) > 0,
    notes,
    shape: recordShape(architecture),
    inputs: inputsOf(architecture),
    tableRows: architecture.tables.map(({ rows }) => rows),
    outputs: namedOutputs(model.head, architecture.output),
    metrics,
    pollMs: pollMsOf(model, start),
    tables: patchedTables(model),
    patched,
  };
}

function patchedTables({ architecture: { tables } }: DlrmModel): PatchedTable[] {
  return tables.map(({ name, rows, dim, rowFormat }) => ({ name, rows, dim, rowFormat }));
}

function engineOf(
  own: OwnModel,
  measured: readonly Measured[],
  arenas: readonly ArenaPlace[],
  watchers: Watchers,
  bell: Bell,
  counts: () => boolean,
) {
  const { metrics, coverage } = watchers;
  const { model } = own;
  const { backend } = own.placed;
  const habits = habitsOf(model);
  const { depth, shrinks } = habits;
  const merge = new MergeTime();
  const { slaMs, queueSamples, mostSamples = habits.mostSamples } = start.limits;
  const latency = new LatencyModel({
    capacityOf: (samples) => backend.capacityFor(samples),
    warmUp: measured,
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
    if (batch !== undefined && counts()) metrics.waited(queueMs);
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
    records: new RecordModel(recordShape(model.architecture), startMergers()),
    batcher,
    depth,
    memories: arenas.map(({ address, bytes }) => viewMemory(BigInt(address) as HostPtr, bytes)),
    addresses: arenas.map(({ address }) => address),
    events: {
      ended,
      ran: (batch) => {
        merge.observe(batch);
        if (counts()) metrics.ran(batch, Date.now());
      },
      answered: (request) => {
        tell();
        if (!counts()) return;
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

function watchersOf({ tables }: ModelArchitecture): Watchers {
  const { model, instance } = start;
  const coverage = new HotRowCoverage(tables);
  const metrics = new EngineMetrics({ model, instance, tables: coverage.shownTables });
  return { metrics, coverage, recorder: undefined };
}

async function recorderOf({
  tables,
  denseFeatures,
}: ModelArchitecture): Promise<TrafficRecorder | undefined> {
  const { recording } = start;
  return recording && TrafficRecorder.open(recording, { tables: tables.length, denseFeatures });
}

/** Serves until it is stopped and nothing is left to do. `tell`: rings for the answers that there are. */
async function serve(
  engine: Engine,
  tell: () => void,
  bell: Bell,
  poll: BusyPoll,
  stopped: () => boolean,
): Promise<void> {
  const readers = start.lines.map((line) => new RingReader(line.requests));
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
      say({ kind: 'failed', error: sentError(engine.lost) });
      throw engine.lost;
    }
    if (stopped() && engine.jobs === 0) return;
    if (came > 0 || engine.jobs > 0) poll.extend();
    // The device is asked whether it is done on the same event loop.
    await (poll.isOn ? turn() : (bell.wait(againMs) ?? turn()));
  }
}

/** A model of the thread, which another may take the place of. */
class OwnModel implements AsyncDisposable {
  readonly placed: PlacedModel;
  #model: DlrmModel;
  #version = start.version;
  #patched: Patched = { sequence: 0 };
  #next: { readonly by: OverwritingModel; readonly overwrite: ModelOverwrite } | undefined;

  constructor(placed: PlacedModel) {
    this.placed = placed;
    this.#model = placed.model;
  }

  get model(): DlrmModel {
    return this.#model;
  }

  get patched(): Patched {
    return this.#patched;
  }

  /** What patches must be for. */
  get patchedModel(): PatchedModel {
    return { name: start.model, version: this.#version, tables: patchedTables(this.#model) };
  }

  /** Applies the patches of its folder, and runs batches of all sizes. */
  async prepare(patches: string | undefined): Promise<Measured[]> {
    const model = this.#model;
    const { backend, bagLengths } = this.placed;
    this.#patched =
      patches === undefined
        ? { sequence: 0 }
        : await replayPatches(model, patches, this.patchedModel, (sequence, of) =>
            say({ kind: 'progress', text: `patch ${sequence} of ${of}` }),
          );
    const habits = habitsOf(model);
    const { slaMs: longestMs, mostSamples = habits.mostSamples } = start.limits;
    const atOnce = habits.depth;
    model.reserveBatches(mostSamples, atOnce);
    const onProgress = (samples: number) =>
      say({ kind: 'progress', text: `warming up: batches of ${samples}` });
    return warmUp(model, { backend, mostSamples, atOnce, longestMs, bagLengths, onProgress });
  }

  /** @throws what keeps another model's weights from being written over its own. */
  async prepareOverwrite(by: OverwritingModel): Promise<void> {
    this.#next?.overwrite[Symbol.dispose]();
    this.#next = undefined;
    const { architecture } = await architectureOf(by.source);
    this.#next = { by, overwrite: await this.#model.prepareOverwrite(architecture) };
  }

  /** Writes them. @throws where that fails: it cannot answer any more then. */
  async overwrite(): Promise<void> {
    if (this.#next === undefined) throw new TypeError('there is nothing to write over the model');
    const { by, overwrite } = this.#next;
    this.#next = undefined;
    this.#model = await overwrite.run((text) => say({ kind: 'progress', text }));
    this.#version = by.version;
    await this.prepare(by.patches);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#next?.overwrite[Symbol.dispose]();
    await this.#model.close();
  }
}

async function main(): Promise<void> {
  await using own = new OwnModel(
    await placeModel(start.source, start.placing, (text) => say({ kind: 'progress', text })),
  );
  const measured = await own.prepare(start.patches);
  const { model } = own;
  let isStopped = false;
  const bell = new Bell(start.bell);
  const counting = new Int32Array(start.counts);
  /** There once it has begun. */
  const running = deferred<Engine>();
  /** What changes the model is done one after the other. */
  let changing: Promise<void> = Promise.resolve();
  const patch = async (bytes: Uint8Array, name: string) => {
    try {
      const engine = await running.promise;
      await applyPatch(own.model, readPatch(bytes, name, own.patchedModel), (work) => engine.between(work));
      say({ kind: 'patched' });
    } catch (error) {
      say({ kind: 'patched', error: sentError(error) });
    }
  };
  const prepareOverwrite = async (by: OverwritingModel) => {
    try {
      await own.prepareOverwrite(by);
      say({ kind: 'ready-to-overwrite' });
    } catch (error) {
      say({ kind: 'ready-to-overwrite', error: sentError(error) });
    }
  };
  const watchers = watchersOf(model.architecture);
  const overwrite = async () => {
    try {
      const engine = await running.promise;
      await engine.between(() => own.overwrite());
      say({ kind: 'overwritten', ready: readyOf(own.model, watchers.metrics.block.shared, own.patched) });
    } catch (error) {
      say({ kind: 'failed', error: sentError(error) });
    }
  };
  const record = async () => {
    try {
      watchers.recorder = await recorderOf(model.architecture);
    } catch (error) {
      say({ kind: 'error', error: sentError(error) });
    }
  };
  const began = new Promise<readonly ArenaPlace[]>((resolve) => {
    port?.on('message', (message: ToEngine) => {
      switch (message.kind) {
        case 'begin':
          resolve(message.arenas);
          break;
        case 'patch':
          changing = changing.then(() => patch(message.bytes, message.name));
          break;
        case 'prepare-overwrite':
          changing = changing.then(() => prepareOverwrite(message.by));
          break;
        case 'overwrite':
          changing = changing.then(overwrite);
          break;
        case 'record':
          record();
          break;
        case 'stop':
          isStopped = true;
          resolve([]);
          bell.wake();
          break;
        default:
          message satisfies never;
      }
    });
  });
  if (!start.recordsLater) watchers.recorder = await recorderOf(model.architecture);
  say({ kind: 'ready', ready: readyOf(model, watchers.metrics.block.shared, own.patched) });
  const arenas = await began;
  if (isStopped) return;
  const { engine, report, tell } = engineOf(
    own,
    measured,
    arenas,
    watchers,
    bell,
    () => Atomics.load(counting, 0) === 1,
  );
  running.resolve(engine);
  const reporting = setInterval(() => {
    try {
      report();
    } catch (error) {
      // A device that does not even say its memory is lost.
      say({ kind: 'failed', error: sentError(error) });
    }
  }, REPORT_MS);
  try {
    await serve(engine, tell, bell, new BusyPoll(pollMsOf(model, start)), () => isStopped);
    await changing;
    await engine.settled();
  } finally {
    clearInterval(reporting);
    engine[Symbol.dispose]();
    await watchers.recorder?.close();
  }
}

try {
  await main();
} catch (error) {
  say({ kind: 'failed', error: sentError(error) });
} finally {
  port.close();
}
