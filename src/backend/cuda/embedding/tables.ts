/** Embedding tables placed by the CUDA backend: where their rows are, and under which plan they are read. */
import { at } from '../../../at.ts';
import type { DeviceDescription } from '../../../device.ts';
import { type Bags, type EmbeddingTable, type IndexArray, rowBytes } from '../../../embedding/bag.ts';
import { checkRowNumbers, checkRowUpdate, type RowValues, viewRows } from '../../../embedding/row-values.ts';
import { PlanError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { devicePlacement, type Placement } from '../../../plan/placement.ts';
import { type CudaPlan, type Plan, placementKey, planFor, planLabel } from '../../../plan/plan.ts';
import type { PlacedTables, PlaceOptions } from '../../backend.ts';
import type { InFlight } from '../../in-flight.ts';
import { RowAccess, RowReader } from '../../row-access.ts';
import { HotRows } from '../rows/hot-rows.ts';
import { ResidentRows } from '../rows/resident.ts';
import type { RowStore } from '../rows/row-store.ts';
import type { RowTools } from '../rows/tools.ts';
import { type BagKinds, BagKindsCache } from './bag-kinds.ts';
import { FusedKernels } from './fused-kernels.ts';
import type { FusedTable } from './fused-params.ts';
import { TableKernels } from './table-kernels.ts';

/** What is the same in every batch's FusedTable. */
export type FusedTableConstants = Pick<
  FusedTable,
  'rows' | 'rowCount' | 'rowWeights' | 'paddingIndex' | 'column'
>;

/** What tables under any of their plans share. */
class Shared implements Disposable {
  /** The column of the pooled output where each table starts. */
  readonly columns: readonly number[];
  readonly kinds: BagKindsCache;
  readonly widestRowBytes: number;
  readonly fusedConstants: readonly FusedTableConstants[];
  readonly access = new RowAccess();
  readonly reader = new RowReader([this.access]);
  readonly fusedKernels: FusedKernels;
  readonly tableKernels: TableKernels;
  readonly multiprocessors: number;
  readonly device: DeviceDescription;
  readonly inFlight: InFlight;

  constructor(
    { kernels, device, inFlight }: RowTools,
    tables: readonly EmbeddingTable[],
    readonly store: RowStore,
    readonly hotRows: HotRows,
  ) {
    this.device = device.description;
    this.inFlight = inFlight;
    this.fusedKernels = new FusedKernels(kernels);
    this.tableKernels = new TableKernels(kernels);
    this.multiprocessors = device.properties.multiprocessors;
    this.kinds = new BagKindsCache(tables);
    this.widestRowBytes = tables.reduce((widest, table) => Math.max(widest, rowBytes(table)), 0);
    let next = 0;
    this.columns = tables.map(({ dim }) => {
      next += dim;
      return next - dim;
    });
    this.fusedConstants = tables.map((table, t) => ({
      rows: Number(store.address(t)),
      rowCount: table.rows,
      rowWeights: Number(store.rowWeights(t)),
      paddingIndex: table.paddingIdx ?? -1,
      column: this.columns[t] as number,
    }));
  }

  [Symbol.dispose](): void {
    this.store[Symbol.dispose]();
    this.hotRows[Symbol.dispose]();
  }
}

/** Tables placed by the CUDA backend. */
export class CudaTables implements PlacedTables {
  readonly #shared: Shared;
  readonly #owner: boolean;

  constructor(
    readonly tables: readonly EmbeddingTable[],
    readonly plan: CudaPlan,
    readonly placement: Placement,
    readonly allocatedBytes: number,
    shared: Shared,
    owner = true,
  ) {
    this.#shared = shared;
    this.#owner = owner;
  }

  get device(): DeviceDescription {
    return this.#shared.device;
  }

  get notes(): readonly string[] {
    return [];
  }

  get hotRows(): HotRows {
    return this.#shared.hotRows;
  }

  get widestRowBytes(): number {
    return this.#shared.widestRowBytes;
  }

  /** The kernels that pool these tables' bags in one launch. */
  get fusedKernels(): FusedKernels {
    return this.#shared.fusedKernels;
  }

  /** The kernels that pool the bags of one of these tables each. */
  get tableKernels(): TableKernels {
    return this.#shared.tableKernels;
  }

  /** Of the GPU that the tables are on. */
  get multiprocessors(): number {
    return this.#shared.multiprocessors;
  }

  /** The column of the pooled output where each table starts. */
  get columns(): readonly number[] {
    return this.#shared.columns;
  }

  /** What kernels must be compiled for to pool these bags. */
  kindsOf(bags: readonly Bags[]): BagKinds {
    return this.#shared.kinds.of(bags);
  }

  /** Byte `offset` of table t's rows. @throws DeviceError DISPOSED. */
  rows(t: number, offset = 0): DevicePtr {
    return this.#shared.store.address(t, offset);
  }

  /** Where table t's learned weights start; 0: it has none. */
  rowWeights(t: number): bigint {
    return this.#shared.store.rowWeights(t);
  }

  /** What the fused kernel is told of each table, whatever the batch. @throws DeviceError DISPOSED. */
  get fusedConstants(): readonly FusedTableConstants[] {
    if (this.tables.length > 0) this.rows(0);
    return this.#shared.fusedConstants;
  }

  /** What keeps updates and runs apart. */
  get access(): RowAccess {
    return this.#shared.access;
  }

  async updateRows(t: number, rows: IndexArray, values: RowValues): Promise<void> {
    const { store, access, inFlight } = this.#shared;
    const update = checkRowUpdate(at(this.tables, t), rows, values);
    using _call = inFlight.enter();
    await access.update(() => store.stage(t, update));
  }

  async readRows(t: number, rows: IndexArray): Promise<RowValues> {
    const { store, reader, inFlight } = this.#shared;
    const table = at(this.tables, t);
    const numbers = checkRowNumbers(table, rows);
    using _call = inFlight.enter();
    const turn = reader.enter();
    using _reading = turn instanceof Promise ? await turn : turn;
    return viewRows(table, await store.read(t, numbers));
  }

  withPlan(plan: Plan): CudaTables {
    if (plan.device !== 'cuda' || placementKey(plan) !== placementKey(this.plan)) {
      throw new PlanError(
        'PLAN_ILLEGAL',
        `tables placed for "${planLabel(this.plan)}" cannot serve "${planLabel(plan)}"`,
      );
    }
    return new CudaTables(this.tables, planFor('cuda', plan), this.placement, 0, this.#shared, false);
  }

  [Symbol.dispose](): void {
    if (this.#owner) this.#shared[Symbol.dispose]();
  }
}

/** Places tables. @throws AbortError; DeviceError OUT_OF_MEMORY, before any work; UsageError, FormatError for a file that cannot be read. */
export async function placeTables(
  tools: RowTools,
  tables: readonly EmbeddingTable[],
  plan: CudaPlan,
  { placement = devicePlacement(tables), ...watched }: PlaceOptions = {},
): Promise<CudaTables> {
  const store = await ResidentRows.place(tools, tables, watched);
  return new CudaTables(
    tables,
    plan,
    placement,
    store.bytes,
    new Shared(tools, tables, store, new HotRows(tools, tables)),
  );
}
