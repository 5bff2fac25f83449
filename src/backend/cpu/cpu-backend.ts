/** The CPU backend: the kernels of kernels/cpu on a persistent thread pool. */

import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { allocated } from '../../checks/arguments.ts';
import { deepFrozen } from '../../checks/value.ts';
import { type DensePrecision, type DeviceDescription, precisionOn } from '../../device.ts';
import {
  type BagBatch,
  type BagFault,
  type BagFindings,
  bagFaultError,
  type EmbeddingTable,
} from '../../embedding/bag.ts';
import { checkBagShapes } from '../../embedding/check-bags.ts';
import { rowLayout } from '../../embedding/row-format.ts';
import { arraysChanged, DeviceError } from '../../errors.ts';
import {
  fillUniform,
  measureFmaRate,
  measureReadRate,
  packLinear,
  runOperators,
} from '../../ffi/cpu-operators.ts';
import { NativeMemory } from '../../ffi/host-memory.ts';
import { bestIsa, createPool, destroyPool, type Isa, type ThreadPool } from '../../ffi/thread-pool.ts';
import { type Plan, planFor } from '../../plan/plan.ts';
import { Admission, type AdmissionLimits } from '../admission.ts';
import {
  type Backend,
  type Bindings,
  type Ceilings,
  type DeviceBuffer,
  type Executable,
  type HostMemory,
  type Operation,
  ownBy,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type PlaceOptions,
  type RunOptions,
  type RunReport,
} from '../backend.ts';
import { HostArrays } from '../host-arrays.ts';
import { HostBuffer } from '../host-buffer.ts';
import { InFlight } from '../in-flight.ts';
import { type RowReader, readerOf } from '../row-access.ts';
import { asScaled, elementValues, type ScaledWeight } from '../scaled-weight.ts';
import { Scope } from '../scope.ts';
import { OneAtATime, stageSeconds, Template } from '../slots.ts';
import { CpuBags } from './bags.ts';
import { type BagReport, CpuLinear, EncodedProgram, FixedRecords } from './encode.ts';
import { CpuTables, placeTables } from './placement.ts';
import { checkUnchanged } from './rows.ts';

export interface CpuBackendOptions {
  /** Threads of the pool; default: all cores that this process may use. */
  readonly threads?: number;
  /** Instruction set of the kernels; default: the processor's best. */
  readonly isa?: Isa;
  readonly limits?: AdmissionLimits;
  /** Whether the thread does nothing else, and may be kept from its event loop for 2 ms at a time. Default: false. */
  readonly ownsThread?: boolean;
}

/** Programs below this cost run at once instead of on a background thread, whose hand-over takes as long. */
const INLINE_BYTES = 1 << 18;
/** The same of some 2 ms: waking a thread and being woken by it costs two cores 0.1 ms, which nothing else needs the event loop for. */
const OWN_THREAD_INLINE_BYTES = 1 << 23;

/** How long, and over how much memory, ceilings are measured: well past any cache. */
const CEILING_SECONDS = 0.2;
const CEILING_BYTES = 1 << 29;

export class CpuBackend implements Backend {
  readonly device: DeviceDescription;
  readonly admission: Admission;
  readonly #pool: ThreadPool;
  readonly #inlineBytes: number;
  /** Every use of the pool. */
  readonly #inFlight = new InFlight('the CPU backend', () => destroyPool(this.#pool));

