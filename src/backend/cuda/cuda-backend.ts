/** The CUDA backend: kernels of kernels/cuda, compiled for this GPU when they are first used. */
import { BlockPool } from '../../cuda/block-pool.ts';
import { CudaDevice } from '../../cuda/device.ts';
import { cudaDriver } from '../../cuda/discover.ts';
import {
  type DensePrecision,
  type DeviceDescription,
  defaultPrecision,
  precisionOn,
  widePrecision,
} from '../../device.ts';
import type { BagBatch, EmbeddingTable } from '../../embedding/bag.ts';
import { checkBagShapes } from '../../embedding/check-bags.ts';
import { CublasLt } from '../../ffi/cublaslt.ts';
import type { CudaDriver } from '../../ffi/cuda-driver.ts';
import { Nvrtc } from '../../ffi/nvrtc.ts';
import type { Compiler } from '../../jit/compile-kernel.ts';
import { KernelCache } from '../../jit/kernel-cache.ts';
import { type Plan, planFor } from '../../plan/plan.ts';
import { Admission, type AdmissionLimits, DEFAULT_LIMITS } from '../admission.ts';
import {
  type Backend,
  type Ceilings,
  type DeviceBuffer,
  type Executable,
  type HostMemory,
  type MemoryUse,
  type Operation,
  ownBy,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type PlaceOptions,
  type RunOptions,
  type RunReport,
} from '../backend.ts';
import type { CudaSwitches } from '../cuda-switches.ts';
import { InFlight } from '../in-flight.ts';
import { asScaled, type ScaledWeight } from '../scaled-weight.ts';
import type { StreamOptions } from '../stream-options.ts';
import { measureCeilings } from './ceilings.ts';
import { CudaLinear } from './dense/cuda-linear.ts';
import { DenseKernels } from './dense/dense-kernels.ts';
import {
  choicesIdentity,
  defaultChoicesFolder,
  KeptChoices,
  type KeptChoicesOptions,
} from './dense/kept-choices.ts';
import type { LinearSearch } from './dense/linear-chooser.ts';
import { CudaBags } from './embedding/bags.ts';
import { PersistingL2 } from './embedding/embedding-stage.ts';
import { CudaTables, placeTables } from './embedding/tables.ts';
import { KernelLibrary } from './kernels/library.ts';
import { CudaBuffer } from './memory/buffer.ts';
import { CudaHostMemory } from './memory/host-memory.ts';
import { CudaProgram, type ProgramTools } from './program/program.ts';
import { type StreamSet, StreamSets } from './program/stream-sets.ts';
import { EventPool } from './program/timers.ts';

export interface CudaBackendOptions {
  /** Which GPU; default: the first. */
  readonly ordinal?: number;
  /** Whether its thread lets others into the driver after long calls: CudaDeviceOptions. */
  readonly letsOthersIn?: boolean;
  /** Default: the machine's. */
  readonly driver?: CudaDriver;
  /** Default: NVRTC of the driver's major version. */
  readonly compiler?: Compiler;
  /** Default: the user's. */
  readonly cache?: KernelCache;
  /** What multiplies matrices; default: cuBLASLt of the driver's major version, opened when a layer is placed. */
  readonly cublasLt?: CublasLt;
  /** How the fastest way to multiply is looked for; default: 8 algorithms, 20 runs each. */
  readonly linearSearch?: LinearSearch;
  /** Where the fastest ways that were found are kept for the next process; default: the user's cache. */
  readonly choices?: KeptChoicesOptions;
  readonly limits?: AdmissionLimits;
  /** How many batches run side by side, and what goes first. */
  readonly streams?: StreamOptions;
  /** For measurements. */
  readonly switches?: CudaSwitches;
}

/** What matrices of programs under way take by default, of large memories. */
const SHARE_OF_MEMORY = 1 / 8;

/** The most idle memory that is kept for the batches to come. */
const IDLE_DEVICE_BYTES = 2 ** 31;
const IDLE_PINNED_BYTES = 2 ** 31;

/** Up to here capacities are powers of two. */
const FINE_CAPACITY = 64;

