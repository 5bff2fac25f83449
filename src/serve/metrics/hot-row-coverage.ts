/**
 * How concentrated lookups are: the share of them that goes to hot rows, estimated from a sample in bounded memory and time.
 *
 * Of each batch, some lookups of one table are looked at, another table's of the next. The hottest K rows, 1 % of the table's, are
 * those that were met most in the window of sampled lookups before; lookups
 * are counted against it that were not yet seen when it was made, since the hottest rows of a sample always seem to hold more of the same
 * sample than they do. Of rows that were met equally often, where not all are among the K, each counts for its part. A window
 * meets no more rows than it has lookups: of tables with more hot rows than that, the share is a lower bound.
 */
import { at } from '../../at.ts';
import type { Bags } from '../../embedding/bag.ts';
import type { CoverageFigures } from './recorders.ts';
import { RowCounts } from './row-counts.ts';

/** A table whose lookups are watched. */
export interface WatchedTable {
  readonly name: string;
  readonly rows: number;
}

export interface CoverageOptions {
  /** Lookups that are looked at in a batch. Default 64: some 6 µs. */
  readonly lookupsPerBatch?: number;
  /** A number in [0, 1), where looking begins. Default Math.random. */
  readonly random?: () => number;
}

const HOT_SHARE = 0.01;
/** Bytes of counts for all tables. */
const MEMORY_BYTES = 16 * 2 ** 20;
/** Two windows. */
const BYTES_PER_LOOKUP = 2 * 24;
const MOST_WINDOW = 2 ** 14;
const LEAST_WINDOW = 2 ** 9;
/** Tables that are watched at most; of more, those with the most rows. */
const MOST_TABLES = 512;
/** With more tables, only their sum is shown. */
export const TABLES_SHOWN = 100;
/** What older lookups weigh after each window. */
const FADING = 0.5;

export class HotRowCoverage {
  readonly #tables: readonly TableCoverage[];
  readonly #perBatch: number;
  readonly #random: () => number;
  readonly #isShown: boolean;
  #next = 0;

  constructor(
    tables: readonly WatchedTable[],
    { lookupsPerBatch = 64, random = Math.random }: CoverageOptions = {},
  ) {
    this.#perBatch = lookupsPerBatch;
    this.#random = random;
    this.#isShown = tables.length <= TABLES_SHOWN;
    const watched = tables
      .map((table, index) => ({ table, index }))
      .sort((a, b) => b.table.rows - a.table.rows)
      .slice(0, MOST_TABLES);
    const room = MEMORY_BYTES / BYTES_PER_LOOKUP / Math.max(1, watched.length);
    const window = Math.max(LEAST_WINDOW, Math.min(MOST_WINDOW, 2 ** Math.floor(Math.log2(room))));
    this.#tables = watched
      .sort((a, b) => a.index - b.index)
      .map(({ table, index }) => new TableCoverage(table, index, window));
  }

  /** The names that `figures` gives, for `EngineMetrics`. */
  get shownTables(): readonly string[] {
    return this.#isShown ? this.#tables.map(({ name }) => name) : [];
  }

  /** Looks at some lookups of a batch, whose `bags` are in the order of the tables. Indices were checked; −1 is passed over. */
  observe({ bags }: { readonly bags: readonly Pick<Bags, 'indices'>[] }): void {
    if (this.#tables.length === 0) return;
    const table = at(this.#tables, this.#next);
    this.#next = (this.#next + 1) % this.#tables.length;
    const { indices } = at(bags, table.index);
    table.lookups = FADING * table.lookups + indices.length;
    const count = Math.min(indices.length, this.#perBatch);
    if (count === 0) return;
    // One lookup of each of `count` equal pieces, at the same place in each.
    const step = indices.length / count;
    const begin = this.#random() * step;
    for (let i = 0; i < count; i++) {
      const row = Number(indices[Math.floor(begin + i * step)]);
      if (row >= 0) table.look(row);
    }
  }

  /** Shares until now; recent lookups count more. */
  figures(): CoverageFigures {
    let [hits, lookups] = [0, 0];
    for (const table of this.#tables) {
      const { share } = table;
      if (Number.isNaN(share)) continue;
      hits += share * table.lookups;
      lookups += table.lookups;
    }
    return {
      share: lookups === 0 ? Number.NaN : hits / lookups,
      tables: this.#isShown ? this.#tables.map(({ name, share }) => ({ table: name, share })) : [],
    };
  }
}

class TableCoverage {
  readonly name: string;
  readonly index: number;
  /** Of the last batches that were looked at, for the table's part of the whole. */
  lookups = 0;
  readonly #hotRows: number;
  readonly #window: number;
  /** The window before, which says what is hot, and the one that is being filled. */
  #before: RowCounts | undefined;
  #counting: RowCounts;
  #inWindow = 0;
  /** Rows that were met so often are hot; those met once less are so by a part. */
  #leastCount = 1;
  #partBelow = 0;
  /** Lookups that were judged, and how many of them went to hot rows; older ones weigh less. */
  #judged = 0;
  #hits = 0;

  constructor({ name, rows }: WatchedTable, index: number, window: number) {
    this.name = name;
    this.index = index;
    this.#hotRows = Math.max(1, Math.floor(rows * HOT_SHARE));
    this.#window = window;
    this.#counting = new RowCounts(window);
  }

  /** NaN before the first lookup was judged. */
  get share(): number {
    return this.#judged === 0 ? Number.NaN : this.#hits / this.#judged;
  }

  look(row: number): void {
    if (this.#before !== undefined) {
      const count = this.#before.countOf(row);
      if (count >= this.#leastCount) this.#judge(1);
      else this.#judge(count === this.#leastCount - 1 ? this.#partBelow : 0);
    }
    this.#counting.add(row);
    this.#inWindow++;
    if (this.#inWindow === this.#window) this.#turn();
  }

  #judge(hit: number): void {
    this.#judged++;
    this.#hits += hit;
  }

  /** The window is full: it says what is hot from now on. */
  #turn(): void {
    this.#inWindow = 0;
    this.#judged *= FADING;
    this.#hits *= FADING;
    const full = this.#counting;
    let [least, hot] = [full.highest + 1, 0];
    while (least > 1 && hot + full.rowsWith(least - 1) <= this.#hotRows) hot += full.rowsWith(--least);
    this.#leastCount = least;
    // Rows that were never met share nothing: which of them would be among the K is not known.
    this.#partBelow = least === 1 ? 0 : (this.#hotRows - hot) / full.rowsWith(least - 1);
    this.#counting = this.#before ?? new RowCounts(this.#window);
    this.#counting.clear();
    this.#before = full;
  }
}