  /** @throws DeviceError NATIVE_LIBRARY_*, DEVICE_UNAVAILABLE (isa), OUT_OF_MEMORY (threads). */
  constructor(options: CpuBackendOptions = {}) {
    const threads = options.threads ?? availableParallelism();
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
      throw new DeviceError('DEVICE_UNAVAILABLE', `a thread count of ${threads} is not in [1, 1024]`);
    }
    const isa = options.isa ?? bestIsa();
    this.admission = new Admission(options.limits);
    this.#inlineBytes = options.ownsThread === true ? OWN_THREAD_INLINE_BYTES : INLINE_BYTES;
    this.#pool = createPool(threads, isa);
    this.device = deepFrozen<DeviceDescription>({
      kind: 'cpu',
      id: 'cpu',
      name: cpus()[0]?.model.trim() ?? 'unknown processor',
      architecture: isa,
      threads,
      memoryBytes: totalmem(),
      versions: { node: process.versions.node, kernel: release() },
      capabilities: {
        precisions: ['float32', 'float8_e4m3'],
        hasOwnMemory: false,
        runsBesideHost: false,
        compilesKernels: false,
        launchesTableByTable: false,
        measuresLinear: false,
        exchangesWith: [],
      },
    });
  }

  async placeTables(
    tables: readonly EmbeddingTable[],
    plan: Plan,
    options?: PlaceOptions,
  ): Promise<PlacedTables> {
    using _call = this.#inFlight.enter();
    return await placeTables(this.#pool, this.device, tables, planFor('cpu', plan), options);
  }

  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags {
    return new CpuBags(checkBagShapes(tables.tables, batch), tables.tables);
  }

  placeLinear(
    weight: Float32Array | ScaledWeight,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
    precision: DensePrecision,
  ): PlacedLinear {
    const own = precisionOn(this.device, precision);
    const scaled = own === 'float8_e4m3' ? asScaled(weight, outputs) : undefined;
    const values = scaled === undefined ? weight : elementValues(scaled);
    if (!(values instanceof Float32Array)) throw new TypeError(`a scaled weight does not multiply in ${own}`);
    if (values.length !== outputs * inputs || (bias !== undefined && bias.length !== outputs))
      throw new TypeError(`a weight of ${values.length} elements is not [${outputs}, ${inputs}]`);
    const pool = this.#livePool();
    const packed = packLinear(pool, values, outputs, inputs);
    const scales = scaled && { ...scaled, scales: scaled.scales.slice() };
    return new CpuLinear(this.device, own, outputs, inputs, packed, bias?.slice(), scales, pool);
  }

  allocateHost(bytes: number): HostMemory {
    return new HostArrays(allocated(`${bytes} bytes`, () => new ArrayBuffer(bytes)));
  }

  allocate(length: number): DeviceBuffer {
    this.#livePool();
    return new HostBuffer(this.device, length);
  }

  async run(program: readonly Operation[], options?: RunOptions): Promise<RunReport> {
    using once = this.prepare(program);
    return await once.run({}, options);
  }

  prepare(program: readonly Operation[]): Executable {
    return new CpuExecutable(program, this.device, this.#livePool(), this.#inFlight, this.#inlineBytes);
  }

  capacityFor(batchSize: number): number {
    return batchSize;
  }

  async observe(): Promise<void> {}

  memoryUse(): undefined {}

  async measureCeilings(): Promise<Ceilings> {
    using _call = this.#inFlight.enter();
    const multiplyAddsPerSecond = await measureFmaRate(this.#pool, CEILING_SECONDS);
    using memory = new NativeMemory(CEILING_BYTES, true);
    await fillUniform(this.#pool, memory, rowLayout('float32').number, CEILING_BYTES / 4, 1);
    return { multiplyAddsPerSecond, readBytesPerSecond: await measureReadRate(this.#pool, memory) };
  }

  close(): Promise<void> {
    return this.#inFlight.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Closes the pool, after what is under way on it. */
  [Symbol.dispose](): void {
    this.#inFlight.end();
  }

  #livePool(): ThreadPool {
    this.#inFlight.checkOpen();
    return this.#pool;
  }
}

const accessOf = (tables: PlacedTables) => ownBy(CpuTables, tables).access;

/** @throws FormatError FILE_CHANGED for a file, mapped for some tables of a program, that was changed. */
function checkFiles(program: readonly Operation[]): void {
  for (const operation of program) {
    if (operation.op !== 'embeddingBags') continue;
    for (const file of ownBy(CpuTables, operation.tables).files) checkUnchanged(file);
  }
}

class CpuExecutable extends OneAtATime {
  readonly #template: Template;
  readonly #rows: RowReader;
  readonly #pool: ThreadPool;
  /** Every use of the pool. */
  readonly #inFlight: InFlight;
  readonly #fixed: FixedRecords;
  readonly #inlineBytes: number;

  constructor(
    program: readonly Operation[],
    device: DeviceDescription,
    pool: ThreadPool,
    inFlight: InFlight,
    inlineBytes: number,
  ) {
    super();
    this.#template = new Template(program, device);
    this.#rows = readerOf(program, accessOf);
    this.#pool = pool;
    this.#inFlight = inFlight;
    this.#fixed = new FixedRecords(pool);
    this.#inlineBytes = inlineBytes;
  }

  async run(bindings?: Bindings, { timing }: RunOptions = {}): Promise<RunReport> {
    const run = new Scope();
    try {
      run.use(this.#inFlight.enter());
      run.use(this.enter());
      const operations = this.#template.bind(bindings);
      const turn = this.#rows.enter();
      run.use(turn instanceof Promise ? await turn : turn);
      const encoded = run.use(new EncodedProgram(operations, this.#pool, this.#fixed));
      const { words, seconds: times, estimatedBytes } = encoded;
      // Waited for either way: a run is under way until its caller has gone on.
      const end = await runOperators(this.#pool, words, times, estimatedBytes < this.#inlineBytes);
      if (end === 'file changed') checkFiles(operations);
      if (end === 'bad bags') {
        const { first } = collectFindings(encoded.stops);
        // A task found something bad, and then it was gone.
        throw first ?? arraysChanged('changed');
      }
      const findings = collectFindings(encoded.warnings);
      const seconds = timing === 'none' ? NO_TIMES : encoded.operationSeconds();
      return { seconds, stages: stageSeconds(operations, seconds), findings, launches: [], kernels: [] };
    } finally {
      run[Symbol.dispose]();
    }
  }

  protected override giveBack(): void {}
}

const NO_TIMES = new Float64Array();

const FAULT_KINDS: readonly BagFault['kind'][] = [
  'index-out-of-range',
  'first-offset-not-zero',
  'offsets-decrease',
  'offset-past-end',
];

/** The library's `hr_check_report`s as findings. */
function collectFindings(reports: readonly BagReport[]): BagFindings {
  let badIndices = 0;
  let badOffsets = 0;
  let first: BagFindings['first'];
  for (const { words, tables } of reports) {
    const [code, table, position, value, limit, indices, offsets] = Array.from(words);
    badIndices += Number(indices);
    badOffsets += Number(offsets);
    const kind = FAULT_KINDS[Number(code) - 1];
    if (kind === undefined || first !== undefined) continue;
    const fault = {
      kind,
      table: Number(table),
      position: Number(position),
      value: value ?? 0n,
      limit: limit ?? 0n,
    };
    first = bagFaultError(fault, tables.tables[fault.table]?.name ?? '?');
  }
  return { badIndices, badOffsets, ...(first === undefined ? {} : { first }) };
}
