/**
 * Embedding tables in host memory. A table in a file is mapped in place, at any size and without a copy; a plan with
 * huge pages copies it into anonymous memory instead, because file mappings have small pages. A table that is put together
 * from pieces, or lies in an array of the caller's, is always copied. Features on one table share its memory.
 */
import { at } from '../../at.ts';
import { throwIfAborted } from '../../checks/abort.ts';
import { bytesOf } from '../../checks/array.ts';
import type { DeviceDescription } from '../../device.ts';
import { type EmbeddingTable, type IndexArray, rowBytes } from '../../embedding/bag.ts';
import { isQuantized, rowLayout } from '../../embedding/row-format.ts';
import { checkRowNumbers, checkRowUpdate, type RowValues, viewRows } from '../../embedding/row-values.ts';
import { distinctTables } from '../../embedding/shared-tables.ts';
import { DeviceError, FormatError, PlanError } from '../../errors.ts';
import { fillQuantized, fillUniform, POOLING, TABLE_WORDS } from '../../ffi/cpu-operators.ts';
import { type HostPtr, MappedFile, NativeMemory, NULL_PTR } from '../../ffi/host-memory.ts';
import type { ThreadPool } from '../../ffi/thread-pool.ts';
import { devicePlacement, type Placement } from '../../plan/placement.ts';
import { type CpuPlan, placementKey, planLabel } from '../../plan/plan.ts';
import { isHost, isInFile, isStored, type Tensor } from '../../tensor.ts';
import type { PlacedTables, PlaceOptions } from '../backend.ts';
import { RowAccess, RowReader } from '../row-access.ts';
import { type PlacedRows, readStoredRows, stageUpdate } from './rows.ts';

/** The rows of placed tables: `descriptors` are the library's `hr_table`s over `allocations` and mapped `files`. */
class TableMemory implements Disposable {
  readonly #descriptors: BigInt64Array;
  readonly #allocations: readonly NativeMemory[];
  readonly files: readonly MappedFile[];
  /** By table. */
  readonly rows: readonly PlacedRows[];
  readonly access = new RowAccess();
  readonly reader = new RowReader([this.access]);
  #live = true;

  constructor(
    descriptors: BigInt64Array,
    rows: readonly PlacedRows[],
    allocations: readonly NativeMemory[],
    files: readonly MappedFile[],
  ) {
    this.#descriptors = descriptors;
    this.rows = rows;
    this.#allocations = allocations;
    this.files = files;
  }

  /** @throws DeviceError DISPOSED. */
  get descriptors(): BigInt64Array {
    this.checkLive();
    return this.#descriptors;
  }