export class CudaBackend implements Backend {
  readonly device: DeviceDescription;
  readonly admission: Admission;
  readonly #device: CudaDevice;
  readonly #streams: StreamSets;
  readonly #compiler: Compiler;
  readonly #cache: KernelCache;
  readonly #kernels: KernelLibrary;
  readonly #pools;
  readonly #events: EventPool;
  readonly #l2: PersistingL2;
  readonly #linearSearch: LinearSearch | undefined;
  readonly #choicesOptions: KeptChoicesOptions;
  /** By precision. */
  readonly #choices = new Map<DensePrecision, KeptChoices>();
  readonly #switches: CudaSwitches;
  #cublasLt: CublasLt | undefined;
  /** Opened when a program first needs them. */
  readonly #dense = new Map<string, Promise<DenseKernels>>();
  readonly #inFlight: InFlight;

  /** @throws DeviceError DEVICE_UNAVAILABLE, CUDA_LIBRARY_MISSING; CudaError. */
  constructor(options: CudaBackendOptions = {}) {
    const driver = options.driver ?? cudaDriver();
    this.#compiler = options.compiler ?? new Nvrtc({ majorVersion: majorVersionOf(driver) });
    this.#cache = options.cache ?? new KernelCache();
    this.#cublasLt = options.cublasLt;
    this.#linearSearch = options.linearSearch;
    this.#choicesOptions = options.choices ?? { folder: defaultChoicesFolder() };
    this.#switches = options.switches ?? {};
    const { ordinal = 0, letsOthersIn = false } = options;
    this.#device = new CudaDevice(driver, ordinal, { letsOthersIn });
    this.#inFlight = new InFlight(this.#device.id, () => this.#device[Symbol.dispose]());
    this.device = this.#device.description;
    const bytes = Math.max(DEFAULT_LIMITS.bytes, Math.floor(this.device.memoryBytes * SHARE_OF_MEMORY));
    this.admission = new Admission({ bytes, ...options.limits });
    this.#streams = new StreamSets(this.#device, options.streams);
    this.#kernels = new KernelLibrary(this.#device, this.#compiler, this.#cache);
    this.#pools = {
      device: BlockPool.ofDevice(this.#device, IDLE_DEVICE_BYTES),
      pinned: BlockPool.ofPinned(this.#device, IDLE_PINNED_BYTES),
    };
    this.#events = new EventPool(this.#device);
    this.#l2 = new PersistingL2(this.#device);
  }

  async placeTables(
    tables: readonly EmbeddingTable[],
    plan: Plan,
    options?: PlaceOptions,
  ): Promise<PlacedTables> {
    using _call = this.#inFlight.enter();
    return await placeTables(this.#tools, tables, planFor('cuda', plan), options);
  }

  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags {
    this.#inFlight.checkOpen();
    const own = ownBy(CudaTables, tables);
    return new CudaBags(own, checkBagShapes(own.tables, batch), this.#pools);
  }

  placeLinear(
    weight: Float32Array | ScaledWeight,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
    precision: DensePrecision,
  ): PlacedLinear {
    this.#inFlight.checkOpen();
    const own = precisionOn(this.device, precision);
    const stored = own === 'float8_e4m3' ? asScaled(weight, outputs) : weight;
    if (own !== 'float8_e4m3' && !(stored instanceof Float32Array))
      throw new TypeError(`a scaled weight does not multiply in ${own}`);
    // A library that is missing is told before any work.
    void this.#products;
    return new CudaLinear(this.#streams.first.streams.copies, widePrecision(this.device, own), stored, bias, [
      outputs,
      inputs,
    ]);
  }

  allocateHost(bytes: number): HostMemory {
    this.#inFlight.checkOpen();
    return new CudaHostMemory(this.#device, bytes);
  }

  allocate(length: number): DeviceBuffer {
    this.#inFlight.checkOpen();
    return new CudaBuffer(this.#device, length);
  }

  async run(program: readonly Operation[], options?: RunOptions): Promise<RunReport> {
    using _call = this.#inFlight.enter();
    using once = new CudaProgram(this.#programTools(this.#streams.first), program);
    return await once.run({}, options);
  }

  prepare(program: readonly Operation[]): Executable {
    this.#inFlight.checkOpen();
    return new CudaProgram(this.#programTools(this.#streams.take()), program);
  }

  /** A power of two, or from 64 on an eighth of one times a whole number: at most an eighth more than asked for. */
  capacityFor(batchSize: number): number {
    if (batchSize === 0) return 0;
    const power = 2 ** Math.ceil(Math.log2(batchSize));
    const step = power <= FINE_CAPACITY ? power : power / 16;
    return Math.ceil(batchSize / step) * step;
  }

  async observe(tables: PlacedTables, batches: readonly PlacedBags[]): Promise<void> {
    using _call = this.#inFlight.enter();
    const bags = batches.map((batch) => ownBy(CudaBags, batch));
    await ownBy(CudaTables, tables).hotRows.observe(bags);
  }

  memoryUse(): MemoryUse {
    this.#inFlight.checkOpen();
    return this.#device.memoryInfo();
  }

  async measureCeilings(): Promise<Ceilings> {
    using _call = this.#inFlight.enter();
    return await measureCeilings(this.#device, this.#streams.first.streams.lookups, this.#kernels);
  }

  close(): Promise<void> {
    return this.#inFlight.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Gives the device back, after what is under way on it. */
  [Symbol.dispose](): void {
    this.#inFlight.end();
  }

  /** cuBLASLt, opened when it is first needed. @throws DeviceError CUDA_LIBRARY_MISSING. */
  get #products(): CublasLt {
    this.#cublasLt ??= new CublasLt({ majorVersion: majorVersionOf(this.#device.driver) });
    return this.#cublasLt;
  }

  #denseKernels(
    set: StreamSet,
    wanted: DensePrecision = defaultPrecision(this.device),
  ): Promise<DenseKernels> {
    const precision = widePrecision(this.device, wanted);
    const key = `${set.number} ${precision}`;
    const known = this.#dense.get(key);
    if (known !== undefined) return known;
    const opening = DenseKernels.open(this.#device, {
      precision,
      compiler: this.#compiler,
      cache: this.#cache,
      cublasLt: this.#products,
      linearSearch: this.#linearSearch,
      settle: () => {
        for (const stream of this.#streams) stream.synchronize();
      },
      pool: this.#pools.device,
      choices: this.#choicesOf(precision),
    });
    this.#dense.set(key, opening);
    // What failed, for want of memory say, may be tried again.
    opening.catch(() => this.#dense.delete(key));
    return opening;
  }

  /** The same for every set of streams, so that they choose alike. Without measurements the choice is always the same. */
  #choicesOf(precision: DensePrecision): KeptChoices | undefined {
    if (this.#linearSearch?.rounds === 0) return undefined;
    const known = this.#choices.get(precision);
    if (known !== undefined) return known;
    const choices = new KeptChoices(
      choicesIdentity(this.#device, precision, this.#products),
      this.#choicesOptions,
    );
    this.#choices.set(precision, choices);
    return choices;
  }

  #programTools(set: StreamSet): ProgramTools {
    return {
      ...this.#tools,
      streams: set.streams,
      l2: this.#l2,
      pools: this.#pools,
      events: this.#events,
      switches: this.#switches,
      dense: (precision) => this.#denseKernels(set, precision),
      quiet: () => this.#quiet(),
    };
  }

  get #tools() {
    const { lookups, aside } = this.#streams.first.streams;
    return {
      device: this.#device,
      stream: lookups,
      aside,
      kernels: this.#kernels,
      pools: this.#pools,
      inFlight: this.#inFlight,
    };
  }

  /** Waits until nothing runs: memory that work may still use must not be lent again. */
  async #quiet(): Promise<void> {
    for (const stream of this.#streams) {
      // What failed was reported already, or is by the next call: the context remembers it.
      if (!stream.disposed) await stream.finished().catch(() => {});
    }
  }
}

function majorVersionOf(driver: CudaDriver): number {
  return Math.floor(driver.version / 1000);
}
