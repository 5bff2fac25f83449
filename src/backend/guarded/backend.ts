/**
 * The backend of callers: checks every argument, reads it once, and hands nothing out that native code would trust. Hotrow's
 * own parts go past it, to the backend behind it.
 */
import { abortSignal } from '../../checks/abort.ts';
import { arrayOf } from '../../checks/arguments.ts';
import {
  type Check,
  called,
  flag,
  listOf,
  membersOf,
  oneOf,
  optional,
  reading,
  record,
  refuseOption,
  someOf,
  text,
  whole,
} from '../../checks/value.ts';
import {
  DENSE_PRECISIONS,
  DEVICE_KINDS,
  type DensePrecision,
  type DeviceCapabilities,
  type DeviceDescription,
} from '../../device.ts';
import type { BagBatch, EmbeddingTable } from '../../embedding/bag.ts';
import { MOST_SAMPLES } from '../../embedding/check-bags.ts';
import { checkTables } from '../../embedding/check-tables.ts';
import { checkPlacement, parsePlacement } from '../../plan/placement.ts';
import { checkPlan, type Plan, parsePlan } from '../../plan/plan.ts';
import type { OnProgress } from '../../progress.ts';
import { Admission, type AdmissionRequest, bytesIn } from '../admission.ts';
import {
  type Backend,
  type Bindings,
  type Ceilings,
  type DeviceBuffer,
  type Executable,
  type HostMemory,
  type Operation,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type PlaceOptions,
  RUN_TIMINGS,
  type RunOptions,
  type RunReport,
} from '../backend.ts';
import { OneAtATime } from '../slots.ts';
import { Handles, Held } from './handles.ts';
import { areAlike, type GivenHandles } from './operations.ts';
import { type CheckedBindings, checkBindings, checkProgram } from './program.ts';

/** Sizes of layers stay exact numbers, and their products too. */
const MOST_WIDTH = 2 ** 26;
const MOST_ELEMENTS = 2 ** 50;

const numbers: Check<ReadonlySet<number>> = (value, at) =>
  value instanceof Set
    ? new Set([...value].map((number: unknown) => whole()(number, at)))
    : refuseOption(at, value, 'a set of numbers of tables');

const RUN_OPTIONS = membersOf<RunOptions>({
  timing: optional(oneOf(RUN_TIMINGS)),
  recorded: optional(numbers),
});

const PLACE_OPTIONS = membersOf<PlaceOptions>({
  placement: optional(parsePlacement),
  onProgress: optional(called<OnProgress>()),
  signal: optional(abortSignal),
});

const CONTRACT = [
  'placeTables',
  'placeBags',
  'placeLinear',
  'allocateHost',
  'allocate',
  'run',
  'prepare',
  'capacityFor',
  'observe',
  'measureCeilings',
  'close',
] as const satisfies readonly (keyof Backend)[];

/** A program of a caller's: its matrices are there already. */
const RUN: AdmissionRequest = Object.freeze({ bytes: 0, what: 'run' });

const behind = new WeakMap<object, Backend>();

/** The backend to work with for one that a caller gave: what is behind it. @throws UsageError OPTION_INVALID for what is none. */
export function ownBackend(value: unknown): Backend {
  const given = record(value, 'backend');
  const known = behind.get(given);
  if (known !== undefined) return known;
  reading('backend', () => {
    DESCRIPTION(given.device, 'backend: device');
    if (!(given.admission instanceof Admission))
      refuseOption('backend: admission', given.admission, 'an Admission');
    for (const method of CONTRACT) called()(given[method], `backend: ${method}`);
  });
  return value as Backend;
}

const CAPABILITIES = someOf<DeviceCapabilities>({
  precisions: listOf(oneOf(DENSE_PRECISIONS)),
  hasOwnMemory: flag,
  runsBesideHost: flag,
  compilesKernels: flag,
  launchesTableByTable: flag,
  measuresLinear: flag,
  exchangesWith: listOf(oneOf(DEVICE_KINDS)),
});

/** What plans and models need to know of a device, whoever made the backend. */
const DESCRIPTION = someOf<Pick<DeviceDescription, 'kind' | 'id' | 'capabilities'>>({
  kind: oneOf(DEVICE_KINDS),
  id: text,
  capabilities: CAPABILITIES,
});

