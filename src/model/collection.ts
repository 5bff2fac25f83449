/**
 * An embedding collection: the tables of a model, placed on a device under a plan, and looked up in one call.
 */
import { at } from '../at.ts';
import { bytesIn } from '../backend/admission.ts';
import { Apart } from '../backend/apart.ts';
import type { Backend, PlacedTables, PlaceOptions, RunReport, RunTiming } from '../backend/backend.ts';
import { BatchPrograms, PARTS_AT_ONCE } from '../backend/batch-programs.ts';
import { ownBackend } from '../backend/guarded/backend.ts';
import { InFlight } from '../backend/in-flight.ts';
import { Scope } from '../backend/scope.ts';
import { abortSignal, throwIfAborted } from '../checks/abort.ts';
import { allocated } from '../checks/arguments.ts';
import { deepFrozen, flag, membersOf, oneOf, optional, reading } from '../checks/value.ts';
import { ELEMENT_FORMATS, type ElementFormat } from '../device.ts';
import {
  type BagBatch,
  type BagFindings,
  type EmbeddingTable,
  INDEX_CHECKING,
  type IndexArray,
  type IndexChecking,
} from '../embedding/bag.ts';
import { batchParts } from '../embedding/batch-parts.ts';
import { checkBagShapes, checkBatchSize } from '../embedding/check-bags.ts';
import { checkTables } from '../embedding/check-tables.ts';
import type { RowValues } from '../embedding/row-values.ts';
import { UsageError } from '../errors.ts';
import { checkPlacement, type Placement, parsePlacement } from '../plan/placement.ts';
import { checkPlan, type Plan, type PlanChoice, planChoice } from '../plan/plan.ts';
import { choosePlan } from '../plan/saved-plans.ts';
import { runParts } from './run-parts.ts';
import { tableOf } from './table-number.ts';

export interface CollectionOptions {
  /** How the embedding stage runs; default: the saved plan, else the heuristic one. */
  readonly plan?: PlanChoice;
  /** Where the rows of each table live; default: on the device. */
  readonly placement?: Placement;
  /** What happens to bad indices and offsets; default `error`. */
  readonly indexChecking?: IndexChecking;
  /** Gives the placing up, between tables; what was placed is given back. */
  readonly signal?: AbortSignal;
}

export interface ForwardOptions<F extends ElementFormat> {
  /** How pooled rows are stored: sums are float32, rounded once. Default: float32. */
  readonly output?: F;
  /** Also report the stage's time, which costs GPUs some tens of microseconds. Default: false. */
  readonly timed?: boolean;
  /** Gives the call up: at once while it waits for the device, after its run once it runs. */
  readonly signal?: AbortSignal;
}

/** float32 values, or the bits of 16-bit ones. */
type PooledArray<F extends ElementFormat> = F extends 'float32' ? Float32Array : Uint16Array;

export interface PooledEmbeddings<F extends ElementFormat = 'float32'> {
  /** [batchSize, totalDim], row-major: the tables' pooled rows side by side, in table order. */
  readonly pooled: PooledArray<F>;
  /** Time of the embedding stage on the device, when `timed` asked for it. */
  readonly embeddingMs?: number;
  /** What index checking found, in `warn` mode. */
  readonly findings: BagFindings;
}

/** The tables' dims added up: the width of a pooled row. */
export function totalDim(tables: readonly Pick<EmbeddingTable, 'dim'>[]): number {
  return tables.reduce((sum, table) => sum + table.dim, 0);
}

/** Checks tables, chooses and checks the plan, then places the tables. @throws RequestError, PlanError, DeviceError. */
export async function placeCollection(
  backend: Backend,
  tables: readonly EmbeddingTable[],
  choice?: PlanChoice,
  options: PlaceOptions = {},
): Promise<PlacedTables> {
  const own = checkTables(tables);
  const context = { device: backend.device, tables: own };
  const { plan } = await choosePlan(choice, context);
  checkPlan(plan, context);
  if (options.placement !== undefined) checkPlacement(options.placement, own);
  return backend.placeTables(own, deepFrozen(plan), options);
}

