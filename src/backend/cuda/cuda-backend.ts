/** The CUDA backend: kernels of kernels/cuda, compiled for this GPU when they are first used. */
import { BlockPool } from '../../cuda/block-pool.ts';
import { CudaDevice } from '../../cuda/device.ts';
import { cudaDriver, describe } from '../../cuda/discover.ts';
import type { CudaEvent } from '../../cuda/event.ts';
import { CudaStream } from '../../cuda/stream.ts';
import type { DeviceDescription } from '../../device.ts';
import { type BagBatch, type BagFindings, checkBagShapes, type EmbeddingTable } from '../../embedding/bag.ts';
import { type Plan, planFor } from '../../embedding/plan.ts';
import { DeviceError } from '../../errors.ts';
import type { CudaDriver } from '../../ffi/cuda-driver.ts';
import { Nvrtc } from '../../ffi/nvrtc.ts';
import type { Compiler } from '../../jit/compile-kernel.ts';
import { KernelCache } from '../../jit/kernel-cache.ts';
import {
  type Backend,
  type Ceilings,
  type DeviceBuffer,
  type EmbeddingBagsOperation,
  type Operation,
  ownBy,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type RunOptions,
  type RunReport,
} from '../backend.ts';
import { CudaBags } from './bags.ts';
import { CudaBuffer } from './buffer.ts';
import { measureCeilings } from './ceilings.ts';
import { describeBags } from './check-bags.ts';
import { copy, download, upload } from './copies.ts';
import { FusedStage } from './fused-stage.ts';
import { KernelLibrary } from './kernel-library.ts';
import { CudaTables, placeTables } from './placement.ts';
import { type EmbeddingStage, PersistingL2, type StageTools } from './stage.ts';
import { Staging } from './staging.ts';
import { StandardStage } from './standard-stage.ts';
import { type BorrowedEvents, EventPool, EventTimer } from './timers.ts';

export interface CudaBackendOptions {
  /** Which GPU; default: the first. */
  readonly ordinal?: number;
  /** Default: the machine's. */
  readonly driver?: CudaDriver;
  /** Default: NVRTC of the driver's major version. */
  readonly compiler?: Compiler;
  /** Default: the user's. */
  readonly cache?: KernelCache;
}

/** The most idle memory that is kept for the batches to come. */
const IDLE_DEVICE_BYTES = 2 ** 31;
const IDLE_PINNED_BYTES = 2 ** 30;

const WORD_BYTES = 8;

export class CudaBackend implements Backend {
  readonly device: DeviceDescription;
  readonly #device: CudaDevice;
  readonly #stream: CudaStream;
  readonly #sideStream: CudaStream;
  readonly #kernels: KernelLibrary;
  readonly #pools;
  readonly #events: EventPool;
  readonly #l2: PersistingL2;
  #running = 0;
  #closed = false;

