/** One run of a program: what it needs made ready, put into the streams, and what it gave collected. */

import type { BlockPool } from '../../cuda/block-pool.ts';
import type { CudaDevice } from '../../cuda/device.ts';
import type { CudaEvent } from '../../cuda/event.ts';
import type { PinnedMemory } from '../../cuda/memory.ts';
import type { CudaStream } from '../../cuda/stream.ts';
import type { BagFindings } from '../../embedding/bag.ts';
import {
  type EmbeddingBagsOperation,
  type KernelUse,
  type Operation,
  ownBy,
  type RunReport,
  type RunTiming,
} from '../backend.ts';
import { describeBags } from './check-bags.ts';
import { download, upload } from './copies.ts';
import type { DenseKernels } from './dense-kernels.ts';
import { isDense, prepareDense } from './dense-stage.ts';
import { FusedStage } from './fused-stage.ts';
import type { KernelLibrary } from './kernel-library.ts';
import { CudaTables } from './placement.ts';
import { type Lane, type Schedule, schedule } from './schedule.ts';
import type { EmbeddingStage, PersistingL2, StageTools } from './stage.ts';
import { Staging } from './staging.ts';
import { StandardStage } from './standard-stage.ts';
import { type BorrowedEvents, EventTimer } from './timers.ts';

const WORD_BYTES = 8;

/** The streams of a device: a lane each, and one for what happens in the shadow of the lookups. */
export type Streams = Readonly<Record<Lane | 'aside', CudaStream>>;

/** What a run needs of the backend. */
export interface ProgramTools {
  readonly device: CudaDevice;
  readonly kernels: KernelLibrary;
  readonly streams: Streams;
  readonly l2: PersistingL2;
  readonly pinned: BlockPool<PinnedMemory>;
  readonly events: BorrowedEvents;
  /** Opened when a program needs them. */
  dense(): Promise<DenseKernels>;
}

/** An operation that is ready. */
interface Ready {
  readonly operation: Operation;
  readonly stage?: EmbeddingStage;
  enqueue(stream: CudaStream): void;
}

/** Where an operation's time is taken. */
interface Span {
  readonly start: CudaEvent;
  readonly end: CudaEvent;
}

export class ProgramRun implements Disposable {
  readonly #tools: ProgramTools;
  readonly #ready: readonly Ready[];
  readonly #schedule: Schedule;
  readonly #staging: Staging;
  readonly #timing: RunTiming;
  readonly #timer: EventTimer;
  readonly #spans: Span[] = [];

  private constructor(
    tools: ProgramTools,
    ready: Ready[],
    staging: Staging,
    timing: RunTiming,
    timer: EventTimer,
  ) {
    this.#tools = tools;
    this.#ready = ready;
    this.#schedule = schedule(ready.map(({ operation }) => operation));
    this.#staging = staging;
    this.#timing = timing;
    this.#timer = timer;
  }

  /** Compiles and measures what was not before, and stages what is to be uploaded. */
  static async prepare(
    program: readonly Operation[],
    tools: ProgramTools,
    timing: RunTiming,
  ): Promise<ProgramRun> {
    const dense = program.some(isDense) ? await tools.dense() : undefined;
    const staging = new Staging(program, tools.pinned);
    try {
      const timer = new EventTimer(timing === 'launches' ? tools.events : undefined);
      const ready: Ready[] = [];
      for (const [place, operation] of program.entries()) {
        ready.push(await makeReady(operation, place, { tools, dense, staging, timer }));
      }
      await staging.fill();
      return new ProgramRun(tools, ready, staging, timing, timer);
    } catch (error) {
      staging[Symbol.dispose]();
      throw error;
    }
  }