export class GuardedBackend implements Backend {
  readonly #inner: Backend;
  readonly #given: GivenHandles;
  /** The inner backend, kept open while a run uses it or one of its buffers. */
  readonly #held: Held<Backend>;
  #closing: Promise<void> | undefined;

  constructor(inner: Backend) {
    this.#inner = inner;
    const { id } = inner.device;
    this.#held = new Held(id, inner);
    this.#given = {
      tables: new Handles('tables', id),
      bags: new Handles('bags', id),
      linear: new Handles('a linear layer', id),
      buffers: new Handles('a buffer', id),
    };
    behind.set(this, inner);
  }

  get device(): DeviceDescription {
    return this.#inner.device;
  }

  get admission(): Admission {
    return this.#inner.admission;
  }

  placeTables(tables: readonly EmbeddingTable[], plan: Plan, options?: PlaceOptions): Promise<PlacedTables> {
    return this.#whileOpen(async () => {
      const chosen = options === undefined ? {} : PLACE_OPTIONS(options, 'placeTables');
      const own = checkTables(tables);
      const parsed = parsePlan(plan, 'placeTables: plan');
      checkPlan(parsed, { device: this.device, tables: own });
      if (chosen.placement !== undefined) checkPlacement(chosen.placement, own);
      return this.#giveTables(await this.#inner.placeTables(own, parsed, chosen));
    });
  }

  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags {
    const own = this.#given.tables.of(tables, 'placeBags: tables');
    const bags = this.#open.placeBags(own.held.inner, batch);
    const { batchSize, lookups, kind } = bags;
    const facts = { ...own.facts, batchSize };
    return this.#given.bags.give(bags, { batchSize, lookups, kind }, facts, own.held);
  }

  placeLinear(
    weight: Float32Array,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
    precision: DensePrecision,
  ): PlacedLinear {
    const size = {
      outputs: width(outputs, 'placeLinear: outputs'),
      inputs: width(inputs, 'placeLinear: inputs'),
    };
    const multiplied = oneOf(this.device.capabilities.precisions)(precision, 'placeLinear: precision');
    const values = arrayOf('Float32Array', size.outputs * size.inputs)(weight, 'placeLinear: weight');
    const offsets =
      bias === undefined ? undefined : arrayOf('Float32Array', size.outputs)(bias, 'placeLinear: bias');
    const placed = this.#open.placeLinear(values, offsets, size.outputs, size.inputs, multiplied);
    return this.#given.linear.give(placed, { ...size, precision: multiplied, device: this.device }, size);
  }

  allocateHost(bytes: number): HostMemory {
    return this.#open.allocateHost(whole(0, MOST_ELEMENTS)(bytes, 'allocateHost: bytes'));
  }

  allocate(length: number): DeviceBuffer {
    const size = { length: whole(0, MOST_ELEMENTS)(length, 'allocate: length') };
    return this.#given.buffers.give(
      this.#open.allocate(size.length),
      { ...size, device: this.device },
      size,
      this.#held,
    );
  }

  run(program: readonly Operation[], options?: RunOptions): Promise<RunReport> {
    return this.#whileOpen(async () => {
      const timing = timingOf(options);
      const checked = checkProgram(program, this.#given, this.device);
      const { uses, deliver } = checkBindings(checked);
      const report = await this.#inTurn(RUN, uses, () => this.#inner.run(checked.operations, timing));
      deliver();
      return report;
    });
  }

  prepare(program: readonly Operation[]): Executable {
    const checked = checkProgram(program, this.#given, this.device);
    const inner = this.#open.prepare(checked.operations);
    const executable = new GuardedExecutable(inner, {
      check: (bindings, options) => ({ ...checkBindings(checked, bindings), timing: timingOf(options) }),
      during: (uses, work) => this.#whileOpen(() => this.#inTurn(RUN, uses, work)),
    });
    return Object.freeze({
      run: (bindings?: Bindings, options?: RunOptions) =>
        this.#whileOpen(() => executable.run(bindings, options)),
      [Symbol.dispose]: () => executable[Symbol.dispose](),
    });
  }

  capacityFor(batchSize: number): number {
    return this.#inner.capacityFor(whole(0, MOST_SAMPLES)(batchSize, 'capacityFor: batchSize'));
  }

  observe(tables: PlacedTables, batches: readonly PlacedBags[]): Promise<void> {
    return this.#whileOpen(async () => {
      const own = this.#given.tables.of(tables, 'observe: tables');
      const uses = new Set<Held>([own.held]);
      const bags = listOf((value, at) => {
        const { held, facts } = this.#given.bags.of(value, at);
        if (!areAlike(facts.tables, own.facts.tables))
          refuseOption(at, value, 'bags placed for tables like these');
        uses.add(held);
        return held.inner;
      })(batches, 'observe: batches');
      await this.#holding(uses, () => this.#inner.observe(own.held.inner, bags));
    });
  }

  measureCeilings(): Promise<Ceilings> {
    return this.#whileOpen(() => this.#inner.measureCeilings());
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#held.dispose();
    await this.#held.unused();
    await this.#inner.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Closes the device, after what is under way. */
  [Symbol.dispose](): void {
    this.#held.dispose();
  }

  /** @throws DeviceError DISPOSED. */
  get #open(): Backend {
    return this.#held.inner;
  }

  #giveTables(placed: PlacedTables, parent?: Held): PlacedTables {
    const { tables, plan, placement, allocatedBytes, notes } = placed;
    let given: PlacedTables;
    const withPlan = (other: Plan): PlacedTables => {
      const { held } = this.#given.tables.of(given, 'withPlan');
      const parsed = parsePlan(other, 'withPlan: plan');
      checkPlan(parsed, { device: this.device, tables });
      return this.#giveTables(held.inner.withPlan(parsed), held);
    };
    const during = <T>(what: string, work: (own: PlacedTables) => Promise<T>, bytes = 0): Promise<T> =>
      this.#whileOpen(() => {
        const { held } = this.#given.tables.of(given, 'tables');
        return this.#inTurn({ bytes, what }, new Set<Held>([held]), () => work(held.inner));
      });
    const numberOf = whole(0, tables.length - 1);
    const updateRows: PlacedTables['updateRows'] = (table, rows, values) =>
      during(
        'updateRows',
        (own) => own.updateRows(numberOf(table, 'updateRows: table'), rows, values),
        bytesIn(values),
      );
    const readRows: PlacedTables['readRows'] = (table, rows) =>
      during('readRows', (own) => own.readRows(numberOf(table, 'readRows: table'), rows));
    given = this.#given.tables.give(
      placed,
      { device: this.device, tables, plan, placement, allocatedBytes, notes, withPlan, updateRows, readRows },
      { tables },
      parent,
    );
    return given;
  }

  /** Runs `work` of a caller's when it is its turn, while everything that it uses stays. */
  #inTurn<T>(turn: AdmissionRequest, uses: ReadonlySet<Held>, work: () => Promise<T>): Promise<T> {
    return this.#holding(uses, () => this.admission.run(turn, work));
  }

  /** Runs `work` while everything that it uses stays. */
  async #holding<T>(uses: ReadonlySet<Held>, work: () => Promise<T>): Promise<T> {
    for (const held of uses) held.acquire();
    try {
      return await work();
    } finally {
      for (const held of uses) held.release();
    }
  }

  async #whileOpen<T>(work: () => Promise<T>): Promise<T> {
    void this.#open;
    return this.#holding(new Set<Held>([this.#held]), work);
  }
}

/** What an executable of a caller needs of its backend. */
interface ExecutableTools {
  check(bindings: unknown, options: RunOptions): CheckedBindings & { readonly timing: RunOptions };
  /** Runs `work` while the backend is open and all that is used stays. */
  during(uses: ReadonlySet<Held>, work: () => Promise<RunReport>): Promise<RunReport>;
}

class GuardedExecutable extends OneAtATime {
  readonly #inner: Executable;
  readonly #tools: ExecutableTools;

  constructor(inner: Executable, tools: ExecutableTools) {
    super();
    this.#inner = inner;
    this.#tools = tools;
  }

  protected override async runOne(bindings: Bindings | undefined, options: RunOptions): Promise<RunReport> {
    const { bindings: own, uses, timing, deliver } = this.#tools.check(bindings, options);
    const report = await this.#tools.during(uses, () => this.#inner.run(own, timing));
    deliver();
    return report;
  }

  protected override giveBack(): void {
    this.#inner[Symbol.dispose]();
  }
}

const width = whole(1, MOST_WIDTH);

function timingOf(options: RunOptions | undefined): RunOptions {
  return options === undefined ? {} : RUN_OPTIONS(options, 'run');
}