  /** @throws DeviceError DISPOSED. */
  checkLive(): void {
    if (!this.#live) throw new DeviceError('DISPOSED', 'embedding tables were used after they were disposed');
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    for (const resource of [...this.#allocations, ...this.files]) resource[Symbol.dispose]();
  }
}

/** Tables placed by the CPU backend. */
export class CpuTables implements PlacedTables {
  readonly #memory: TableMemory;
  readonly #owner: boolean;

  constructor(
    readonly device: DeviceDescription,
    readonly tables: readonly EmbeddingTable[],
    readonly plan: CpuPlan,
    readonly placement: Placement,
    readonly allocatedBytes: number,
    readonly notes: readonly string[],
    memory: TableMemory,
    owner = true,
  ) {
    this.#memory = memory;
    this.#owner = owner;
  }

  /** The library's `hr_table`s. @throws DeviceError DISPOSED. */
  get descriptors(): BigInt64Array {
    return this.#memory.descriptors;
  }

  /** The files that rows lie in, as they are mapped. */
  get files(): readonly MappedFile[] {
    return this.#memory.files;
  }

  /** What keeps updates and runs apart. */
  get access(): RowAccess {
    return this.#memory.access;
  }

  async updateRows(t: number, rows: IndexArray, values: RowValues): Promise<void> {
    this.#memory.checkLive();
    const table = at(this.tables, t);
    const update = checkRowUpdate(table, rows, values);
    await this.access.update(() => stageUpdate(table, at(this.#memory.rows, t), update));
  }

  async readRows(t: number, rows: IndexArray): Promise<RowValues> {
    this.#memory.checkLive();
    const table = at(this.tables, t);
    const numbers = checkRowNumbers(table, rows);
    const turn = this.#memory.reader.enter();
    using _reading = turn instanceof Promise ? await turn : turn;
    return viewRows(table, await readStoredRows(table, at(this.#memory.rows, t), numbers));
  }

  withPlan(plan: CpuPlan): CpuTables {
    if (placementKey(plan) !== placementKey(this.plan)) {
      throw new PlanError(
        'PLAN_ILLEGAL',
        `tables placed for "${planLabel(this.plan)}" cannot serve "${planLabel(plan)}"`,
      );
    }
    return new CpuTables(this.device, this.tables, plan, this.placement, 0, this.notes, this.#memory, false);
  }

  [Symbol.dispose](): void {
    if (this.#owner) this.#memory[Symbol.dispose]();
  }
}

/** The library's `hr_table`s over `rows`, with row weights there. */
function describe(
  tables: readonly EmbeddingTable[],
  rows: readonly PlacedRows[],
  rowWeights: readonly HostPtr[],
): BigInt64Array {
  const descriptors = new BigInt64Array(tables.length * TABLE_WORDS);
  tables.forEach((table, t) => {
    const { start, file } = at(rows, t);
    descriptors.set(
      [
        start,
        BigInt(table.rows),
        BigInt(table.dim),
        BigInt(rowLayout(table.rowFormat).number),
        BigInt(rowBytes(table)),
        BigInt(POOLING[table.mode]),
        BigInt(table.paddingIdx ?? -1),
        at(rowWeights, t),
        table.pruned === true ? 1n : 0n,
        file?.mapping ?? NULL_PTR,
      ],
      t * TABLE_WORDS,
    );
  });
  return descriptors;
}

/**
 * Places tables as `plan` says. Whatever was placed is given back when one table fails, or `signal` is aborted.
 * @throws AbortError; DeviceError OUT_OF_MEMORY; UsageError, FormatError for a file that cannot be read.
 */
export async function placeTables(
  pool: ThreadPool,
  device: DeviceDescription,
  tables: readonly EmbeddingTable[],
  plan: CpuPlan,
  { placement = devicePlacement(tables), onProgress, signal }: PlaceOptions = {},
): Promise<CpuTables> {
  const hugePages = plan.techniques.hugePages !== undefined;
  const allocations: NativeMemory[] = [];
  const files = new Map<string, MappedFile>();
  const resources = () => [...allocations, ...files.values()];

  const allocate = (bytes: number) => {
    const memory = new NativeMemory(bytes, hugePages);
    allocations.push(memory);
    return memory;
  };
  const map = (file: string) => {
    const known = files.get(file) ?? new MappedFile(file);
    files.set(file, known);
    return known;
  };

  const place = async ({ name, rowFormat, weight, rows, dim }: EmbeddingTable): Promise<PlacedRows> => {
    const bytes = rows * rowBytes({ dim, rowFormat });
    if (isStored(weight) && !isInFile(weight)) {
      const memory = allocate(bytes);
      await memory.fill(bytes, weight.read);
      return { start: memory.address };
    }
    if (isStored(weight)) {
      if (hugePages) {
        const memory = allocate(bytes);
        await memory.readFile(weight.file, weight.byteOffset, bytes);
        return { start: memory.address };
      }
      const mapped = map(weight.file);
      if (weight.byteOffset + bytes > mapped.bytes) {
        throw new FormatError(
          'FILE_TRUNCATED',
          `${weight.file} ends at byte ${mapped.bytes}, inside table ${name}`,
          {
            file: weight.file,
            tensor: name,
          },
        );
      }
      return { start: (mapped.address + BigInt(weight.byteOffset)) as HostPtr, file: mapped };
    }
    if (isHost(weight)) {
      const memory = allocate(bytes);
      memory.write(weight.data);
      return { start: memory.address };
    }
    const memory = allocate(bytes);
    const { number } = rowLayout(rowFormat);
    if (isQuantized(rowFormat)) {
      const shape = { rows, dim, rowBytes: rowBytes({ dim, rowFormat }) };
      await fillQuantized(pool, memory, number, shape, weight.seed);
    } else await fillUniform(pool, memory, number, rows * dim, weight.seed);
    return { start: memory.address };
  };

  try {
    const placed = new Map<Tensor, PlacedRows>();
    const distinct = distinctTables(tables);
    for (const [d, table] of distinct.entries()) {
      onProgress?.('placing tables', d + 1, distinct.length);
      throwIfAborted(signal, 'placing tables');
      placed.set(table.weight, await place(table));
    }
    throwIfAborted(signal, 'placing tables');
    const rows = tables.map(({ weight }) => placed.get(weight) as PlacedRows);
    const learned = new Map<Float32Array | undefined, HostPtr>([[undefined, NULL_PTR]]);
    for (const { rowWeights } of tables) {
      if (rowWeights === undefined || learned.has(rowWeights)) continue;
      const memory = allocate(bytesOf(rowWeights));
      memory.write(rowWeights);
      learned.set(rowWeights, memory.address);
    }
    const rowWeights = tables.map((table) => learned.get(table.rowWeights) as HostPtr);
    const allocatedBytes = allocations.reduce((sum, memory) => sum + memory.bytes, 0);
    const notes = hugePages ? [hugePagesNote(allocations)] : [];
    const memory = new TableMemory(describe(tables, rows, rowWeights), rows, allocations, [
      ...files.values(),
    ]);
    return new CpuTables(device, tables, plan, placement, allocatedBytes, notes, memory);
  } catch (error) {
    for (const resource of resources()) resource[Symbol.dispose]();
    throw error;
  }
}

/** How much the kernel really backs with huge pages: madvise is a wish. */
function hugePagesNote(allocations: readonly NativeMemory[]): string {
  const total = allocations.reduce((sum, memory) => sum + memory.bytes, 0);
  const huge = allocations.map((memory) => memory.hugeBytes());
  if (huge.includes(undefined)) return 'huge pages asked for; the system does not say how many it gave';
  const given = huge.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0);
  return `huge pages back ${((100 * Math.min(given, total)) / total).toFixed(0)} % of the tables`;
}
