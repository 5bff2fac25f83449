/**
 * A program on the device: what it needs is made ready once, then it runs, again and again if it is kept. Runs that are
 * not timed are captured as a graph, which one call launches, from the second one on; what a batch changes in it, the
 * parameters of the lookups, is updated before each launch.
 */
import { at } from '../../../at.ts';
import type { CudaDevice } from '../../../cuda/device.ts';
import type { DeviceMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { DensePrecision } from '../../../device.ts';
import type { BagFindings } from '../../../embedding/bag.ts';
import {
  type Bindings,
  type BoundOperation,
  type EmbeddingBagsOperation,
  type Operation,
  ownBy,
  type PlacedBags,
  type RunOptions,
  type RunReport,
  type RunTiming,
} from '../../backend.ts';
import type { CudaSwitches } from '../../cuda-switches.ts';
import { holdAll } from '../../hold-all.ts';
import type { InFlight } from '../../in-flight.ts';
import { type RowReader, readerOf } from '../../row-access.ts';
import { Scope } from '../../scope.ts';
import { OneAtATime, stageSeconds, Template } from '../../slots.ts';
import type { DenseKernels } from '../dense/dense-kernels.ts';
import { type PreparedDense, prepareDense } from '../dense/prepare-dense.ts';
import { CudaBags } from '../embedding/bags.ts';
import { describeBags } from '../embedding/check-bags.ts';
import {
  type EmbeddingStage,
  type LaunchTimer,
  type PersistingL2,
  type StageTools,
  usesOf,
} from '../embedding/embedding-stage.ts';
import { FusedStage } from '../embedding/fused-stage.ts';
import { TableStage } from '../embedding/table-stage.ts';
import { CudaTables } from '../embedding/tables.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import type { MemoryPools } from '../memory/pools.ts';
import { CapturedProgram, CaptureTimer } from './captured.ts';
import { Copies } from './copies.ts';
import { graphStreams, isGraphable, type LaneStreams } from './graph-choice.ts';
import { noProgress, type Progress, RecurringEnd, recorded, type Span, timed, untimed } from './progress.ts';
import { isShortCopy, type Lane, type Schedule, schedule } from './schedule.ts';
import { Staging } from './staging.ts';
import type { Streams } from './stream-sets.ts';
import { type BorrowedEvents, type EventPool, EventTimer, RecordingTimer } from './timers.ts';
import { checkTransfers, enqueueTransfer, reachesPeers } from './transfers.ts';

const WORD_BYTES = 8;

/** What programs need of the backend. */
export interface ProgramTools {
  readonly device: CudaDevice;
  readonly kernels: KernelLibrary;
  /** The program's own set. */
  readonly streams: Streams;
  readonly l2: PersistingL2;
  readonly pools: MemoryPools;
  readonly events: EventPool;
  /** Counts what is under way on the device, which stays open meanwhile. */
  readonly inFlight: InFlight;
  readonly switches: CudaSwitches;
  /** Those of a precision, for the set of streams; default: the device's. */
  dense(precision?: DensePrecision): Promise<DenseKernels>;
  /** Waits until nothing runs, after a failure: memory that work may still use must not be lent again. */
  quiet(): Promise<void>;
}

/** One run's arrays and times. */
interface Run {
  readonly program: readonly BoundOperation[];
  /** By their place. */
  readonly stages: ReadonlyMap<number, EmbeddingStage>;
  readonly streams: LaneStreams;
  readonly timing: RunTiming;
  /** Whether matrices are copied with all their rows, for batches of other sizes to come. */
  readonly whole: boolean;
  readonly timer: LaunchTimer;
  readonly events: BorrowedEvents;
}

/** What stays between runs. */
interface Prepared {
  readonly schedule: Schedule;
  readonly staging: Staging;
  readonly copies: Copies;
  /** Findings of each operation's check, where no report of the check's own has them; 0 between runs. */
  readonly totals: DeviceMemory;
  readonly dense: PreparedDense;
}

export class CudaProgram extends OneAtATime {
  readonly #tools: ProgramTools;
  readonly #template: Template;
  readonly #rows: RowReader;
  readonly #reachesPeers: boolean;
  #prepared: Prepared | undefined;
  #captured: CapturedProgram | undefined;
  readonly #end = new RecurringEnd();
  /** Whether each word of the totals is 0. */
  #totalsZero = false;

  constructor(tools: ProgramTools, program: readonly Operation[]) {
    super();
    this.#tools = tools;
    this.#template = new Template(program, tools.device.description);
    checkTransfers(program);
    this.#reachesPeers = reachesPeers(program);
    this.#rows = readerOf(program, (tables) => ownBy(CudaTables, tables).access);
  }

  async run(
    bindings?: Bindings,
    { timing = 'operations', recorded: tables }: RunOptions = {},
  ): Promise<RunReport> {
    const scope = new Scope();
    try {
      scope.use(this.#tools.inFlight.enter());
      scope.use(this.enter());
      const program = this.#template.bind(bindings);
      scope.use(holdAll(bagsOf(program)));
      const turn = this.#rows.enter();
      scope.use(turn instanceof Promise ? await turn : turn);
      this.#prepared ??= await this.#prepare();
      const prepared = this.#prepared;
      const events = scope.use(this.#tools.events.open());
      const stages = await this.#prepareStages(program, events, prepared);
      const timer =
        tables === undefined
          ? new EventTimer(timing === 'launches' ? events : undefined)
          : new RecordingTimer(this.#tools.device, tables);
      const { streams } = this.#tools;
      const run: Run = { program, stages, streams, timing, whole: false, timer, events };
      try {
        const spans = await this.#start(run, prepared);
        await this.#end.wait(streams[prepared.schedule.end]);
        const findings = await this.#findings(run, prepared.staging);
        await prepared.staging.deliver(program);
        const seconds = Float64Array.from(spans, ({ start, end }) => end.msSince(start) / 1e3);
        return {
          seconds,
          stages: stageSeconds(program, seconds),
          findings,
          launches: timer.launches(),
          kernels: usesOf(stages.values()),
        };
      } catch (error) {
        this.#totalsZero = false;
        await this.#tools.quiet();
        throw error;
      }
    } finally {
      scope[Symbol.dispose]();
    }
  }

  /** Compiles and measures what was not before. */
  async #prepare(): Promise<Prepared> {
    const { program } = this.#template;
    // Compiled beside the dense kernels.
    const copyWords = this.#tools.kernels.utility('copy_words');
    const { pools, switches } = this.#tools;
    const dense = await prepareDense(program, {
      kernelsIn: (precision) => this.#tools.dense(precision),
      pool: pools.device,
      writesCopies: (lookups) => switches.pooledCopies !== false && isFused(lookups),
      copiesAlone: switches.copiesAlone !== false,
    });
    const giveBack = [() => giveBackDense(dense, pools)];
    try {
      const copies = new Copies(await copyWords);
      const staging = new Staging(program, pools.pinned);
      giveBack.push(() => staging[Symbol.dispose]());
      const totals = pools.device.borrow(program.length * WORD_BYTES);
      return { schedule: schedule(program), staging, copies, totals, dense };
    } catch (error) {
      for (const part of giveBack) part();
      throw error;
    }
  }

  async #prepareStages(
    program: readonly BoundOperation[],
    events: BorrowedEvents,
    { totals, dense }: Prepared,
  ): Promise<Map<number, EmbeddingStage>> {
    const { device, kernels, streams, l2 } = this.#tools;
    const stages = new Map<number, EmbeddingStage>();
    for (const [place, operation] of program.entries()) {
      if (operation.op !== 'embeddingBags') continue;
      const tools: StageTools = {
        device,
        kernels,
        stream: streams.lookups,
        sideStream: streams.aside,
        l2,
        total: totals.address(place * WORD_BYTES),
        rounded: dense.pooledCopies.get(place),
        event: () => events.take(false),
      };
      stages.set(place, await prepareStage(operation, tools));
    }
    return stages;
  }

  /** Puts everything into the streams; the times that are taken. */
  async #start(run: Run, prepared: Prepared): Promise<readonly Span[]> {
    const { lookups, dense } = run.streams;
    const endsInDense = prepared.schedule.end === 'dense';
    if (
      run.timing !== 'none' ||
      !this.#totalsZero ||
      !endsInDense ||
      !isGraphable(run.stages.values(), { reachesPeers: this.#reachesPeers })
    ) {
      this.#zeroTotals(prepared);
      this.#uploadBags(run, lookups);
      return this.#enqueue(run, prepared);
    }
    this.#uploadBags(run, dense);
    await prepared.staging.fill(run.program);
    this.#launchGraph(run, prepared);
    return [];
  }

  /** Bags come over before anything else: the lookups take longest. `reader`: what waits for them. */
  #uploadBags({ stages, streams: { copies }, events }: Run, reader: CudaStream): void {
    const uploading = new Set<CudaStream>();
    for (const { bags } of stages.values()) {
      const stream = bags.upload(isShortCopy(bags.uploadedBytes) ? reader : copies);
      if (stream !== undefined && stream !== reader) uploading.add(stream);
    }
    for (const stream of uploading) reader.waitFor(recorded(events, stream));
  }

  /** What brings totals to the host leaves zeros; before the first run, and after a failed one, they may be anything. */
  #zeroTotals({ totals }: Prepared): void {
    if (!this.#totalsZero) this.#tools.streams.lookups.fillBytes(totals.address(), 0, totals.bytes);
    this.#totalsZero = true;
  }

  /** Operation by operation, each in its lane. The lookups do not wait until what follows them is staged. */
  async #enqueue(run: Run, prepared: Prepared): Promise<Span[]> {
    const spans: Span[] = [];
    const around = (stream: CudaStream, work: () => void) => {
      if (run.timing === 'none') work();
      else spans.push(timed(run.events, stream, work));
    };
    const progress = noProgress();
    const { firstStaged } = prepared.schedule;
    this.#enqueueSteps(run, prepared, around, progress, (_, place) => place < firstStaged);
    await prepared.staging.fill(run.program);
    this.#enqueueSteps(run, prepared, around, progress, (_, place) => place >= firstStaged);
    this.#join(run, progress, prepared.schedule);
    return spans;
  }

  /** Puts some of the operations into their streams; an event behind each that others wait for. */
  #enqueueSteps(
    run: Run,
    prepared: Prepared,
    around: (stream: CudaStream, work: () => void) => void,
    { done, totals }: Progress,
    chosen: (lane: Lane, place: number) => boolean,
  ): void {
    const { steps, awaited } = prepared.schedule;
    run.program.forEach((operation, place) => {
      const { lane, after } = at(steps, place);
      if (!chosen(lane, place)) return;
      const stream = run.streams[lane];
      for (const earlier of after) {
        const event = done.get(earlier);
        if (event !== undefined) stream.waitFor(event);
      }
      around(stream, () => this.#enqueueOne(run, prepared, operation, place, stream));
      if (awaited.has(place)) done.set(place, recorded(run.events, stream));
      // Behind the event: what waits for the lookups need not wait for this copy too.
      const stage = run.stages.get(place);
      if (stage?.checks !== true) return;
      prepared.copies.take(stream, prepared.staging.address(place), stage.total, WORD_BYTES);
      totals.push(recorded(run.events, stream));
    });
  }

  /** Has the last lane wait for what the others still do. */
  #join({ streams }: Run, { done, totals }: Progress, { end, joins }: Schedule): void {
    const stream = streams[end];
    for (const place of joins) {
      const event = done.get(place);
      if (event !== undefined) stream.waitFor(event);
    }
    for (const event of totals) stream.waitFor(event);
  }

  #enqueueOne(
    run: Run,
    prepared: Prepared,
    operation: BoundOperation,
    place: number,
    stream: CudaStream,
  ): void {
    const { staging, copies, dense } = prepared;
    switch (operation.op) {
      case 'upload': {
        const { source, output } = operation;
        const elements = run.whole ? output.rows * output.cols : source.length;
        copies.upload(stream, staging.address(place), output, elements);
        break;
      }
      case 'download': {
        const { input, target } = operation;
        const elements = run.whole ? input.rows * input.cols : target.length;
        copies.download(stream, input, staging.address(place), elements);
        break;
      }
      case 'embeddingBags':
        (run.stages.get(place) as EmbeddingStage).enqueue(place, run.timer);
        break;
      case 'transfer':
        enqueueTransfer(stream, copies, operation, () => staging.address(place));
        break;
      default:
        dense.enqueue.get(place)?.(stream);
    }
  }

  /** What is uploaded first comes over while the batch before is computed; all else is in the graph. */
  #launchGraph(run: Run, prepared: Prepared): void {
    const { streams } = run;
    this.#tools.l2.prepare(undefined);
    if (prepared.schedule.steps.some(({ lane }) => lane === 'copies')) {
      this.#enqueueSteps(run, prepared, untimed, noProgress(), (lane) => lane === 'copies');
      streams.dense.waitFor(recorded(run.events, streams.copies));
    }
    const known = this.#captured;
    const captured = known?.follow(run.stages) === true ? known : this.#capture(run, prepared);
    captured.launch(streams.dense);
  }

  #capture(run: Run, prepared: Prepared): CapturedProgram {
    this.#captured?.[Symbol.dispose]();
    this.#captured = undefined;
    const streams = graphStreams(run.stages.values(), run.streams);
    const { lookups, dense } = streams;
    const timer = new CaptureTimer(run.stages);
    const graph = dense.capture(() => {
      lookups.waitFor(recorded(run.events, dense));
      const whole = { ...run, streams, timer, whole: true };
      const progress = noProgress();
      this.#enqueueSteps(whole, prepared, untimed, progress, (lane) => lane !== 'copies');
      this.#join(whole, progress, prepared.schedule);
    });
    this.#captured = new CapturedProgram(graph, timer);
    return this.#captured;
  }

  async #findings({ stages }: Run, staging: Staging): Promise<BagFindings> {
    const { kernels, streams } = this.#tools;
    let badIndices = 0;
    let badOffsets = 0;
    let first: BagFindings['first'];
    for (const [place, { bags, tables, operation, reports, checks }] of stages) {
      if (!checks || staging.total(place) === 0n) continue;
      const found = await describeBags({ kernels, stream: streams.lookups }, tables.tables, bags, reports);
      if (operation.checking === 'error' && found.first !== undefined) throw found.first;
      badIndices += found.badIndices;
      badOffsets += found.badOffsets;
      first ??= found.first;
    }
    return { badIndices, badOffsets, ...(first === undefined ? {} : { first }) };
  }

  protected override giveBack(): void {
    this.#captured?.[Symbol.dispose]();
    this.#captured = undefined;
    if (this.#prepared === undefined) return;
    this.#prepared.staging[Symbol.dispose]();
    this.#tools.pools.device.giveBack(this.#prepared.totals);
    giveBackDense(this.#prepared.dense, this.#tools.pools);
    this.#prepared = undefined;
  }
}

/** The stage of the kernel family that the plan names. */
function prepareStage(
  operation: EmbeddingBagsOperation<PlacedBags>,
  tools: StageTools,
): Promise<EmbeddingStage> {
  const family = isFused(operation) ? FusedStage : TableStage;
  return family.prepare(operation, tools);
}

function isFused({ tables }: EmbeddingBagsOperation): boolean {
  return ownBy(CudaTables, tables).plan.kernel === 'fused';
}

function giveBackDense({ memory }: PreparedDense, { device }: MemoryPools): void {
  if (memory !== undefined) device.giveBack(memory);
}

function bagsOf(program: readonly BoundOperation[]): CudaBags[] {
  const bags: CudaBags[] = [];
  for (const operation of program) {
    if (operation.op === 'embeddingBags') bags.push(ownBy(CudaBags, operation.bags));
  }
  return bags;
}
