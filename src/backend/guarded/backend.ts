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
  type MemoryUse,
  type Operation,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type PlaceOptions,
  RUN_TIMINGS,
  type RunOptions,
  type RunReport,
} from '../backend.ts';
import { holdAll } from '../hold-all.ts';
import type { ScaledWeight } from '../scaled-weight.ts';
import { OneAtATime } from '../slots.ts';
import { Handles, Held } from './handles.ts';
import { areAlike, type GivenHandles } from './operations.ts';
import { type CheckedProgram, checkBindings, checkProgram } from './program.ts';
import { weightOf } from './weights.ts';

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
  'memoryUse',
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

  async placeTables(
    tables: readonly EmbeddingTable[],
    plan: Plan,
    options?: PlaceOptions,
  ): Promise<PlacedTables> {
    using _open = this.#holdOpen();
    const chosen = options === undefined ? {} : PLACE_OPTIONS(options, 'placeTables');
    const own = checkTables(tables);
    const parsed = parsePlan(plan, 'placeTables: plan');
    checkPlan(parsed, { device: this.device, tables: own });
    if (chosen.placement !== undefined) checkPlacement(chosen.placement, own);
    return this.#giveTables(await this.#inner.placeTables(own, parsed, chosen));
  }

  placeBags(tables: PlacedTables, batch: BagBatch): PlacedBags {
    const own = this.#given.tables.of(tables, 'placeBags: tables');
    const bags = this.#open.placeBags(own.held.inner, batch);
    const { batchSize, lookups, kind } = bags;
    const facts = { ...own.facts, batchSize };
    return this.#given.bags.give(bags, { batchSize, lookups, kind }, facts, own.held);
  }

  placeLinear(
    weight: Float32Array | ScaledWeight,
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
    const values = weightOf(weight, size, multiplied);
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

  async run(program: readonly Operation[], options?: RunOptions): Promise<RunReport> {
    using _open = this.#holdOpen();
    const timing = timingOf(options);
    const checked = checkProgram(program, this.#given, this.device);
    const { uses, deliver } = checkBindings(checked);
    using _uses = holdAll(uses);
    const turn = this.admission.enter(RUN);
    using _turn = turn instanceof Promise ? await turn : turn;
    const report = await this.#inner.run(checked.operations, timing);
    deliver();
    return report;
  }

  prepare(program: readonly Operation[]): Executable {
    const checked = checkProgram(program, this.#given, this.device);
    const inner = this.#open.prepare(checked.operations);
    const executable = new GuardedExecutable(inner, checked, this.admission, () => this.#holdOpen());
    return Object.freeze({
      run: (bindings?: Bindings, options?: RunOptions) => executable.run(bindings, options),
      [Symbol.dispose]: () => executable[Symbol.dispose](),
    });
  }

  capacityFor(batchSize: number): number {
    return this.#inner.capacityFor(whole(0, MOST_SAMPLES)(batchSize, 'capacityFor: batchSize'));
  }

  async observe(tables: PlacedTables, batches: readonly PlacedBags[]): Promise<void> {
    using _open = this.#holdOpen();
    const own = this.#given.tables.of(tables, 'observe: tables');
    const uses = new Set<Held>([own.held]);
    const bags = listOf((value, at) => {
      const { held, facts } = this.#given.bags.of(value, at);
      if (!areAlike(facts.tables, own.facts.tables))
        refuseOption(at, value, 'bags placed for tables like these');
      uses.add(held);
      return held.inner;
    })(batches, 'observe: batches');
    using _uses = holdAll(uses);
    await this.#inner.observe(own.held.inner, bags);
  }

  memoryUse(): MemoryUse | undefined {
    return this.#open.memoryUse();
  }

  async measureCeilings(): Promise<Ceilings> {
    using _open = this.#holdOpen();
    return await this.#inner.measureCeilings();
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
    const numberOf = whole(0, tables.length - 1);
    const updateRows: PlacedTables['updateRows'] = async (table, rows, values) => {
      using _open = this.#holdOpen();
      const { held } = this.#given.tables.of(given, 'tables');
      using _held = held.hold();
      const turn = this.admission.enter({ bytes: bytesIn(values), what: 'updateRows' });
      using _turn = turn instanceof Promise ? await turn : turn;
      await held.inner.updateRows(numberOf(table, 'updateRows: table'), rows, values);
    };
    const readRows: PlacedTables['readRows'] = async (table, rows) => {
      using _open = this.#holdOpen();
      const { held } = this.#given.tables.of(given, 'tables');
      using _held = held.hold();
      const turn = this.admission.enter({ bytes: 0, what: 'readRows' });
      using _turn = turn instanceof Promise ? await turn : turn;
      return await held.inner.readRows(numberOf(table, 'readRows: table'), rows);
    };
    given = this.#given.tables.give(
      placed,
      { device: this.device, tables, plan, placement, allocatedBytes, notes, withPlan, updateRows, readRows },
      { tables },
      parent,
    );
    return given;
  }

  /** The device stays until what is given back is disposed. @throws DeviceError DISPOSED. */
  #holdOpen(): Disposable {
    void this.#open;
    return this.#held.hold();
  }
}

class GuardedExecutable extends OneAtATime {
  readonly #inner: Executable;
  readonly #program: CheckedProgram;
  readonly #admission: Admission;
  readonly #holdOpen: () => Disposable;

  /** `holdOpen`: has the device stay. */
  constructor(inner: Executable, program: CheckedProgram, admission: Admission, holdOpen: () => Disposable) {
    super();
    this.#inner = inner;
    this.#program = program;
    this.#admission = admission;
    this.#holdOpen = holdOpen;
  }

  async run(bindings?: Bindings, options?: RunOptions): Promise<RunReport> {
    using _open = this.#holdOpen();
    using _run = this.enter();
    const { bindings: own, uses, deliver } = checkBindings(this.#program, bindings);
    const timing = timingOf(options);
    using _uses = holdAll(uses);
    const turn = this.#admission.enter(RUN);
    using _turn = turn instanceof Promise ? await turn : turn;
    const report = await this.#inner.run(own, timing);
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