const CREATE_OPTIONS = membersOf<CollectionOptions>({
  plan: optional(planChoice),
  placement: optional(parsePlacement),
  indexChecking: optional(oneOf(INDEX_CHECKING)),
  signal: optional(abortSignal),
});
const FORWARD_OPTIONS = membersOf<ForwardOptions<ElementFormat>>({
  output: optional(oneOf(ELEMENT_FORMATS)),
  timed: optional(flag),
  signal: optional(abortSignal),
});

/** @throws DeviceError OUT_OF_MEMORY. */
function pooledArray(format: ElementFormat, length: number): Float32Array | Uint16Array {
  return allocated('pooled rows', () =>
    format === 'float32' ? new Float32Array(length) : new Uint16Array(length),
  );
}

/** Kept by this file: what has it was made by `create`. */
const MADE_BY_CREATE = Symbol('made by EmbeddingCollection.create');

export class EmbeddingCollection implements AsyncDisposable {
  readonly #backend: Backend;
  readonly #placed: PlacedTables;
  readonly #checking: IndexChecking;
  /** By the format of their output. */
  readonly #programs = new Map<ElementFormat, BatchPrograms>();
  readonly #inFlight = new InFlight('the embedding collection', () => this.#giveBack());
  /** A batch in parts sees all of an update or nothing of it, as a program does. */
  readonly #rows = new Apart<'parts' | 'update'>();

  private constructor(
    made: typeof MADE_BY_CREATE,
    backend: Backend,
    placed: PlacedTables,
    checking: IndexChecking,
  ) {
    if (made !== MADE_BY_CREATE)
      throw new UsageError('USAGE', 'a collection is made by EmbeddingCollection.create');
    this.#backend = backend;
    this.#placed = placed;
    this.#checking = checking;
  }

  /**
   * Places `tables` on the device of `backend`, which stays the caller's to close.
   * @throws RequestError for inconsistent tables; PlanError PLAN_INVALID, PLAN_ILLEGAL; DeviceError OUT_OF_MEMORY;
   *   UsageError OPTION_INVALID; AbortError once `signal` is aborted.
   */
  static async create(
    backend: Backend,
    tables: readonly EmbeddingTable[],
    options: CollectionOptions = {},
  ): Promise<EmbeddingCollection> {
    const { plan, indexChecking = 'error', ...where } = CREATE_OPTIONS(options, 'EmbeddingCollection.create');
    throwIfAborted(where.signal, 'EmbeddingCollection.create');
    const own = ownBackend(backend);
    const placed = await placeCollection(own, tables, plan, where);
    return new EmbeddingCollection(MADE_BY_CREATE, own, placed, indexChecking);
  }

  get tables(): readonly EmbeddingTable[] {
    return this.#placed.tables;
  }

  /** The plan that runs. */
  get plan(): Plan {
    return this.#placed.plan;
  }

  /** Where the rows of each table live. */
  get placement(): Placement {
    return this.#placed.placement;
  }

  /**
   * Pools the bags of every table. The batch's arrays must not change until it is done: where they do, or are
   * transferred, it fails or pools what it read.
   * @throws RequestError when the batch does not fit the tables, or, in `error` mode, for a bad index or offset;
   *   UsageError OPTION_INVALID.
   */
  async forward<F extends ElementFormat = 'float32'>(
    batch: BagBatch,
    options?: ForwardOptions<F>,
  ): Promise<PooledEmbeddings<F>> {
    using _call = this.#inFlight.enter();
    const {
      output: format = 'float32',
      timed = false,
      signal,
    } = options === undefined ? {} : FORWARD_OPTIONS(options, 'forward');
    const programs = this.#programsOf(format);
    const batchSize = checkBatchSize(reading('forward: batch', () => batch.batchSize));
    const samples = programs.partSamples(batchSize);
    const parts = samples === undefined ? undefined : batchParts(checkBagShapes(this.tables, batch), samples);
    using call = new Scope();
    let bytes = programs.bytesFor(batchSize);
    if (samples !== undefined && parts !== undefined) {
      bytes = programs.bytesFor(Math.min(batchSize, PARTS_AT_ONCE * samples));
      const apart = this.#rows.enter('parts');
      call.use(apart instanceof Promise ? await apart : apart);
    }
    const turn = this.#backend.admission.enter({ bytes, what: 'forward', signal });
    call.use(turn instanceof Promise ? await turn : turn);
    const timing = timed ? 'operations' : 'none';
    let pooled: Float32Array | Uint16Array;
    let report: RunReport;
    if (parts === undefined) ({ pooled, report } = await this.#runWhole(programs, batch, format, timing));
    else {
      const width = totalDim(this.tables);
      const whole = pooledArray(format, batchSize * width);
      pooled = whole;
      const asOne = { tables: this.tables, what: 'forward', signal };
      report = await runParts(parts, asOne, async ({ from, firstLookups: _, ...part }) => {
        const own = await this.#runWhole(programs, part, format, timing);
        whole.set(own.pooled, from * width);
        return own.report;
      });
    }
    const { seconds, findings } = report;
    throwIfAborted(signal, 'forward');
    const embeddings: PooledEmbeddings<F> = { pooled: pooled as PooledArray<F>, findings };
    return timed ? { ...embeddings, embeddingMs: at(seconds, 0) * 1e3 } : embeddings;
  }

  async #runWhole(
    programs: BatchPrograms,
    batch: BagBatch,
    format: ElementFormat,
    timing: RunTiming,
  ): Promise<{ readonly pooled: Float32Array | Uint16Array; readonly report: RunReport }> {
    using bags = this.#backend.placeBags(this.#placed, batch);
    const pooled = pooledArray(format, bags.batchSize * totalDim(this.tables));
    using program = programs.borrow(bags);
    return { pooled, report: await program.executable.run({ bags, pooled }, { timing }) };
  }