  /** @throws DeviceError DEVICE_UNAVAILABLE, CUDA_LIBRARY_MISSING; CudaError. */
  constructor(options: CudaBackendOptions = {}) {
    const driver = options.driver ?? cudaDriver();
    const compiler = options.compiler ?? new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
    this.#device = new CudaDevice(driver, options.ordinal ?? 0);
    this.device = describe(driver, this.#device.properties);
    this.#stream = new CudaStream(this.#device);
    this.#sideStream = new CudaStream(this.#device);
    this.#kernels = new KernelLibrary(this.#device, compiler, options.cache ?? new KernelCache());
    this.#pools = {
      device: BlockPool.ofDevice(this.#device, IDLE_DEVICE_BYTES),
      pinned: BlockPool.ofPinned(this.#device, IDLE_PINNED_BYTES),
    };
    this.#events = new EventPool(this.#device);
    this.#l2 = new PersistingL2(this.#device);
  }

  placeTables(tables: readonly EmbeddingTable[], plan: Plan): Promise<PlacedTables> {
    return this.#whileOpen(() => {
      return placeTables(this.#tools, tables, planFor('cuda', plan));
    });
  }

  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags {
    this.#checkOpen();
    checkBagShapes(tables.tables, batch);
    return new CudaBags(ownBy(CudaTables, tables), batch, this.#pools);
  }

  placeLinear(): PlacedLinear {
    throw new DeviceError(
      'DEVICE_UNAVAILABLE',
      `${this.device.id} runs the embedding stage; this version has no CUDA kernels for the dense layers`,
      { hint: 'run whole models with --device cpu' },
    );
  }

  allocate(length: number): DeviceBuffer {
    this.#checkOpen();
    return new CudaBuffer(this.#device, length);
  }

  run(program: readonly Operation[], options: RunOptions = {}): Promise<RunReport> {
    return this.#whileOpen(() => this.#run(program, options));
  }

  observe(tables: PlacedTables, batches: readonly PlacedBags[]): Promise<void> {
    const bags = batches.map((batch) => ownBy(CudaBags, batch));
    return this.#whileOpen(() => ownBy(CudaTables, tables).hotRows.observe(bags));
  }

  measureCeilings(): Promise<Ceilings> {
    return this.#whileOpen(() => measureCeilings(this.#device, this.#stream, this.#kernels));
  }

  /** Gives the device back, after programs that still run. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#running === 0) this.#device[Symbol.dispose]();
  }

  async #run(program: readonly Operation[], { timeLaunches = false }: RunOptions): Promise<RunReport> {
    using events = this.#events.open();
    const stages = new Map<Operation, EmbeddingStage>();
    const tools: StageTools = {
      device: this.#device,
      kernels: this.#kernels,
      stream: this.#stream,
      sideStream: this.#sideStream,
      l2: this.#l2,
      event: () => events.take(false),
    };
    const bags = program.flatMap((operation) =>
      operation.op === 'embeddingBags' ? [ownBy(CudaBags, operation.bags)] : [],
    );
    const work = async (): Promise<RunReport> => {
      for (const operation of program) {
        if (operation.op === 'embeddingBags') stages.set(operation, await prepareStage(operation, tools));
      }
      const checked = [...stages.values()].filter((stage) => stage.checks);
      const staging = new Staging(program, checked.length, this.#pools.pinned);
      try {
        await staging.fill();
        const timer = new EventTimer(timeLaunches ? events : undefined);
        const marks = this.#enqueue(program, stages, staging, timer, events);
        checked.forEach((stage, i) => {
          this.#stream.copyToHost(staging.totalAddress(i), stage.bags.total, WORD_BYTES);
        });
        await this.#stream.finished();
        const findings = await this.#findings(checked.filter((_, i) => staging.total(i) > 0n));
        await staging.deliver();
        return {
          seconds: Float64Array.from(program, (_, i) => secondsOf(marks, i)),
          findings,
          launches: timer.launches(),
          kernels: [...new Set([...stages.values()].flatMap((stage) => stage.uses))],
        };
      } catch (error) {
        await this.#quiet();
        throw error;
      } finally {
        staging[Symbol.dispose]();
      }
    };
    return holdAll(bags, work);
  }

  /** Puts a program into the stream; the marks stand before, between and behind its operations. */
  #enqueue(
    program: readonly Operation[],
    stages: ReadonlyMap<Operation, EmbeddingStage>,
    staging: Staging,
    timer: EventTimer,
    events: BorrowedEvents,
  ): CudaEvent[] {
    const stream = this.#stream;
    for (const { bags } of stages.values()) bags.upload(stream);
    const marks = [events.mark(stream)];
    program.forEach((operation, i) => {
      switch (operation.op) {
        case 'upload':
          upload(stream, staging.address(operation), operation.output);
          break;
        case 'download':
          download(stream, operation.input, staging.address(operation));
          break;
        case 'copy':
          copy(stream, operation.input, operation.output);
          break;
        case 'embeddingBags':
          stages.get(operation)?.enqueue(i, timer);
          break;
        case 'linear':
        case 'dotInteraction':
          throw new DeviceError('DEVICE_UNAVAILABLE', `${this.device.id} has no kernel for ${operation.op}`);
        default:
          operation satisfies never;
      }
      marks.push(events.mark(stream));
    });
    return marks;
  }

  /** What the checks of some stages found: thrown in `error` mode. */
  async #findings(stages: readonly EmbeddingStage[]): Promise<BagFindings> {
    let badIndices = 0;
    let badOffsets = 0;
    let first: BagFindings['first'];
    for (const { bags, tables, operation, reports } of stages) {
      const found = await describeBags(this.#tools, tables.tables, bags, reports);
      if (operation.checking === 'error' && found.first !== undefined) throw found.first;
      badIndices += found.badIndices;
      badOffsets += found.badOffsets;
      first ??= found.first;
    }
    return { badIndices, badOffsets, ...(first === undefined ? {} : { first }) };
  }

  get #tools() {
    return { device: this.#device, stream: this.#stream, kernels: this.#kernels };
  }

  /** Waits until nothing runs: memory that work may still use must not be lent again. */
  async #quiet(): Promise<void> {
    for (const stream of [this.#stream, this.#sideStream]) {
      // What failed was reported already, or is by the next call: the context remembers it.
      if (!stream.disposed) await stream.finished().catch(() => {});
    }
  }

  async #whileOpen<T>(work: () => Promise<T>): Promise<T> {
    this.#checkOpen();
    this.#running += 1;
    try {
      return await work();
    } finally {
      this.#running -= 1;
      if (this.#closed && this.#running === 0) this.#device[Symbol.dispose]();
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new DeviceError('DISPOSED', `${this.device.id} was used after it was closed`);
  }
}

/** The stage of the kernel family that the plan names. */
function prepareStage(operation: EmbeddingBagsOperation, tools: StageTools): Promise<EmbeddingStage> {
  const family = ownBy(CudaTables, operation.tables).plan.kernel === 'fused' ? FusedStage : StandardStage;
  return family.prepare(operation, tools);
}

/** Runs `work` while all of `bags` are held. */
function holdAll<T>([first, ...rest]: readonly CudaBags[], work: () => Promise<T>): Promise<T> {
  return first === undefined ? work() : first.hold(() => holdAll(rest, work));
}

/** Device time of operation `i`, which stands between two marks. */
function secondsOf(marks: readonly CudaEvent[], i: number): number {
  const [start, end] = marks.slice(i, i + 2) as [CudaEvent, CudaEvent];
  return end.msSince(start) / 1e3;
}
