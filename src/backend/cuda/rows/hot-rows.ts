/**
 * Which rows of a collection's tables are hot. Lookups are counted on the device; the hottest rows that fit a budget are
 * chosen there too, so that no counter crosses the bus and the event loop stays free.
 */
import { at } from '../../../at.ts';
import { lengthOf } from '../../../checks/array.ts';
import { DeviceMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { Bags, EmbeddingTable } from '../../../embedding/bag.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { addressOf } from '../../../ffi/host-memory.ts';
import { type PinningParameters, pinnedRows } from '../../../plan/techniques/pinning.ts';
import type { Holdable } from '../../hold-all.ts';
import { launch, launchStriding } from '../kernels/launcher.ts';
import { CountRowsParams, HOT_ROWS_BINS, HotRowsParams, ROW_CHOICE_WORDS } from './hot-rows-params.ts';
import { deviceRowBytes } from './row-layout.ts';
import type { RowTools } from './tools.ts';

/** Ranges of rows whose lookups are added up, to find where a window is best laid. */
const RANGES = 4096;
const WORD_BYTES = 4;
const ROW_NUMBER_BYTES = 8;

/** Live lookups are counted in the first of so many batches … */
const LIVE_PERIOD = 256;
/** … as many as this. */
const LIVE_COUNTED = 4;

/** A batch of bags whose lookups are counted. */
export interface CountedBags extends Holdable {
  stage(): Promise<void>;
  /** Returns the stream that the upload went into; undefined: it is over. */
  upload(stream: CudaStream): CudaStream | undefined;
  /** The bags of table t, and where their indices lie. */
  of(t: number): { readonly bags: Bags; readonly indices: DevicePtr };
}

/** Rows of one table to keep in L2. */
export interface ChosenRows {
  /** int64 row numbers, -1 where there are fewer hot rows than fit. */
  readonly rowNumbers: DeviceMemory;
  readonly count: number;
}

/** A range of one table's rows, in bytes from its start. */
export interface ChosenWindow {
  readonly offset: number;
  readonly bytes: number;
}

/** What is kept of the tables within one budget. */
interface Choice {
  readonly rows: readonly ChosenRows[];
  readonly windows: readonly ChosenWindow[];
  /** How much had been counted. */
  readonly version: number;
}

export class HotRows implements Disposable {
  readonly #tools: RowTools;
  readonly #tables: readonly EmbeddingTable[];
  /** uint32 [rows] a table; made when first needed. */
  #counts: readonly DeviceMemory[] | undefined;
  /** Bins and a choice, used by one table after the other. */
  #scratch: DeviceMemory | undefined;
  /** Told of lookups by `observe`: then live ones are not counted. */
  #told = false;
  #liveBatches = 0;
  /** Batches counted so far. */
  #version = 0;
  readonly #choices = new Map<string, Promise<Choice>>();
  readonly #rowNumbers: DeviceMemory[] = [];

  constructor(tools: RowTools, tables: readonly EmbeddingTable[]) {
    this.#tools = tools;
    this.#tables = tables;
  }

  /** Counts batches that stand for the traffic to come, instead of what was counted before. */
  async observe(batches: readonly CountedBags[]): Promise<void> {
    this.#told = true;
    this.#forgetCounts();
    for (const bags of batches) await this.#count(bags);
  }

  /** Counts a batch that is being served, if its turn has come and nothing was observed. */
  async countLive(bags: CountedBags): Promise<void> {
    if (this.#told) return;
    const turn = this.#liveBatches++ % LIVE_PERIOD;
    if (turn >= LIVE_COUNTED) return;
    if (turn === 0) this.#forgetCounts();
    await this.#count(bags);
  }

  /** What to keep of each table within the budget, as far as was counted. */
  async choose(pinning: PinningParameters): Promise<Choice> {
    const key = `${pinning.by} ${pinning.bytes}`;
    const last = await this.#choices.get(key);
    if (last?.version === this.#version) return last;
    const choosing = this.#choose(pinning, last);
    this.#choices.set(key, choosing);
    choosing.catch(() => this.#choices.delete(key));
    return choosing;
  }

  [Symbol.dispose](): void {
    for (const memory of [...(this.#counts ?? []), this.#scratch, ...this.#rowNumbers])
      memory?.[Symbol.dispose]();
  }

  async #choose(pinning: PinningParameters, last: Choice | undefined): Promise<Choice> {
    const version = this.#version;
    if (pinning.by === 'window') return { version, rows: [], windows: await this.#chooseWindows(pinning) };
    // New numbers overwrite the old, in the order of the stream: nothing that runs is disturbed.
    const rows = last?.rows ?? this.#tables.map((table) => this.#makeRows(pinnedRows(pinning, table)));
    await this.#chooseRows(rows);
    return { version, rows, windows: [] };
  }

  #makeRows(count: number): ChosenRows {
    const rowNumbers = new DeviceMemory(this.#tools.device, count * ROW_NUMBER_BYTES);
    this.#rowNumbers.push(rowNumbers);
    return { rowNumbers, count };
  }

  /** The hottest rows of each table that fit. */
  async #chooseRows(chosen: readonly ChosenRows[]): Promise<void> {
    const { kernels, stream, device } = this.#tools;
    const bin = await kernels.utility('bin_counts');
    const choose = await kernels.utility('choose_count');
    const collect = await kernels.utility('collect_rows');
    const counts = this.#liveCounts();
    this.#scratch ??= new DeviceMemory(device, (HOT_ROWS_BINS + ROW_CHOICE_WORDS) * WORD_BYTES);
    const scratch = this.#scratch;
    for (const [t, { rows }] of this.#tables.entries()) {
      const { rowNumbers, count } = at(chosen, t);
      stream.fillBytes(rowNumbers.address(), 0xff, rowNumbers.bytes);
      stream.fillBytes(scratch.address(), 0, scratch.bytes);
      const words = HotRowsParams.encode({
        counts: at(counts, t).address(),
        rowCount: rows,
        capacity: count,
        bins: scratch.address(),
        choice: scratch.address(HOT_ROWS_BINS * WORD_BYTES),
        rowNumbers: rowNumbers.address(),
        ...NO_RANGES,
      });
      launchStriding(stream, bin, words, rows);
      launch(stream, choose, words, [1], [1]);
      launchStriding(stream, collect, words, rows);
    }
  }

  /** The range of each table's rows, of the budget's length, that most lookups go to. */
  async #chooseWindows({ bytes }: PinningParameters): Promise<readonly ChosenWindow[]> {
    const { kernels, stream, device } = this.#tools;
    const countRanges = await kernels.utility('count_ranges');
    const counts = this.#liveCounts();
    const windows: ChosenWindow[] = [];
    for (const [t, table] of this.#tables.entries()) {
      const rangeRows = Math.ceil(table.rows / RANGES);
      const sums = new Uint32Array(Math.ceil(table.rows / rangeRows));
      using memory = new DeviceMemory(device, sums.byteLength);
      stream.fillBytes(memory.address(), 0, memory.bytes);
      const words = HotRowsParams.encode({
        counts: at(counts, t).address(),
        rowCount: table.rows,
        ...NO_CHOICE,
        rangeRows,
        ranges: memory.address(),
      });
      launchStriding(stream, countRanges, words, table.rows);
      stream.copyToHost(addressOf(sums), memory.address(), sums.byteLength);
      await stream.finished();
      windows.push(hottestWindow(sums, rangeRows, table, bytes));
    }
    return windows;
  }

  async #count(bags: CountedBags): Promise<void> {
    const { kernels, stream } = this.#tools;
    const countRows = await kernels.utility('count_rows');
    using _held = bags.hold();
    await bags.stage();
    const uploading = bags.upload(stream);
    if (uploading !== undefined && uploading !== stream) await uploading.finished();
    const counts = this.#liveCounts();
    for (const [t, table] of this.#tables.entries()) {
      const { indices, bags: own } = bags.of(t);
      const words = CountRowsParams.encode({
        indices,
        indexBytes: own.indices instanceof BigInt64Array ? 8 : 4,
        lookups: lengthOf(own.indices),
        rowCount: table.rows,
        paddingIndex: table.paddingIdx ?? -1,
        counts: at(counts, t).address(),
      });
      launchStriding(stream, countRows, words, lengthOf(own.indices));
    }
    this.#version += 1;
    await stream.finished();
  }

  #liveCounts(): readonly DeviceMemory[] {
    if (this.#counts === undefined) {
      const { device } = this.#tools;
      this.#counts = this.#tables.map(({ rows }) => new DeviceMemory(device, rows * WORD_BYTES));
      this.#forgetCounts();
    }
    return this.#counts;
  }

  #forgetCounts(): void {
    for (const memory of this.#counts ?? []) this.#tools.stream.fillBytes(memory.address(), 0, memory.bytes);
  }
}

const NO_RANGES = { rangeRows: 1, ranges: 0n };
const NO_CHOICE = { capacity: 0, bins: 0n, choice: 0n, rowNumbers: 0n };

/** Where a window over a table's rows is best laid; `sums`: lookups of every `rangeRows` rows. */
export function hottestWindow(
  sums: Uint32Array,
  rangeRows: number,
  table: Pick<EmbeddingTable, 'rows' | 'dim' | 'rowFormat'>,
  bytes: number,
): ChosenWindow {
  const width = deviceRowBytes(table);
  const rows = Math.min(table.rows, Math.floor(bytes / width));
  const first = hottestRange(sums, Math.max(1, Math.floor(rows / rangeRows))) * rangeRows;
  return { offset: Math.min(first, table.rows - rows) * width, bytes: rows * width };
}

/** Where `length` neighbouring ranges have the greatest sum. */
function hottestRange(sums: Uint32Array, length: number): number {
  let sum = 0;
  let best = 0;
  let greatest = -1;
  sums.forEach((own, i) => {
    sum += own - (i >= length ? (sums[i - length] as number) : 0);
    if (sum > greatest) {
      greatest = sum;
      best = Math.max(0, i - length + 1);
    }
  });
  return best;
}