  /** Puts everything into the streams. */
  enqueue(): void {
    const { streams, events } = this.#tools;
    const { steps, end, joins, awaited } = this.#schedule;
    this.#uploadBags();
    const done = new Map<number, CudaEvent>();
    const waitFor = (stream: CudaStream, earlier: readonly number[]) => {
      for (const i of earlier) stream.waitFor(done.get(i) as CudaEvent);
    };
    this.#ready.forEach((ready, i) => {
      const { lane, after } = steps[i] as Schedule['steps'][number];
      const stream = streams[lane];
      waitFor(stream, after);
      if (this.#timing === 'none') ready.enqueue(stream);
      else this.#spans.push(timed(events, stream, () => ready.enqueue(stream)));
      if (awaited.has(i)) done.set(i, recorded(events, stream));
    });
    waitFor(streams[end], joins);
  }

  /** Resolves when everything is done. @throws CudaError KERNEL_FAILED. */
  finished(): Promise<void> {
    return this.#tools.streams[this.#schedule.end].finished();
  }

  /**
   * Gives the caller what was downloaded, and the report.
   * @throws RequestError for bad indices or offsets, in `error` mode; then nothing reaches the caller.
   */
  async deliver(): Promise<RunReport> {
    const findings = await this.#findings();
    await this.#staging.deliver();
    return {
      seconds: Float64Array.from(this.#spans, ({ start, end }) => end.msSince(start) / 1e3),
      findings,
      launches: this.#timer.launches(),
      kernels: [...new Set(this.#stages.flatMap((stage): readonly KernelUse[] => stage.uses))],
    };
  }

  [Symbol.dispose](): void {
    this.#staging[Symbol.dispose]();
  }

  get #stages(): EmbeddingStage[] {
    return this.#ready.flatMap(({ stage }) => (stage === undefined ? [] : [stage]));
  }

  /** Bags come over before anything else: the lookups take longest. */
  #uploadBags(): void {
    const { streams, events } = this.#tools;
    const uploads = this.#stages.filter(({ bags }) => bags.upload(streams.copies));
    if (uploads.length > 0) streams.lookups.waitFor(recorded(events, streams.copies));
  }

  async #findings(): Promise<BagFindings> {
    const { kernels, streams } = this.#tools;
    let badIndices = 0;
    let badOffsets = 0;
    let first: BagFindings['first'];
    for (const { bags, tables, operation, reports, checks } of this.#stages) {
      if (!checks || this.#staging.total(operation) === 0n) continue;
      const found = await describeBags({ kernels, stream: streams.lookups }, tables.tables, bags, reports);
      if (operation.checking === 'error' && found.first !== undefined) throw found.first;
      badIndices += found.badIndices;
      badOffsets += found.badOffsets;
      first ??= found.first;
    }
    return { badIndices, badOffsets, ...(first === undefined ? {} : { first }) };
  }
}

interface Preparing {
  readonly tools: ProgramTools;
  readonly dense: DenseKernels | undefined;
  readonly staging: Staging;
  readonly timer: EventTimer;
}

async function makeReady(
  operation: Operation,
  place: number,
  { tools, dense, staging, timer }: Preparing,
): Promise<Ready> {
  switch (operation.op) {
    case 'upload':
      return { operation, enqueue: (stream) => upload(stream, staging.address(operation), operation.output) };
    case 'download':
      return {
        operation,
        enqueue: (stream) => download(stream, operation.input, staging.address(operation)),
      };
    case 'embeddingBags': {
      const stage = await prepareStage(operation, tools);
      return {
        operation,
        stage,
        enqueue: (stream) => {
          stage.enqueue(place, timer);
          if (stage.checks) stream.copyToHost(staging.address(operation), stage.bags.total, WORD_BYTES);
        },
      };
    }
    default: {
      const put = prepareDense(dense as DenseKernels, operation);
      return { operation, enqueue: put };
    }
  }
}

/** The stage of the kernel family that the plan names. */
function prepareStage(operation: EmbeddingBagsOperation, tools: ProgramTools): Promise<EmbeddingStage> {
  const { device, kernels, streams, l2, events } = tools;
  const stageTools: StageTools = {
    device,
    kernels,
    stream: streams.lookups,
    sideStream: streams.aside,
    l2,
    event: () => events.take(false),
  };
  const family = ownBy(CudaTables, operation.tables).plan.kernel === 'fused' ? FusedStage : StandardStage;
  return family.prepare(operation, stageTools);
}

function timed(events: BorrowedEvents, stream: CudaStream, work: () => void): Span {
  const start = events.mark(stream);
  work();
  return { start, end: events.mark(stream) };
}

/** An event behind all work of the stream. */
function recorded(events: BorrowedEvents, stream: CudaStream): CudaEvent {
  const event = events.take(false);
  event.record(stream);
  return event;
}