  /**
   * Replaces rows of a table, and of those that share its memory. It takes effect between batches: a call sees all of it
   * or nothing. Calls go on while the values come over. Of equal row numbers the last counts. Files and arrays that the
   * rows came from stay as they are.
   * @param table its name, or its number.
   * @param rows int32 or int64 [n].
   * @param values float32 [n, dim], rounded or quantised to the table's format; or rows as the table stores them: the bits of
   *   16-bit floats [n, dim], quantised rows [n, rowBytes].
   * @throws RequestError TABLE_UNEXPECTED, INDEX_OUT_OF_RANGE, TENSOR_DTYPE, TENSOR_SHAPE; ModelError VALUE_NOT_FINITE,
   *   VALUE_OUT_OF_RANGE for values that cannot be quantised; DeviceError OUT_OF_MEMORY; FormatError FILE_CHANGED. No row has
   *   changed then.
   */
  async updateRows(table: string | number, rows: IndexArray, values: RowValues): Promise<void> {
    using _call = this.#inFlight.enter();
    const number = tableOf(table, this.tables);
    // Before its turn, which parts of a batch may wait for.
    const apart = this.#rows.enter('update');
    using _apart = apart instanceof Promise ? await apart : apart;
    const turn = this.#backend.admission.enter({ bytes: bytesIn(values), what: 'updateRows' });
    using _turn = turn instanceof Promise ? await turn : turn;
    await this.#placed.updateRows(number, rows, values);
  }

  /** Rows of a table as it stores them: see `updateRows`. @throws RequestError TABLE_UNEXPECTED, INDEX_OUT_OF_RANGE, TENSOR_DTYPE. */
  async readRows(table: string | number, rows: IndexArray): Promise<RowValues> {
    using _call = this.#inFlight.enter();
    const number = tableOf(table, this.tables);
    const turn = this.#backend.admission.enter({ bytes: 0, what: 'readRows' });
    using _turn = turn instanceof Promise ? await turn : turn;
    return await this.#placed.readRows(number, rows);
  }

  #programsOf(format: ElementFormat): BatchPrograms {
    const known = this.#programs.get(format);
    if (known !== undefined) return known;
    const width = totalDim(this.tables);
    const made = new BatchPrograms(this.#backend, (capacity, workspace) => {
      const output = workspace.packed(capacity, width, format);
      return [
        { op: 'embeddingBags', tables: this.#placed, bags: 'bags', output, checking: this.#checking },
        { op: 'download', input: output, target: 'pooled' },
      ];
    });
    this.#programs.set(format, made);
    return made;
  }

  /** Gives the tables' memory back, after calls under way. */
  close(): Promise<void> {
    return this.#inFlight.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #giveBack(): void {
    for (const programs of this.#programs.values()) programs[Symbol.dispose]();
    this.#placed[Symbol.dispose]();
  }
}
